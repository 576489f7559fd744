"""What moto's CloudFormation drops or does not know, made, changed and removed from the template.

- State machines, which it would make in a backend that executes nothing, are made again. An
  execution goes on with the definition that it was started with.
- Bucket policies are handed to the endpoint, which judges requests by them.
- A bucket's versioning, encryption and notifications are set; EventBridge's default bus is their
  target.
- Glue's database and tables, mail subscriptions, parameters, the trust of roles and the days that
  logs are kept follow the template, and so do alarms (see `rehearsal.aws.alarms`).

Not made at all: flow logs, log groups' contents, dashboards, budgets, X-Ray traces, rules of
security groups, policies of topics and queues, lifecycles of buckets.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moto.cloudformation.parsing import clean_json
from moto.core.config import default_user_config

from rehearsal.aws import alarms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rehearsal.aws.endpoint import Endpoint

_COMPLETED = (
    "AWS::CloudWatch::Alarm",
    "AWS::Glue::Database",
    "AWS::Glue::Table",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SSM::Parameter",
    "AWS::StepFunctions::StateMachine",
)

Resolved = dict[str, dict[str, Any]]


def resolve(resources: Mapping[str, Any], references: Any) -> Resolved:
    """Return what is completed here of a template's resources, with references filled in.

    Each has its type, its properties and, where moto has made it, its physical id.
    """
    resolved: Resolved = {}
    for logical, resource in resources.items():
        if resource["Type"] not in _COMPLETED:
            continue
        made = references.get(logical)
        resolved[logical] = {
            "Type": resource["Type"],
            "Properties": clean_json(resource.get("Properties", {}), references),
            "PhysicalId": made.physical_resource_id if made else None,
            # What moto does not make is named after the stack, as CloudFormation names it.
            "Name": getattr(made, "name", None) or f"{references['AWS::StackName']}-{logical}",
        }
    return resolved


def complete(endpoint: Endpoint, before: Resolved, after: Resolved, pace: int) -> None:
    """Make what is new of `after`, change what differs, and remove what only `before` has."""
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    for logical, resource in after.items():
        if resource != before.get(logical):
            _set(endpoint, resource, logical in before, pace)
    for logical, resource in before.items():
        if logical not in after:
            _remove(endpoint, resource)


def _set(endpoint: Endpoint, resource: Mapping[str, Any], there: bool, pace: int) -> None:
    kind, properties, name = resource["Type"], resource["Properties"], resource["Name"]
    glue = endpoint.client("glue")
    if kind == "AWS::StepFunctions::StateMachine":
        _set_state_machine(endpoint, resource, there, pace)
    elif kind == "AWS::CloudWatch::Alarm":
        alarms.put(endpoint, name, properties)
    elif kind == "AWS::Glue::Database":
        if not there:
            glue.create_database(DatabaseInput=properties["DatabaseInput"])
    elif kind == "AWS::Glue::Table":
        put = glue.update_table if there else glue.create_table
        put(DatabaseName=properties["DatabaseName"], TableInput=properties["TableInput"])
    elif kind == "AWS::S3::BucketPolicy":
        endpoint.bucket_policies[properties["Bucket"]] = properties["PolicyDocument"]
    elif kind == "AWS::S3::Bucket":
        _set_bucket(endpoint, name, properties)
    elif kind == "AWS::SNS::Subscription":
        endpoint.client("sns").subscribe(
            TopicArn=properties["TopicArn"],
            Protocol=properties["Protocol"],
            Endpoint=properties["Endpoint"],
        )
    elif kind == "AWS::SSM::Parameter" and there:
        endpoint.client("ssm").put_parameter(
            Name=properties["Name"], Value=properties["Value"], Overwrite=True
        )
    elif kind == "AWS::IAM::Role" and there:
        endpoint.client("iam").update_assume_role_policy(
            RoleName=name, PolicyDocument=json.dumps(properties["AssumeRolePolicyDocument"])
        )
    elif kind == "AWS::IAM::ManagedPolicy" and there:
        _set_policy(endpoint, resource["PhysicalId"], properties["PolicyDocument"])
    elif kind == "AWS::Logs::LogGroup" and "RetentionInDays" in properties:
        endpoint.client("logs").put_retention_policy(
            logGroupName=name, retentionInDays=properties["RetentionInDays"]
        )


def _set_policy(endpoint: Endpoint, arn: str, document: Any) -> None:
    """Give a managed policy a new version in place of the one that it has."""
    iam = endpoint.client("iam")
    (former,) = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=json.dumps(document), SetAsDefault=True)
    iam.delete_policy_version(PolicyArn=arn, VersionId=former["VersionId"])


def _remove(endpoint: Endpoint, resource: Mapping[str, Any]) -> None:
    kind, properties = resource["Type"], resource["Properties"]
    if kind == "AWS::StepFunctions::StateMachine":
        _remove_state_machine(endpoint, resource["PhysicalId"])
    elif kind == "AWS::CloudWatch::Alarm":
        alarms.delete(endpoint, resource["Name"])
    elif kind == "AWS::Glue::Database":
        endpoint.client("glue").delete_database(Name=properties["DatabaseInput"]["Name"])
    elif kind == "AWS::S3::BucketPolicy":
        endpoint.bucket_policies.pop(properties["Bucket"], None)
    elif kind == "AWS::SNS::Subscription":
        _unsubscribe(endpoint, properties)


def _set_state_machine(
    endpoint: Endpoint, resource: Mapping[str, Any], there: bool, pace: int
) -> None:
    """Make a state machine again under the name that other resources already refer to."""
    properties, client = resource["Properties"], endpoint.client("stepfunctions")
    definition = properties.get("DefinitionString") or json.dumps(properties["Definition"])
    for name, value in properties.get("DefinitionSubstitutions", {}).items():
        definition = definition.replace(f"${{{name}}}", value)
    definition = json.dumps(_hastened(json.loads(definition), pace))
    if there:
        client.update_state_machine(
            stateMachineArn=resource["PhysicalId"],
            definition=definition,
            roleArn=properties["RoleArn"],
        )
    else:
        client.create_state_machine(
            name=resource["Name"],
            definition=definition,
            roleArn=properties["RoleArn"],
            type=properties.get("StateMachineType", "STANDARD"),
        )


def _hastened(definition: Any, pace: int) -> Any:
    if isinstance(definition, list):
        return [_hastened(entry, pace) for entry in definition]
    if not isinstance(definition, dict):
        return definition
    waits = ("Seconds", "IntervalSeconds", "MaxDelaySeconds")
    return {
        name: max(1, value // pace)
        if name in waits and isinstance(value, int)
        else _hastened(value, pace)
        for name, value in definition.items()
    }


def _remove_state_machine(endpoint: Endpoint, arn: str) -> None:
    """Remove a state machine; its executions end at their next transition, here at once."""
    client = endpoint.client("stepfunctions")
    running = client.list_executions(stateMachineArn=arn, statusFilter="RUNNING")["executions"]
    for execution in running:
        client.stop_execution(executionArn=execution["executionArn"])
    client.delete_state_machine(stateMachineArn=arn)


def _set_bucket(endpoint: Endpoint, name: str, properties: Mapping[str, Any]) -> None:
    s3 = endpoint.client("s3")
    if "VersioningConfiguration" in properties:
        s3.put_bucket_versioning(
            Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"]
        )
    if "BucketEncryption" in properties:
        (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        wanted = {"ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]}
        s3.put_bucket_encryption(
            Bucket=name,
            ServerSideEncryptionConfiguration={
                "Rules": [wanted | {"BucketKeyEnabled": rule.get("BucketKeyEnabled", False)}]
            },
        )
    if "EventBridgeConfiguration" in properties.get("NotificationConfiguration", {}):
        s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )


def _unsubscribe(endpoint: Endpoint, properties: Mapping[str, Any]) -> None:
    sns = endpoint.client("sns")
    for found in sns.list_subscriptions()["Subscriptions"]:
        if (found["TopicArn"], found["Endpoint"]) == (
            properties["TopicArn"],
            properties["Endpoint"],
        ):
            sns.unsubscribe(SubscriptionArn=found["SubscriptionArn"])
