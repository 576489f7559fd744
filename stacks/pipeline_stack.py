"""One dataset's stack: composes the constructs, and says who may use what."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from aws_cdk import (
    CfnOutput,
    DefaultStackSynthesizer,
    Environment,
    Fn,
    Stack,
    Tags,
    Token,
    aws_ssm,
)

from spark_job import __version__, contract, deployed
from stacks import grants
from stacks.acknowledgements import acknowledge
from stacks.artifacts import Artifacts
from stacks.batch.catalog import Catalog
from stacks.batch.registrar import Registrar
from stacks.batch.run_input import bounds_of
from stacks.batch.trigger import Trigger
from stacks.batch.workflow import Workflow
from stacks.config import STACK_TAG, OrchardConfig, asset_prefix, check_region
from stacks.emr.janitor import Janitor
from stacks.emr.watch import Watch
from stacks.identity import Identity
from stacks.monitoring import Monitoring, alert_topic, undelivered_events
from stacks.network import Network
from stacks.people import People
from stacks.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Construct

_REGION_WITHOUT_PROFILE: Final = "eu-west-1"


class PipelineStack(Stack):
    """Everything that turns batches of images into vectors; several may live in one app.

    Parameters
    ----------
    config
        The knobs; ``OrchardConfig()`` deploys the defaults.
    **options
        Passed on to :class:`aws_cdk.Stack`; ``env`` is the AWS CLI profile's when not given.

    Raises
    ------
    ConfigError
        When the region is not among ``config.allowed_regions``.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, config: OrchardConfig, **options: Any
    ) -> None:
        options.setdefault("env", environment(config))
        options.setdefault("description", f"Orchard: images of {config.dataset} into vectors")
        # A prefix of the stack's own: nodes may read what is under it, so that what a running
        # execution was started with stays readable when another version is deployed.
        options.setdefault(
            "synthesizer", DefaultStackSynthesizer(bucket_prefix=asset_prefix(construct_id))
        )
        super().__init__(scope, construct_id, **options)
        self.config = config
        if not Token.is_unresolved(self.region):
            check_region(self.region, config)

        self.storage = Storage(self, "Storage", config=config)
        self.network = Network(self, "Network", config=config)
        self.artifacts = Artifacts(self, "Artifacts", config=config)
        self.identity = Identity(self, "Identity", config=config)
        self.topic = alert_topic(self, "Alerts", config=config)
        self.undelivered = undelivered_events(self, "Undelivered")
        self.catalog = Catalog(self, "Catalog", config=config, storage=self.storage)
        self.workflow = Workflow(
            self,
            "Workflow",
            config=config,
            storage=self.storage,
            artifacts=self.artifacts,
            identity=self.identity,
            network=self.network,
            topic=self.topic,
        )
        machine = self.workflow.state_machine
        self.janitor = Janitor(
            self,
            "Janitor",
            config=config,
            state_machine=machine,
            topic=self.topic,
            undelivered=self.undelivered,
        )
        self.watch = Watch(
            self, "Watch", config=config, topic=self.topic, undelivered=self.undelivered
        )
        self.registrar = Registrar(
            self,
            "Registrar",
            config=config,
            bucket=self.storage.data,
            catalog=self.catalog,
            topic=self.topic,
            undelivered=self.undelivered,
        )
        self.trigger = (
            Trigger(
                self,
                "Trigger",
                config=config,
                state_machine=machine,
                bucket=self.storage.data,
                topic=self.topic,
                undelivered=self.undelivered,
            )
            if config.trigger
            else None
        )
        self.monitoring = Monitoring(
            self,
            "Monitoring",
            config=config,
            state_machine=machine,
            watch=self.watch.state_machine,
            helpers={
                type(part).__name__: part.state_machine
                for part in self.machines
                if part not in (self.workflow, self.watch)
            },
            undelivered=self.undelivered,
            topic=self.topic,
            bucket=self.storage.data,
        )
        self.people = People(
            self,
            "People",
            data=self.storage.data,
            logs=self.storage.logs,
            machine=machine,
            budget=self.monitoring.budget,
        )

        self._grant()
        self.network.log_flows_to(self.storage.logs)
        for key, value in _cost_tags(self, config).items():
            Tags.of(self).add(key, value)
        self._outputs()
        self._export()
        acknowledge(self)

    @property
    def machines(self) -> Sequence[Workflow | Janitor | Watch | Registrar | Trigger]:
        """What has a state machine, and its definition."""
        always = (self.workflow, self.janitor, self.watch, self.registrar)
        return always if self.trigger is None else (*always, self.trigger)

    @property
    def availability_zones(self) -> list[str]:
        """The region's first zones, chosen at deployment: none are looked up at synth."""
        return [Fn.select(index, Fn.get_azs()) for index in range(self.config.zones)]

    def _grant(self) -> None:
        storage, roles, key = self.storage, self.identity, self.storage.key
        nodes, workflow = roles.instance_role, self.workflow.state_machine
        grants.process_batches(nodes, data=storage.data, logs=storage.logs, key=key)
        grants.read_assets(nodes, self.artifacts.bucket, asset_prefix(self.node.id))
        if self.config.tls_certificates is not None:
            grants.read_certificates(nodes, self.config.tls_certificates)
        grants.encrypt_disks(roles.service_role, key)
        grants.inspect_batches(workflow, data=storage.data, logs=storage.logs)
        grants.run_clusters(
            workflow,
            service_role=roles.service_role,
            instance_role=nodes,
            managed_scaling=self.config.managed_scaling,
        )
        grants.read_parameter(workflow, self.workflow.cluster.security_parameter)
        grants.list_own_executions(workflow)
        grants.list_clusters(self.janitor.state_machine)
        grants.end_clusters(self.janitor.state_machine)
        grants.describe_clusters(self.watch.state_machine)
        grants.register_partitions(
            self.registrar.state_machine,
            database=self.catalog.database,
            data=storage.data,
        )
        if self.trigger is not None:
            grants.start_batches(
                self.trigger.state_machine,
                machine=workflow,
                executions=self.trigger.executions,
                data=storage.data,
            )
        for machine in self.machines:
            grants.publish(machine.state_machine, self.topic)

    def _export(self) -> None:
        """Export what a notebook cluster needs, whether there is one or not.

        An export cannot be deleted while another stack imports it, so none may depend on a knob.
        """
        roles, network = self.identity, self.network
        if self.config.kms is True and self.storage.key is not None:
            # Not an export: turning `kms` off takes the key away, and an export could not go.
            aws_ssm.StringParameter(
                self,
                "KeyParameter",
                parameter_name=key_parameter(self.node.id),
                string_value=self.storage.key.key_arn,
            )
        for value in (
            self.storage.data.bucket_name,
            self.storage.data.bucket_arn,
            self.storage.logs.bucket_name,
            roles.instance_role.role_name,
            roles.instance_profile.ref,
            roles.service_role.role_name,
            *(group.security_group_id for group in network.groups),
            *(network.subnet_ids if self.config.vpc_id is None else ()),
        ):
            self.export_value(value)

    def _outputs(self) -> None:
        """Say what the command `orchard` finds everything by."""
        outputs = {
            deployed.DATA_BUCKET: self.storage.data.bucket_name,
            deployed.LOG_BUCKET: self.storage.logs.bucket_name,
            deployed.DATABASE: self.catalog.database,
            deployed.STATE_MACHINE: self.workflow.state_machine.state_machine_arn,
            deployed.VERSION: __version__,
            deployed.CONTRACT: str(contract.CONTRACT),
            deployed.RUN_INPUT: bounds_of(self.config).to_json(),
            deployed.MONTHLY_BUDGET: str(self.config.monthly_budget_usd),
            deployed.OPERATOR_POLICY: self.people.operators.managed_policy_arn,
            deployed.VIEWER_POLICY: self.people.viewers.managed_policy_arn,
        }
        if self.monitoring.budget is not None:
            outputs[deployed.BUDGET] = self.monitoring.budget
        for name, value in outputs.items():
            CfnOutput(self, name, value=value)


def key_parameter(stack_id: str) -> str:
    """Return the name of the parameter that holds the ARN of a stack's own key."""
    return f"/orchard/{stack_id}/key"


def environment(config: OrchardConfig) -> Environment:
    """Return where to deploy: the configured region, else the profile's; any account."""
    return Environment(
        account=os.environ.get("CDK_DEFAULT_ACCOUNT"),
        region=config.region or os.environ.get("CDK_DEFAULT_REGION") or _REGION_WITHOUT_PROFILE,
    )


def _cost_tags(stack: Stack, config: OrchardConfig) -> dict[str, str]:
    return {"project": "orchard", "dataset": config.dataset, STACK_TAG: stack.stack_name}
