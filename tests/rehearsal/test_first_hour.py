"""A newcomer's first hour with `orchard` and a deployed stack, with the policies made for people.

Every request of a command is judged by the policy that its caller has, conditions included, before
it is answered.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from typer.main import get_command

from orchard import spark_history
from orchard.app import CLOUD, app
from orchard.cloud import following, session
from orchard.cloud.clusters import clusters
from orchard.cloud.stack import find_stack
from orchard.commands import status, stop
from rehearsal.aws.calls import ACCOUNT, Permission
from rehearsal.aws.endpoint import ENGINEER, Credentials
from rehearsal.aws.faults import Effect, Fault
from rehearsal.emr.yarn import wait_for
from rehearsal.local_cloud import REGION
from spark_job import __version__, contract, deployed, retries, s3
from spark_job.contract import CURRENT, IMAGES, results_folder, run_folder, work_folder
from tests.orchard.command import orchard, refusal, rows, succeed
from tests.rehearsal.test_what_roles_do import allowed_actions
from tests.rehearsal.watching import OPERATOR, VIEWER, alive
from tests.spark_job.jobs import REPOSITORY, environment_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

    from rehearsal.local_cloud import LocalCloud

pytestmark = pytest.mark.rehearsal

EXAMPLES = {
    name: shlex.split(command.epilog.removeprefix("Example: "))[1:]
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
    if command.rich_help_panel == CLOUD
}
"""Of the commands in the cloud, by name: they are what the hour consists of."""

UNUSED = {
    "kms:Decrypt": "S3 asks for it where objects are encrypted with a key; none are here",
    "kms:GenerateDataKey": "the same, of what is written",
    "s3:AbortMultipartUpload": "only a failed write of a large file asks for it",
}
"""Rights of operators that the hour does not use, and why they stay."""


@dataclass(frozen=True)
class People:
    """The credentials of those who have nothing but the policies that the stack makes."""

    operator: Credentials
    viewer: Credentials


@pytest.fixture(scope="module")
def people(cloud: LocalCloud) -> People:
    iam = cloud.endpoint.client("iam")
    for name, output in ((OPERATOR, deployed.OPERATOR_POLICY), (VIEWER, deployed.VIEWER_POLICY)):
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "ec2.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        policy = cloud.deployment.outputs[output]
        iam.attach_role_policy(RoleName=name, PolicyArn=policy)
    assume = cloud.endpoint.assume
    return People(assume(OPERATOR, "hour", "ec2"), assume(VIEWER, "hour", "ec2"))


@pytest.fixture(scope="module")
def place(
    cloud: LocalCloud,
    people: People,
    photographs: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """The folder that a newcomer is in, with a batch in it, signed in as an operator."""
    folder = tmp_path_factory.mktemp("hour")
    july = folder / "photographs" / "july"
    for name, content in photographs.items():
        path = july / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (july / "fruit 0" / "IMG_0001.CR2").write_bytes(b"raw")
    (july / "notes.txt").write_text("of a day in July")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "ORCHARD_OUT"))]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", cloud.endpoint.url)
        patch.setenv("AWS_REGION", REGION)
        patch.setattr(following, "POLL", 0.5)
        patch.setattr(stop, "POLL", 0.5)
        patch.setattr(stop, "APPEARS", 2.0)
        patch.setattr(following, "LINE_EVERY", 0.0)
        patch.setattr(following, "NODES_EVERY", 1.0)
        patch.setattr(retries, "PATIENCE", 1.0)
        patch.chdir(folder)
        with signed_in(people.operator):
            yield folder


@pytest.fixture(scope="module")
def july(place: Path) -> Result:
    """What was said while a batch was uploaded, run and followed."""
    del place
    return example("upload")


@contextmanager
def signed_in(credentials: Credentials) -> Iterator[None]:
    """Act with somebody's credentials, which clients keep for as long as they live."""
    caches: list[Any] = [
        s3._connected,
        s3._connected_client,
        s3._signed_in,
        session._connected,
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in credentials.environment().items():
            patch.setenv(name, value)
        for cache in caches:
            cache.cache_clear()
        yield
    for cache in caches:
        cache.cache_clear()


def example(name: str) -> Result:
    """Run a command's example, as its help has it."""
    return succeed(*EXAMPLES[name])


@pytest.mark.usefixtures("place")
def test_is_all_here_that_is_needed_and_what_would_it_cost() -> None:
    found = {one["what"]: one for one in json.loads(succeed("doctor", "--json").stdout)}
    assert found["credentials"]["good"]
    assert found["stack"]["found"] == f"Orchard in {REGION} is of {__version__}"
    assert "Run it here" in succeed("plan", "photographs/july", "--sample", "4").stdout


@pytest.mark.usefixtures("place")
def test_the_network_goes_in_the_middle_of_an_upload(cloud: LocalCloud) -> None:
    cloud.endpoint.faults.add(
        Fault("s3:PutObject", Effect.RESET, principal=OPERATOR, after=10, times=10_000)
    )
    broken = refusal("upload", "photographs/july", "broken-off", code=5)
    assert broken.startswith("S3 is busy or out of reach (")
    assert "of 40 pictures are there: check the network, and the same command goes on" in broken
    there = len(cloud.objects(f"{IMAGES}/broken-off/"))
    assert 0 < there < 40
    cloud.endpoint.faults.clear()
    told = json.loads(succeed("upload", "photographs/july", "broken-off", "--json").stdout)
    assert told["there"] >= there  # what was on its way may have arrived
    assert told["uploaded"] + told["there"] == 40 == len(cloud.objects(f"{IMAGES}/broken-off/"))
    assert (told["ignored"], told["unsupported"]) == ({"txt": 1}, {"cr2": 1})
    again = succeed("upload", "photographs/july", "broken-off")
    assert "0 pictures uploaded (0 B), 40 were there already" in again.stderr
    assert again.stdout == f"s3://{cloud.bucket}/{IMAGES}/broken-off\n"


def test_a_batch_is_uploaded_started_and_followed_to_its_end(july: Result) -> None:
    for words in (
        "Left here: 1 other file (1 .txt)",
        "Left here: 1 picture in formats that are not taken (1 .cr2): convert them to JPEG",
        "40 pictures uploaded (",
        "Started the run july.1",
        "EMR is asked for a cluster",
        "the cluster is j-",
        "nodes are up",
        "the job runs",
        "the batch is published",
        "`orchard fetch july DIR` brings tables and report here",
    ):
        assert words in july.stderr, july.stderr
    assert july.stdout.startswith("Batch july, run july.1\n  images      40 listed, 40 featurized")
    assert "/report.html\n" in july.stdout


def test_what_came_of_it_is_read_with_the_words_that_a_folder_here_takes(
    july: Result, place: Path
) -> None:
    del july
    here = ("--stack", "Orchard")
    assert "july" in [one["batch"] for one in rows(succeed("batches", *here))]
    assert json.loads(succeed("show", "july", "--json", *here).stdout)["counts"]["listed"] == 40
    assert rows(succeed("rejects", "july", *here)) == []
    assert "outliers" in succeed("findings", "july", *here).stdout
    counted = "select count(*) as n from vectors where batch = 'july'"
    assert succeed("sql", counted, *here).stdout == "n\n40\n"
    picture = next((place / "photographs/july/fruit 1").iterdir())
    assert "/runs/july.1/report.html" in succeed("report", "july", *here).stdout
    nearest = rows(succeed("search", str(picture), "--number", "1", "--batch", "july", *here))
    assert [one["path"] for one in nearest] == [f"fruit 1/{picture.name}"]
    built = succeed("models", "build", "--batches", "july", "--variance", "0.5", *here).stdout
    assert built.strip() in succeed("models", "list", *here).stdout
    mine = ("--batch", "july", "--models", "--json", "--yes")
    pruned = json.loads(succeed("prune", *mine, *here).stdout)
    assert built.strip() in [one["name"] for one in pruned if one["removed"]]


def test_results_are_brought_here_and_looked_at_as_any_other(july: Result, place: Path) -> None:
    del july
    folder = place / "here" / run_folder("july", "july.1")
    assert example("fetch").stdout == f"{folder}\n"
    assert (folder / contract.REPORT).is_file()
    again = json.loads(succeed("fetch", "july", "here", "--json").stdout)
    assert (again["fetched"], again["published"]) == (0, "july.1")
    assert rows(succeed("batches", "--output", "here"))[0]["run"] == "july.1"


def test_how_it_went_is_told_afterwards(july: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    del july
    assert "orchard: 40 images" in example("logs").stdout
    seen = json.loads(succeed("status", "--json").stdout)
    assert "july.1" in [one["run"] for one in seen["recent"]]
    assert seen["costs"]["estimated"] > 0
    assert seen["costs"]["budget"] == 50
    assert (seen["running"], seen["strays"]) == ([], [])
    assert "july.1\tjuly\t" in example("status").stdout
    assert "Batch july, run july.1" in succeed("follow", "july.1").stdout
    assert "had ended before (succeeded)" in example("stop").stderr
    served: list[int] = []

    def serve(folder: Path, port: int) -> None:
        served.extend(port for _ in folder.rglob("events_*"))

    monkeypatch.setattr(spark_history, "serve", serve)
    assert example("history").stdout == "http://localhost:18081\n"
    assert served == [18081], "one run's events"


@pytest.mark.usefixtures("july")
def test_a_second_run_is_left_alone_and_then_stopped(cloud: LocalCloud) -> None:
    held = Event()
    cloud.endpoint.faults.add(
        Fault(
            "s3:PutObject", resource=work_folder("july", "july.2"), before=lambda _: held.wait(180)
        )
    )
    try:
        _leave_alone_and_stop(cloud)
    finally:
        held.set()


def _leave_alone_and_stop(cloud: LocalCloud) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "orchard", *EXAMPLES["start"]],
        cwd=REPOSITORY,
        env=environment_with({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following_it:
        arn = cloud.state_machine.replace(":stateMachine:", ":execution:") + ":july.2"
        wait_for(lambda: arn in cloud.executions(), 60, "The start of july.2")
        cloud.wait_for_cluster(arn, "RUNNING")
        refused = refusal("start", "july")
        assert refused.startswith("the run july.2 of batch july goes on; `orchard follow july.2`")
        late = refusal("logs", "july.2", "--driver", code=1)
        assert late.startswith("the run july.2 has no logs for --driver, but for bootstrap: EMR ")
        assert late.endswith("delivers them every 5 minutes; try again then")
        (running,) = json.loads(succeed("status", "--json").stdout)["running"]
        assert (running["run"], running["state"]) == ("july.2", "the job runs")
        assert running["clusters"] == [cluster.cluster_id for cluster in alive(cloud, arn)]
        following_it.send_signal(signal.SIGINT)
        _, said = following_it.communicate(timeout=30)
    assert following_it.returncode == 130, said
    assert said.endswith(
        "The run july.2 goes on: `orchard follow july.2` comes back to it, and `orchard stop "
        "july.2` ends it\n"
    )
    assert cloud.outcome(arn).status == "RUNNING"

    # The credentials expire while somebody follows, and AWS is out of reach for a moment.
    cloud.endpoint.faults.add(Fault("states:GetExecutionHistory", Effect.RESET, principal=OPERATOR))
    cloud.endpoint.faults.add(
        Fault("states:DescribeExecution", Effect.EXPIRED, principal=OPERATOR, after=4)
    )
    result = orchard(*EXAMPLES["follow"])
    assert (result.exit_code, result.stdout) == (5, "")
    [*_, told] = result.stderr.splitlines()
    assert told.startswith("orchard: error: the AWS credentials expired (ExpiredTokenException: ")
    assert told.endswith("The run july.2 goes on: `orchard follow july.2` comes back to it")
    assert cloud.outcome(arn).status == "RUNNING"

    asked = orchard("stop", "july.2", answer="n\n")
    assert asked.stderr.endswith("Nothing was stopped\n")
    ended = succeed("stop", "july.2", "--yes")
    assert ended.stderr.endswith("No cluster of the run july.2 is left\n")
    assert alive(cloud, arn) == []
    told = refusal("follow", "july.2", code=1)
    assert told.startswith("the run july.2 was stopped")
    assert told.endswith("`orchard start july` goes on where it was")
    assert "july.2\tjuly\t" in succeed("status").stdout
    published = cloud.fetch(f"{results_folder('july')}/{CURRENT}", Path.cwd() / "published")
    assert json.loads((published / results_folder("july") / CURRENT).read_text())["run"] == "july.1"


@pytest.mark.usefixtures("july")
def test_a_cluster_that_should_not_be_there_is_told_and_ended(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose run has ended: what is left where the janitor could not see to it."""
    (known,) = [c for c in cloud.emr.clusters.values() if c.request["Name"].endswith("/july.1")]
    # As it was asked for, but for what it would install.
    cloud.endpoint.client("emr").run_job_flow(**{**known.request, "BootstrapActions": []})
    wait_for(lambda: [c for c in cloud.emr.alive() if c.state == "WAITING"], 30, "A stray cluster")
    (stray,) = cloud.emr.alive()
    assert "is about to end" in succeed("status").stderr, "the janitor's time is not over"
    monkeypatch.setattr(status, "JANITOR", timedelta(0))
    seen = succeed("status", "--json")
    assert [one["id"] for one in json.loads(seen.stdout)["strays"]] == [stray.cluster_id]
    assert f"The cluster {stray.cluster_id} of the run july.1 lives since" in seen.stderr
    assert "`orchard stop july.1` ends it" in seen.stderr
    monkeypatch.setattr(stop, "JANITOR", 0.0)
    ended = json.loads(succeed("stop", "july.1", "--json").stdout)
    assert ended == {"run": "july.1", "stopped": False, "clusters": [stray.cluster_id]}
    assert cloud.emr.alive() == []


@pytest.mark.usefixtures("place")
def test_a_batch_that_is_not_there(cloud: LocalCloud) -> None:
    before = cloud.executions()
    told = refusal("start", "june", code=3)
    assert told.endswith("`orchard upload DIR june` brings pictures there")
    assert f"there is nothing in s3://{cloud.bucket}/{IMAGES}/june" in told
    assert "has neither a run nor a run of a batch 'june'" in refusal("follow", "june")
    assert "has no batch 'june'" in refusal("show", "june", "--stack", "Orchard")
    assert "has no batch 'june'" in refusal("fetch", "june", "here")
    assert refusal("start", "june", "--core-instances", "99").startswith("core_instances is 99; ")
    assert 'batch is "jüne"; allowed is up to 64 letters' in refusal("start", "jüne")
    assert refusal("upload", "photographs/july", "a b").startswith('batch is "a b"; allowed is')
    assert cloud.executions() == before, "all of it was refused here"


@pytest.mark.usefixtures("place")
def test_what_the_state_machine_refuses_is_told_too(cloud: LocalCloud) -> None:
    cloud.endpoint.client("s3").put_object(
        Bucket=cloud.bucket, Key=f"{IMAGES}/emptied/notes.txt", Body=b"x"
    )
    told = refusal("start", "emptied", code=3)
    assert told.startswith("run emptied.1: Batch emptied has no images: ")


@pytest.mark.usefixtures("july")
def test_a_stack_of_another_version_is_warned_of_and_one_of_another_contract_refused(
    cloud: LocalCloud,
) -> None:
    client = cloud.endpoint.client("cloudformation")
    outputs = {name: {"Value": value} for name, value in cloud.deployment.outputs.items()}
    topic = {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "other-stacks"}}}
    newer = {deployed.VERSION: {"Value": "9.0.0"}, deployed.CONTRACT: {"Value": "2"}}
    older = {deployed.VERSION: {"Value": "0.0.9"}}
    known = {name: outputs[name] for name in (*("DataBucket", "LogBucket"), "StateMachine")}
    for name, others in (("Newer", {**known, **newer}), ("Older", {**known, **older})):
        template = json.dumps({"Resources": topic, "Outputs": others})
        client.create_stack(StackName=name, TemplateBody=template)
    administrator = Credentials(ENGINEER, "secret")  # whose requests are not judged
    with signed_in(administrator):
        warned = succeed("batches", "--stack", "Older")
        assert warned.stderr.startswith(
            f"orchard: the stack Older is of 0.0.9, and this is {__version__}: "
        )
        assert "july" in [one["batch"] for one in rows(warned)]
        for command in (["batches"], ["status"], ["upload", "photographs/july"], ["start", "july"]):
            told = refusal(*command, "--stack", "Newer")
            assert told.startswith("the stack Newer is of 9.0.0, whose results are of contract 2")
        assert "there is no stack None in eu-west-1" in refusal("status", "--stack", "None")
    denied = refusal("status", "--stack", "Older")
    assert denied.startswith("you may not look for the stack Older in eu-west-1 (AccessDenied: ")
    assert denied.endswith("ViewerPolicy names, or check --stack and AWS_REGION")


@pytest.mark.usefixtures("july")
def test_who_may_look_may_not_change_anything(people: People) -> None:
    with signed_in(people.viewer):
        here = ("--stack", "Orchard")
        for looking in (
            ["batches", *here],
            ["show", "july", *here],
            ["sql", "select count(*) from images", *here],
            ["status"],
            ["follow", "july.1"],
            ["logs", "july.1"],
            ["fetch", "july", "looked-at"],
        ):
            succeed(*looking)
        for changing, doing in (
            (["start", "july"], "start a run of july"),
            (["upload", "photographs/july", "july-2"], "upload to s3://"),
        ):
            told = refusal(*changing)
            assert told.startswith(f"you may not {doing}"), told
            assert "OperatorPolicy" in told
    stack = find_stack("Orchard")
    assert clusters(stack) == []


@pytest.mark.usefixtures("place")
def test_an_upload_that_is_interrupted_goes_on_where_it_was(cloud: LocalCloud) -> None:
    made = {}
    for number in range(60):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(stream, "PNG")
        made[f"photographs/august/a/{number}.png"] = stream.getvalue()
    for name, content in made.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    uploading = subprocess.Popen(
        [sys.executable, "-m", "orchard", "upload", str(Path("photographs/august").resolve())],
        cwd=REPOSITORY,
        env=environment_with({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(cloud.objects(f"{IMAGES}/august/")) > 3, 30, "The first pictures")
    uploading.send_signal(signal.SIGINT)
    _, said = uploading.communicate(timeout=30)
    assert uploading.returncode == 130, said
    assert "What is uploaded stays; the same command goes on where it was" in said
    there = len(cloud.objects(f"{IMAGES}/august/"))
    told = json.loads(succeed("upload", "photographs/august", "--json").stdout)
    assert told["there"] >= there
    assert told["uploaded"] + told["there"] == 60


def test_no_request_of_an_operator_was_denied_and_every_right_is_used(
    cloud: LocalCloud, july: Result, request: pytest.FixtureRequest
) -> None:
    del july
    calls = [call for call in cloud.endpoint.calls if call.principal == OPERATOR]
    denied = {str(p) for call in calls if not call.allowed for p in call.permissions}
    assert {text for text in denied if "stack/Older/" not in text} == set()
    hour = [item.name for item in request.session.items if item.path.name == Path(__file__).name]
    if not any("second_run" in name for name in hour):
        pytest.skip("only after the whole hour are all rights used")
    used = {permission.action for call in calls for permission in call.permissions}
    unused = [
        action
        for action in allowed_actions(cloud, OPERATOR)
        if action not in used and action not in UNUSED
    ]
    assert unused == [], "remove these rights, or say above why they stay"
    assert UNUSED.keys() <= set(allowed_actions(cloud, OPERATOR))


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        ("s3:DeleteObject", "arn:aws:s3:::DATA/images/july/a.jpg", {}),
        ("s3:DeleteObjectVersion", "arn:aws:s3:::DATA/results/july/a", {}),
        ("s3:PutBucketPolicy", "arn:aws:s3:::DATA", {}),
        ("s3:PutObject", "arn:aws:s3:::LOGS/emr/j-1/x", {}),
        ("s3:GetObject", "arn:aws:s3:::LOGS/access/x", {}),
        ("s3:ListBucket", "arn:aws:s3:::LOGS", {"s3:prefix": "access/"}),
        ("s3:GetObject", "arn:aws:s3:::somebody-elses/images/a.jpg", {}),
        ("states:StartExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:Pay", {}),
        ("states:StopExecution", f"arn:aws:states:{REGION}:{ACCOUNT}:execution:Janitor:x", {}),
        ("states:UpdateStateMachine", "MACHINE", {}),
        ("elasticmapreduce:RunJobFlow", "*", {}),
        ("elasticmapreduce:TerminateJobFlows", "CLUSTER", {}),
        (
            "elasticmapreduce:TerminateJobFlows",
            "CLUSTER",
            {"elasticmapreduce:ResourceTag/orchard-stack": "Flowers"},
        ),
        ("elasticmapreduce:AddJobFlowSteps", "CLUSTER", {}),
        ("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/Orchard-x", {}),
        ("cloudformation:UpdateStack", "STACK", {}),
        ("cloudformation:DeleteStack", "STACK", {}),
        ("kms:Decrypt", f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1", {}),
    ],
)
def test_what_an_operator_must_not_do_is_denied(
    cloud: LocalCloud, people: People, action: str, resource: str, context: dict[str, str]
) -> None:
    del people
    names = {
        "DATA": cloud.bucket,
        "LOGS": cloud.deployment.outputs["LogBucket"],
        "MACHINE": cloud.state_machine,
        "CLUSTER": f"arn:aws:elasticmapreduce:{REGION}:{ACCOUNT}:cluster/j-1",
        "STACK": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/Orchard/any",
    }
    for name, value in names.items():
        resource = resource.replace(name, value)
    assert not cloud.endpoint.allows(OPERATOR, Permission(action, resource, context))
