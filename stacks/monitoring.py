"""What tells people: the alert topic, alarms, a dashboard, a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aws_cdk import Aws, Duration, Stack, aws_budgets, aws_iam, aws_sns, aws_sqs
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks import grants
from stacks.batch.publication import DOLLARS_METRIC
from stacks.config import STACK_TAG, OrchardConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_cdk import aws_s3
    from aws_cdk import aws_stepfunctions as sfn

_PERIOD: Final = Duration.minutes(5)
_WEEK: Final = Duration.days(7)


def alert_topic(scope: Construct, construct_id: str, *, config: OrchardConfig) -> aws_sns.Topic:
    """Return the topic that a batch's success and failure and the alarms are published to."""
    topic = aws_sns.Topic(scope, construct_id, enforce_ssl=True)
    # A topic with a policy of its own loses the default one, by which alarms may publish.
    topic.add_to_resource_policy(
        aws_iam.PolicyStatement(
            principals=[aws_iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
        )
    )
    if config.alert_email is not None:
        topic.add_subscription(subscriptions.EmailSubscription(config.alert_email))
    return topic


def undelivered_events(scope: Construct, construct_id: str) -> aws_sqs.Queue:
    """Return the queue of events that could not start what they should."""
    return aws_sqs.Queue(
        scope,
        construct_id,
        enforce_ssl=True,
        encryption=aws_sqs.QueueEncryption.SQS_MANAGED,
        retention_period=Duration.days(14),
    )


class Monitoring(Construct):
    """Alarms, a dashboard and, when an address is configured, a monthly budget.

    Attributes
    ----------
    budget
        The budget's name; None where there is none.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: OrchardConfig,
        state_machine: sfn.IStateMachine,
        watch: sfn.IStateMachine,
        helpers: Mapping[str, sfn.IStateMachine],
        undelivered: aws_sqs.IQueue,
        topic: aws_sns.ITopic,
        bucket: aws_s3.IBucket,
    ) -> None:
        super().__init__(scope, construct_id)
        to_topic = actions.SnsAction(topic)
        alarms = [
            # One for each, and no sum of them: a sum has no value where one of its metrics has
            # none, and Step Functions has none for what did not happen.
            _alarm(
                self,
                f"{ending}Executions",
                f"An Orchard batch {words}; the mail about it and its execution say more.",
                metric,
            )
            for ending, words, metric in (
                ("Failed", "failed", state_machine.metric_failed(period=_PERIOD)),
                ("TimedOut", "took too long", state_machine.metric_timed_out(period=_PERIOD)),
                ("Aborted", "was aborted", state_machine.metric_aborted(period=_PERIOD)),
            )
        ]
        alarms.append(
            _alarm(
                self,
                "ClusterAliveTooLong",
                f"An Orchard cluster lives for more than {config.cluster_alive_alarm_minutes}"
                " minutes, or could not be looked at: terminate it unless it is wanted.",
                watch.metric_failed(period=_PERIOD),
            )
        )
        alarms += [
            _alarm(
                self,
                f"{name}Failed",
                f"Orchard's {name.lower()} failed; the mail about it and its execution say more.",
                cloudwatch.MathExpression(
                    # Either has no value where nothing of the kind happened.
                    expression="FILL(failed, 0) + FILL(late, 0)",
                    using_metrics={
                        "failed": helper.metric_failed(period=_PERIOD),
                        "late": helper.metric_timed_out(period=_PERIOD),
                    },
                    period=_PERIOD,
                ),
            )
            for name, helper in helpers.items()
        ]
        alarms.append(
            _alarm(
                self,
                "EventsUndelivered",
                "An event could not start what it should, such as a batch whose marker was"
                f" written: read it in the queue {undelivered.queue_name}, do by hand what it was"
                " to start (write the marker again), and empty the queue.",
                undelivered.metric_approximate_number_of_messages_visible(
                    period=_PERIOD, statistic="Maximum"
                ),
            )
        )
        for alarm in alarms:
            alarm.add_alarm_action(to_topic)
        _dashboard(self, state_machine, bucket, alarms)
        self.budget: str | None = None
        if config.alert_email is not None:
            self.budget = _budget(self, config, config.alert_email).ref


def _alarm(
    scope: Construct,
    construct_id: str,
    description: str,
    metric: cloudwatch.Metric | cloudwatch.MathExpression,
) -> cloudwatch.Alarm:
    """Return an alarm that rings at the first event that a metric counts."""
    return metric.create_alarm(
        scope,
        construct_id,
        alarm_description=description,
        threshold=1,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )


def _dashboard(
    scope: Construct,
    state_machine: sfn.IStateMachine,
    bucket: aws_s3.IBucket,
    alarms: Sequence[cloudwatch.Alarm],
) -> None:
    hour, day = Duration.hours(1), Duration.days(1)
    stored = [
        cloudwatch.Metric(
            namespace="AWS/S3",
            metric_name="BucketSizeBytes",
            dimensions_map={"BucketName": bucket.bucket_name, "StorageType": "StandardStorage"},
            statistic="Average",
            period=day,
        )
    ]
    cloudwatch.Dashboard(
        scope,
        "Dashboard",
        default_interval=_WEEK,
        widgets=[
            [cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(alarms), width=24)],
            [
                cloudwatch.GraphWidget(
                    title="Batches",
                    width=12,
                    left=[
                        state_machine.metric_started(period=hour),
                        state_machine.metric_succeeded(period=hour),
                        state_machine.metric_failed(period=hour),
                    ],
                ),
                cloudwatch.GraphWidget(
                    title="Time per batch (ms)",
                    width=12,
                    left=[
                        state_machine.metric_time(period=hour, statistic="p50"),
                        state_machine.metric_time(period=hour, statistic="Maximum"),
                    ],
                ),
            ],
            [
                cloudwatch.GraphWidget(
                    title="Core nodes running, of every cluster in the account",
                    width=12,
                    left=[
                        cloudwatch.MathExpression(
                            expression="SEARCH('{AWS/ElasticMapReduce,JobFlowId}"
                            " MetricName=\"CoreNodesRunning\"', 'Maximum', 300)",
                            using_metrics={},
                            label="",
                        )
                    ],
                ),
                cloudwatch.GraphWidget(title="Data stored (bytes)", width=12, left=stored),
            ],
            [
                cloudwatch.GraphWidget(
                    title="Images",
                    width=12,
                    left=_of_runs("Sum", "Images", "Computed", "Rejects", "Unsupported"),
                ),
                cloudwatch.GraphWidget(
                    title="Images a second, and dollars (estimates)",
                    width=12,
                    left=_of_runs("Average", "ImagesPerSecond"),
                    right=_of_runs("Sum", DOLLARS_METRIC),
                ),
            ],
            [
                cloudwatch.GraphWidget(
                    title="Seconds of the job, without its cluster's start and end",
                    width=12,
                    left=[
                        *_of_runs("Average", "JobSeconds"),
                        *_of_runs("Maximum", "JobSeconds"),
                    ],
                ),
            ],
        ],
    )


def _of_runs(statistic: str, *names: str) -> list[cloudwatch.IMetric]:
    """Return metrics that the state machine puts from the receipts of runs."""
    return [
        cloudwatch.Metric(
            namespace=grants.METRICS,
            metric_name=name,
            dimensions_map={"Stack": Aws.STACK_NAME},
            statistic=statistic,
            period=Duration.hours(1),
        )
        for name in names
    ]


def _budget(scope: Construct, config: OrchardConfig, address: str) -> aws_budgets.CfnBudget:
    def alert(kind: str, percent: int) -> aws_budgets.CfnBudget.NotificationWithSubscribersProperty:
        return aws_budgets.CfnBudget.NotificationWithSubscribersProperty(
            notification=aws_budgets.CfnBudget.NotificationProperty(
                notification_type=kind,
                comparison_operator="GREATER_THAN",
                threshold=percent,
                threshold_type="PERCENTAGE",
            ),
            subscribers=[
                aws_budgets.CfnBudget.SubscriberProperty(subscription_type="EMAIL", address=address)
            ],
        )

    return aws_budgets.CfnBudget(
        scope,
        "Budget",
        budget=aws_budgets.CfnBudget.BudgetDataProperty(
            budget_type="COST",
            time_unit="MONTHLY",
            budget_limit=aws_budgets.CfnBudget.SpendProperty(
                amount=config.monthly_budget_usd, unit="USD"
            ),
            # Counts once the tag is activated as a cost allocation tag in the billing console.
            cost_filters={"TagKeyValue": [f"user:{STACK_TAG}${Stack.of(scope).stack_name}"]},
        ),
        notifications_with_subscribers=[
            alert("ACTUAL", 80),
            alert("ACTUAL", 100),
            alert("FORECASTED", 100),
        ],
    )
