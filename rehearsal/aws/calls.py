"""What a request to AWS asks for, in IAM's terms: actions, resources and condition keys.

One HTTP request can need several permissions: deleting a list of objects, or creating a cluster,
which also passes two roles, sets tags and sets an idle limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree

ACCOUNT = "123456789012"
"""The account that moto uses."""


TagsOf = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True)
class Permission:
    """One permission that a request needs."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        conditions = "".join(f" {key}={value}" for key, value in sorted(self.context.items()))
        return f"{self.action} on {self.resource}{conditions}"


@dataclass(frozen=True)
class Request:
    """One HTTP request to the local AWS, as the endpoint received it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def access_key(self) -> str:
        """The access key id that signed it, or an empty string."""
        return self._scope[0] if self._scope else ""

    @property
    def service(self) -> str:
        """The service that it was signed for, such as ``s3``."""
        return self._scope[3] if len(self._scope) > 3 else "s3"

    @property
    def operation(self) -> str:
        """The operation of a service that names it in a header or in the body; empty for S3."""
        target = self.headers.get("x-amz-target", "")
        return target.rpartition(".")[2] or str(self.form.get("Action", ""))

    @property
    def json(self) -> dict[str, Any]:
        """The body of a JSON protocol's request."""
        return dict(json.loads(self.body or b"{}"))

    @property
    def form(self) -> dict[str, str]:
        """The body of a query protocol's request."""
        if "x-www-form-urlencoded" not in self.headers.get("content-type", ""):
            return {}
        return dict(parse_qsl(self.body.decode()))

    @property
    def _scope(self) -> list[str]:
        credential = self.headers.get("authorization", "").partition("Credential=")[2]
        return credential.partition(",")[0].split("/") if credential else []


def permissions(request: Request, tags_of: TagsOf = lambda _: {}) -> list[Permission]:
    """Return the permissions that `request` needs; none for a service that is not rehearsed.

    Parameters
    ----------
    request
        The request.
    tags_of
        Returns the tags of the resource with an ARN, which conditions may ask for.
    """
    if request.service == "elasticmapreduce":
        return list(_emr(request, tags_of))
    by_service = {
        "s3": _s3,
        "states": _states,
        "sns": _sns,
        "events": _events,
        "glue": _glue,
        "monitoring": _monitoring,
        "cloudformation": _cloudformation,
        "budgets": _budgets,
        "ssm": _ssm,
    }
    derive = by_service.get(request.service)
    return list(derive(request)) if derive else []


def bucket_and_key(request: Request) -> tuple[str, str]:
    """Return the bucket and the key of a path-style S3 request."""
    bucket, _, key = unquote(request.path.lstrip("/")).partition("/")
    return bucket, key


def _s3(request: Request) -> Iterator[Permission]:
    bucket, key = bucket_and_key(request)
    if not bucket:
        yield Permission("s3:ListAllMyBuckets", "*")
    elif not key:
        yield from _s3_bucket(request, f"arn:aws:s3:::{bucket}")
    else:
        yield from _s3_object(request, f"arn:aws:s3:::{bucket}/{key}")


def _s3_bucket(request: Request, arn: str) -> Iterator[Permission]:
    query = request.query
    if request.method == "POST" and "delete" in query:
        for name in ElementTree.fromstring(request.body).iter():  # noqa: S314  (our own client's)
            if name.tag.rpartition("}")[2] == "Key":
                yield Permission("s3:DeleteObject", f"{arn}/{name.text}")
    elif "location" in query:
        yield Permission("s3:GetBucketLocation", arn)
    elif "uploads" in query:
        yield Permission("s3:ListBucketMultipartUploads", arn)
    elif request.method in ("GET", "HEAD"):
        names = {"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys"}
        context = {names[name]: value for name, value in query.items() if name in names}
        action = "s3:ListBucketVersions" if "versions" in query else "s3:ListBucket"
        yield Permission(action, arn, context)
    else:
        action = {"PUT": "s3:CreateBucket", "DELETE": "s3:DeleteBucket"}[request.method]
        yield Permission(action, arn)


def _s3_object(request: Request, arn: str) -> Iterator[Permission]:
    upload = "uploadId" in request.query
    if request.method in ("GET", "HEAD"):
        version = "Version" if "versionId" in request.query else ""
        action = "s3:ListMultipartUploadParts" if upload else f"s3:GetObject{version}"
        yield Permission(action, arn)
    elif request.method == "DELETE":
        yield Permission("s3:AbortMultipartUpload" if upload else "s3:DeleteObject", arn)
    else:
        source = request.headers.get("x-amz-copy-source")
        if source:
            # A question mark of the key's own is quoted.
            source, _, version = source.partition("?")
            action = "s3:GetObjectVersion" if version else "s3:GetObject"
            yield Permission(action, f"arn:aws:s3:::{unquote(source).lstrip('/')}")
        if "if-match" in request.headers:
            # The answer says something of what is there. AWS's documentation of conditional writes
            # leaves open whether that takes a right to read it: the stricter is asked for.
            yield Permission("s3:GetObject", arn)
        yield Permission("s3:PutObject", arn)


