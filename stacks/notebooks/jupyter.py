"""EMR's JupyterHub: how it is set up, which password it gets, where its notebooks stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import aws_emr

from stacks.emr.spark_settings import PYTHON, s3a

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PORT: Final = 9443
"""Where it listens, on the primary node."""

NOTEBOOKS: Final = "jupyter"
"""It keeps each user's notebooks below this prefix of the bucket that it is given."""

PASSWORD_FILE: Final = "/home/hadoop/jupyterhub-password"  # noqa: S105 -- where it is, not what

# EMR gives each JupyterHub the same user and password, and prints both in its documentation.
_NEW_PASSWORD: Final = (
    "set -euo pipefail; umask 077;"
    f" python3 -c 'import secrets; print(secrets.token_urlsafe(18))' > {PASSWORD_FILE};"
    f" echo jovyan:$(cat {PASSWORD_FILE}) | sudo docker exec -i jupyterhub chpasswd"
)


def password_step() -> aws_emr.CfnCluster.StepConfigProperty:
    """Return the step that replaces the well-known password by one that only the node knows."""
    return aws_emr.CfnCluster.StepConfigProperty(
        name="Give JupyterHub a password of its own",
        # Better no cluster than one with a password that everybody knows.
        action_on_failure="TERMINATE_CLUSTER",
        hadoop_jar_step=aws_emr.CfnCluster.HadoopJarStepConfigProperty(
            jar="command-runner.jar", args=["bash", "-c", _NEW_PASSWORD]
        ),
    )


def configurations(bucket: str, region: str) -> Sequence[aws_emr.CfnCluster.ConfigurationProperty]:
    """Return the settings of JupyterHub, of Livy, by which it reaches Spark, and of Spark.

    Parameters
    ----------
    bucket
        Where notebooks are kept.
    region
        The deployment's region.
    """
    return [
        _classification(
            "jupyter-s3-conf", {"s3.persistence.enabled": "true", "s3.persistence.bucket": bucket}
        ),
        _classification(
            "livy-conf",
            {
                # A forgotten notebook's Spark application would keep the cluster from being idle;
                # a long computation is not a forgotten one.
                "livy.server.session.timeout": "30m",
                "livy.server.session.timeout-check": "true",
                "livy.server.session.timeout-check.skip-busy": "true",
            },
        ),
        # The shuffle service of the nodes must ask for the secret that executors give.
        _classification("yarn-site", {"spark.authenticate": "true"}),
        _classification("core-site", s3a(region)),
        _classification("spark-defaults", _spark(region)),
        aws_emr.CfnCluster.ConfigurationProperty(
            classification="spark-env",
            configurations=[_classification("export", {"PYSPARK_PYTHON": PYTHON})],
        ),
    ]


def _spark(region: str) -> Mapping[str, str]:
    return {
        # The environment that the bootstrap action made, for drivers wherever they run.
        "spark.pyspark.python": PYTHON,
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": PYTHON,
        "spark.executorEnv.PYSPARK_PYTHON": PYTHON,
        # pyarrow's S3 client would ask for the bucket's region, and the job's take us-east-1: the
        # network has a way to neither.
        "spark.yarn.appMasterEnv.AWS_REGION": region,
        "spark.executorEnv.AWS_REGION": region,
        # Several notebooks share the nodes: each gives back what it does not use.
        "spark.dynamicAllocation.enabled": "true",
        "spark.shuffle.service.enabled": "true",
        # Between nodes and on their disks, encrypted as the pipeline's.
        "spark.authenticate": "true",
        "spark.network.crypto.enabled": "true",
        "spark.io.encryption.enabled": "true",
    }


def _classification(
    name: str, properties: Mapping[str, str]
) -> aws_emr.CfnCluster.ConfigurationProperty:
    return aws_emr.CfnCluster.ConfigurationProperty(
        classification=name, configuration_properties=dict(properties)
    )
