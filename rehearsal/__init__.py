"""The deployed pipeline, rehearsed from end to end on one machine, without an AWS account.

``python -m rehearsal`` synthesizes the stack, deploys the template into a local AWS, uploads a
batch, writes its marker and follows the state machine until the results are fetched.

    story     __main__.py      the command
              story.py         what an execution does, told while it does it
              local_cloud.py   all of a rehearsal, started and stopped together
              pipeline.py      what an engineer does with a deployed pipeline
    aws/      endpoint.py        moto behind a gate: records, judges and, for tests, disturbs
                                 requests
              calls.py           what a request needs, in IAM's terms
              policies.py        whether the deployed policies give it
              faults.py          what a request may meet instead of an answer
              gate.py            a gate before any S3 server: delays, refusals, broken connections
              deployment.py      the template and its assets into the local AWS, and out of it
              cloudformation.py  moto's stacks, with updates and deletions as CloudFormation's
              completion.py      what those lack, from the same template
              step_functions.py  Step Functions' EMR integration, for moto's interpreter
              events.py          EventBridge rules that start executions
              alarms.py          the template's alarms, evaluated
    emr/      api.py             EMR's API
              clusters.py        what it knows of clusters and steps
              cluster_life.py    bootstrap actions, steps, logs, the end
              nodes.py           a folder for each node, and its bootstrap
              submit.py          a step's spark-submit
              yarn.py            a ResourceManager and two NodeManagers
              java.py            a Java 17, and the jars that pyspark leaves out

What is not as on AWS is said at the top of the module concerned; what no rehearsal can show is in
the README.
"""