def _emr(request: Request, tags_of: TagsOf) -> Iterator[Permission]:
    body, operation = request.json, request.operation
    region = request._scope[2]
    clusters = body.get("JobFlowIds") or [body.get("ClusterId") or body.get("JobFlowId")]
    if operation == "RunJobFlow":
        yield from _run_job_flow(body, region)
    elif operation == "ListClusters":
        yield Permission("elasticmapreduce:ListClusters", "*")
    else:
        for cluster in [body["ResourceId"]] if "ResourceId" in body else clusters:
            arn = f"arn:aws:elasticmapreduce:{region}:{ACCOUNT}:cluster/{cluster}"
            yield Permission(
                f"elasticmapreduce:{operation}", arn, _tag_keys("Resource", tags_of(arn))
            )


def _run_job_flow(body: dict[str, Any], region: str) -> Iterator[Permission]:
    tags = {tag["Key"]: tag.get("Value", "") for tag in body.get("Tags", [])}
    requested = _tag_keys("Request", tags)
    yield Permission("elasticmapreduce:RunJobFlow", "*", requested)
    # A cluster that does not exist yet is named by a wildcard.
    arn = f"arn:aws:elasticmapreduce:{region}:{ACCOUNT}:cluster/*"
    if body.get("Tags"):
        yield Permission("elasticmapreduce:AddTags", arn, requested)
    if body.get("AutoTerminationPolicy"):
        yield Permission("elasticmapreduce:PutAutoTerminationPolicy", arn)
    if body.get("ManagedScalingPolicy"):
        yield Permission("elasticmapreduce:PutManagedScalingPolicy", arn)
    for key, service in (("ServiceRole", "elasticmapreduce"), ("JobFlowRole", "ec2")):
        # EMR is given the instance profile's name, which must be the role's own.
        name = body[key].rpartition("/")[2]
        context = {"iam:PassedToService": f"{service}.amazonaws.com"}
        yield Permission("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{name}", context)


def _tag_keys(kind: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the condition keys for tags, AWS's general ones and EMR's older ones."""
    return {
        f"{service}:{kind}Tag/{key}": value
        for key, value in tags.items()
        for service in ("aws", "elasticmapreduce")
    }


def _states(request: Request) -> Iterator[Permission]:
    body = request.json
    arn = body.get("stateMachineArn") or body.get("executionArn") or "*"
    yield Permission(f"states:{request.operation}", arn)


def _sns(request: Request) -> Iterator[Permission]:
    yield Permission(f"sns:{request.operation}", request.form.get("TopicArn", "*"))


def _events(request: Request) -> Iterator[Permission]:
    body = request.json
    rule = body.get("Name") or body.get("Rule")
    region = request._scope[2]
    arn = f"arn:aws:events:{region}:{ACCOUNT}:rule/{rule}" if rule else "*"
    yield Permission(f"events:{request.operation}", arn)


def _glue(request: Request) -> Iterator[Permission]:
    body, region = request.json, request._scope[2]
    where = f"arn:aws:glue:{region}:{ACCOUNT}"
    resources = ["catalog"]
    if "DatabaseName" in body:
        resources.append(f"database/{body['DatabaseName']}")
    if "TableName" in body:
        resources.append(f"table/{body['DatabaseName']}/{body['TableName']}")
    for resource in resources:
        yield Permission(f"glue:{request.operation}", f"{where}:{resource}")


def _monitoring(request: Request) -> Iterator[Permission]:
    body = request.form or request.json
    context = {"cloudwatch:namespace": body["Namespace"]} if "Namespace" in body else {}
    yield Permission(f"cloudwatch:{request.operation}", "*", context)


def _cloudformation(request: Request) -> Iterator[Permission]:
    # A stack that is named has an ARN that ends in an id of its own.
    name = request.form.get("StackName")
    arn = f"arn:aws:cloudformation:{request._scope[2]}:{ACCOUNT}:stack/{name}/any" if name else "*"
    yield Permission(f"cloudformation:{request.operation}", arn)


def _budgets(request: Request) -> Iterator[Permission]:
    # Looking at a budget is one action, whatever is asked.
    name = request.json.get("BudgetName", "*")
    yield Permission("budgets:ViewBudget", f"arn:aws:budgets::{ACCOUNT}:budget/{name}")


def _ssm(request: Request) -> Iterator[Permission]:
    name, region = request.json.get("Name"), request._scope[2]
    if name:
        arn = f"arn:aws:ssm:{region}:{ACCOUNT}:parameter/{name.lstrip('/')}"
        yield Permission(f"ssm:{request.operation}", arn)
