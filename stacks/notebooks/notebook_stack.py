"""The notebook cluster: JupyterHub and Spark beside a pipeline's data, off by default.

It costs as long as it lives, and ends itself after an idle hour; its notebooks stay in S3. There
is no key pair and no open port: Session Manager forwards a port of the engineer's machine. The
cluster's settings follow EMR's documentation; it has not been started in an AWS account yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aws_cdk import (
    Acknowledgment,
    CfnOutput,
    CfnTag,
    Stack,
    Tags,
    Validations,
    aws_emr,
    aws_iam,
    aws_ssm,
)

from stacks.acknowledgements import Finding
from stacks.config import ConfigError, cluster_name_prefix, cluster_tags
from stacks.emr.cluster import security_configuration
from stacks.identity import EMR_LOGS
from stacks.notebooks import jupyter
from stacks.pipeline_stack import environment, key_parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Construct

    from stacks.config import OrchardConfig
    from stacks.pipeline_stack import PipelineStack

_IDLE_SECONDS: Final = 3600


class InteractiveStack(Stack):
    """A cluster for notebooks that uses a pipeline's data, roles, network and wheelhouse.

    Parameters
    ----------
    config
        The pipeline's knobs; ``ssm`` must be on.
    pipeline
        The stack whose results the notebooks read; deployed before this one.
    **options
        Passed on to :class:`aws_cdk.Stack`; ``env`` is the pipeline's when not given.

    Attributes
    ----------
    cluster
        The cluster.
    notebooks
        What lets its nodes keep notebooks in the data bucket, for as long as this stack exists.

    Raises
    ------
    ConfigError
        When the cluster could not be reached, since Session Manager is off.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        pipeline: PipelineStack,
        **options: Any,
    ) -> None:
        if not config.ssm:
            raise ConfigError(
                "orchard.ssm is false; allowed is true together with orchard.interactive, since"
                " Session Manager is the only way to the notebook cluster."
            )
        options.setdefault("env", environment(config))
        options.setdefault(
            "description", f"Orchard: notebooks over {pipeline.stack_name}'s results"
        )
        super().__init__(scope, construct_id, **options)
        # Not the pipeline's name: its state machine and janitor must leave this cluster alone.
        tags = cluster_tags(self.stack_name, config)
        for key, value in tags.items():
            Tags.of(self).add(key, value)

        self.notebooks = aws_iam.Policy(
            self,
            "Notebooks",
            roles=[pipeline.identity.instance_role],
            statements=_keep_notebooks(pipeline),
        )
        security = aws_emr.CfnSecurityConfiguration(
            self, "Security", security_configuration=_security(self, pipeline)
        )
        self.cluster = aws_emr.CfnCluster(
            self,
            "Cluster",
            name=f"{cluster_name_prefix(self.stack_name)}notebooks",
            release_label=config.emr_release,
            applications=[
                aws_emr.CfnCluster.ApplicationProperty(name=name)
                for name in ("JupyterHub", "Livy", "Spark")
            ],
            service_role=pipeline.identity.service_role.role_name,
            job_flow_role=pipeline.identity.instance_profile.ref,
            security_configuration=security.ref,
            log_uri=f"s3://{pipeline.storage.logs.bucket_name}/{EMR_LOGS}",
            instances=_instances(config, pipeline),
            auto_termination_policy=aws_emr.CfnCluster.AutoTerminationPolicyProperty(
                idle_timeout=_IDLE_SECONDS
            ),
            ebs_root_volume_size=32,
            bootstrap_actions=[_bootstrap(pipeline)],
            steps=[jupyter.password_step()],
            configurations=jupyter.configurations(pipeline.storage.data.bucket_name, self.region),
            tags=[CfnTag(key=key, value=value) for key, value in tags.items()],
        )
        self.cluster.node.add_dependency(self.notebooks)
        for finding in findings(self, pipeline):
            Validations.of(finding.where).acknowledge(
                Acknowledgment(
                    id=f"AwsSolutions::AwsSolutions-{finding.rule}", reason=finding.evidence
                )
            )
        self._outputs()

    def _outputs(self) -> None:
        primary = (
            f"$(aws emr list-instances --region {self.region} --cluster-id {self.cluster.ref}"
            " --instance-fleet-type MASTER --query 'Instances[0].Ec2InstanceId' --output text)"
        )
        session = f"aws ssm start-session --region {self.region} --target {primary}"
        CfnOutput(
            self,
            "Connect",
            description=f"Forwards https://localhost:{jupyter.PORT} to JupyterHub, user jovyan",
            value=f"{session} --document-name AWS-StartPortForwardingSession"
            f" --parameters portNumber={jupyter.PORT},localPortNumber={jupyter.PORT}",
        )
        CfnOutput(
            self,
            "Password",
            description="Shows JupyterHub's password",
            value=f"{session} --document-name AWS-StartInteractiveCommand"
            f" --parameters command='sudo cat {jupyter.PASSWORD_FILE}'",
        )


def findings(stack: InteractiveStack, pipeline: PipelineStack) -> Sequence[Finding]:
    """Return the findings of cdk-nag's AwsSolutions pack that stand, each with its evidence."""
    exported = stack.resolve(pipeline.export_value(pipeline.storage.data.bucket_arn))
    return [
        Finding(
            stack.notebooks,
            f"IAM5[Resource::{exported['Fn::ImportValue']}/{jupyter.NOTEBOOKS}/*]",
            "The objects under one prefix of the pipeline's own bucket: the users' notebooks.",
        ),
        Finding(
            stack.cluster,
            "EMR4",
            "Spark encrypts what it writes to disk; with kms=true the disks are encrypted too, in"
            " EncryptionConfiguration, where EMR has it and the rule does not look.",
        ),
        Finding(
            stack.cluster,
            "EMR5",
            "Spark encrypts what nodes send each other, and S3 takes TLS only; with"
            " tls_certificates EMR's own switch is on too, in EncryptionConfiguration, where EMR"
            " has it and the rule does not look.",
        ),
        Finding(
            stack.cluster,
            "EMR6",
            "No key pair, on purpose: there is no SSH. Session Manager authenticates with IAM.",
        ),
    ]


def _keep_notebooks(pipeline: PipelineStack) -> Sequence[aws_iam.PolicyStatement]:
    data, prefix = pipeline.storage.data, jupyter.NOTEBOOKS
    return [
        aws_iam.PolicyStatement(
            actions=["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            resources=[data.arn_for_objects(f"{prefix}/*")],
        ),
        aws_iam.PolicyStatement(
            actions=["s3:ListBucket"],
            resources=[data.bucket_arn],
            # JupyterHub's store looks at the bucket itself first: hence the empty prefix.
            conditions={"StringLike": {"s3:prefix": ["", prefix, f"{prefix}/*"]}},
        ),
    ]


def _security(stack: Stack, pipeline: PipelineStack) -> dict[str, Any]:
    """Return the pipeline's security configuration, but for the way to credentials."""
    kms = pipeline.config.kms
    if isinstance(kms, str):
        key: str | None = kms
    elif kms:
        name = key_parameter(pipeline.node.id)
        key = aws_ssm.StringParameter.value_for_string_parameter(stack, name)
    else:
        key = None
    security = security_configuration(key, pipeline.config.tls_certificates)
    # JupyterHub runs in a container on a bridged network, one hop further from the metadata
    # service than the node itself; without an answer it has no credentials for S3.
    security["InstanceMetadataServiceConfiguration"]["HttpPutResponseHopLimit"] = 2
    return security


def _bootstrap(pipeline: PipelineStack) -> aws_emr.CfnCluster.BootstrapActionConfigProperty:
    return aws_emr.CfnCluster.BootstrapActionConfigProperty(
        name="Install the job's Python packages",
        script_bootstrap_action=aws_emr.CfnCluster.ScriptBootstrapActionConfigProperty(
            path=pipeline.artifacts.bootstrap_uri, args=[pipeline.artifacts.wheelhouse_uri]
        ),
    )


def _instances(
    config: OrchardConfig, pipeline: PipelineStack
) -> aws_emr.CfnCluster.JobFlowInstancesConfigProperty:
    network = pipeline.network
    return aws_emr.CfnCluster.JobFlowInstancesConfigProperty(
        keep_job_flow_alive_when_no_steps=True,
        termination_protected=False,
        ec2_subnet_ids=network.subnet_ids,
        emr_managed_master_security_group=network.primary_group.security_group_id,
        emr_managed_slave_security_group=network.core_group.security_group_id,
        service_access_security_group=network.service_group.security_group_id,
        master_instance_fleet=_fleet("Primary", config.primary_type, 1, config),
        core_instance_fleet=_fleet("Core", config.types[0], config.core_instances, config),
    )


def _fleet(
    name: str, instance_type: str, nodes: int, config: OrchardConfig
) -> aws_emr.CfnCluster.InstanceFleetConfigProperty:
    volume = aws_emr.CfnCluster.VolumeSpecificationProperty(
        volume_type="gp3", size_in_gb=config.node_volume_gib
    )
    return aws_emr.CfnCluster.InstanceFleetConfigProperty(
        name=name,
        # Never on Spot: a notebook that loses its nodes loses its owner's work.
        target_on_demand_capacity=nodes,
        instance_type_configs=[
            aws_emr.CfnCluster.InstanceTypeConfigProperty(
                instance_type=instance_type,
                weighted_capacity=1,
                ebs_configuration=aws_emr.CfnCluster.EbsConfigurationProperty(
                    ebs_block_device_configs=[
                        aws_emr.CfnCluster.EbsBlockDeviceConfigProperty(volume_specification=volume)
                    ]
                ),
            )
        ],
    )
