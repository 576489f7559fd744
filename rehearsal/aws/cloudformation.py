"""Stacks in the local AWS: moto's CloudFormation, and what it does otherwise than AWS.

moto 5.2 makes resources well enough. In an update and a deletion, it

- deletes what a new template lacks, and what is replaced, whatever their policies say;
- remembers what it has deleted, and does not make it again when a later template has it again;
- forgets a changed resource of a type that it cannot update, and makes some that AWS would change
  in place (topics, rules, security groups) anew, under another name;
- neither refuses to lose an export that another stack imports, nor notes exports that are new;
- says that a bucket is deleted which is not empty, and loses a stack that could not be deleted;
- leaves VPC endpoints, route tables and their associations, and then cannot delete the VPC.

So resources are kept, replaced or deleted here before moto comes to them, and a change of a type
that is neither in `_UPDATED_BY_MOTO` nor in `_UPDATED_LATER` nor in `_REPLACED` is refused: nobody
has looked at what moto does with it.

What remains otherwise than on AWS: all is done at once; what a new template lacks is deleted first
and not last; nothing is rolled back; deleted resources are not listed any more; what refers to a
replaced resource is not updated unless its own text has changed, but for state machines and
parameters.
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from moto.cloudformation.models import cloudformation_backends
from moto.cloudformation.parsing import clean_json

from rehearsal.aws.calls import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rehearsal.aws.endpoint import Endpoint

NOT_REHEARSED = (
    "AWS::Athena::",
    "AWS::Budgets::",
    "AWS::CDK::Metadata",
    "AWS::CloudWatch::",
    "AWS::EC2::FlowLog",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::Glue::",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
)
"""Resource types that moto cannot make, or not whole, and that no other resource needs made."""

_UPDATED_BY_MOTO = ("AWS::IAM::Policy", "AWS::SSM::Parameter")

_UPDATED_LATER = (
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Role",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::StepFunctions::StateMachine",
)
"""What `rehearsal.aws.completion` changes in place."""

_REPLACED = ("AWS::EMR::SecurityConfiguration",)


class StackError(RuntimeError):
    """Why CloudFormation would not do it, or could not."""


def create(endpoint: Endpoint, name: str, template: Mapping[str, Any]) -> None:
    """Make a stack.

    Raises
    ------
    StackError
        If it could not be made.
    """
    template = _with_budgets_named(name, template)
    endpoint.client("cloudformation").create_stack(
        StackName=name,
        TemplateBody=json.dumps(_rehearsed(template)),
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    made = find(endpoint, name)
    if made.status != "CREATE_COMPLETE":
        raise StackError(f"{name} is {made.status} in the local AWS.")
    made.template = json.dumps(template)


def update(endpoint: Endpoint, name: str, template: Mapping[str, Any]) -> None:
    """Change a stack into what another template says.

    Raises
    ------
    StackError
        If the stack is in a state that allows no update, or would lose what another one imports.
    NotImplementedError
        If a resource changes of which it is not known what moto would do with it.
    """
    template = _with_budgets_named(name, template)
    stack, made = find(endpoint, name), _rehearsed(template)
    if stack.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise StackError(f"{name} is in {stack.status} state and can not be updated.")
    resources = stack.resource_map
    before, after = resources._resource_json_map, made["Resources"]
    refuse_lost_exports(endpoint, name, _exports(template))
    removed = before.keys() - after.keys()
    for logical in removed:
        if before[logical].get("DeletionPolicy") == "Retain":
            _forget(resources, logical)
        else:
            _delete_what_moto_leaves(endpoint, resources, logical)
    for logical in after.keys() & before.keys():
        if before[logical] != after[logical]:
            _prepare_change(resources, logical, after[logical])
    if after != before or _outputs(stack) != made.get("Outputs", {}):
        endpoint.client("cloudformation").update_stack(
            StackName=name,
            TemplateBody=json.dumps(made),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
    for logical in removed:
        resources._parsed_resources.pop(logical, None)
    stack.template = json.dumps(template)
    _register_exports(endpoint, stack)


def delete(endpoint: Endpoint, name: str) -> None:
    """Delete a stack, but for what its template retains.

    Raises
    ------
    StackError
        If another stack imports what it exports, or something could not be deleted: the stack is
        then `DELETE_FAILED`, and has only what could not be, what that refers to, and what is
        retained.
    """
    refuse_lost_exports(endpoint, name)
    stack = find(endpoint, name)
    resources, outputs = stack.resource_map, _outputs(stack)
    # Asking for an output later would make the resource again that it names.
    stack.output_map._output_json_map = clean_json(outputs, resources)
    texts = dict(resources._resource_json_map)
    wanted = {each for each, text in texts.items() if text.get("DeletionPolicy") != "Retain"}
    failed = sorted(logical for logical in wanted if _in_use(endpoint, resources, logical))
    stuck = _with_what_they_name(texts, failed)
    # Endpoints first: moto takes them out of their route tables.
    for logical in sorted(wanted - stuck, key=lambda each: "Endpoint" not in texts[each]["Type"]):
        _delete_what_moto_leaves(endpoint, resources, logical)
    if not failed:
        endpoint.client("cloudformation").delete_stack(StackName=name)
        return
    resources._resource_json_map = {
        logical: text
        for logical, text in resources._resource_json_map.items()
        if logical in wanted - stuck
    }
    resources.delete()
    left = {each: text for each, text in texts.items() if each not in wanted - stuck}
    resources._resource_json_map = left
    stack.template = json.dumps({"Resources": left})
    stack.status = "DELETE_FAILED"
    raise StackError(f"{name} is DELETE_FAILED: {', '.join(failed)} could not be deleted.")


def find(endpoint: Endpoint, name: str) -> Any:
    """Return moto's model of a stack.

    Raises
    ------
    StackError
        If there is none.
    """
    for stack in _backend(endpoint).stacks.values():
        if stack.name == name:
            return stack
    raise StackError(f"There is no stack {name} in the local AWS.")


def exists(endpoint: Endpoint, name: str) -> bool:
    """Return whether there is a stack of that name."""
    return any(stack.name == name for stack in _backend(endpoint).stacks.values())


def refuse_lost_exports(
    endpoint: Endpoint, name: str, after: Mapping[str, Any] | None = None
) -> None:
    """Refuse that an export goes or changes which another stack imports.

    Parameters
    ----------
    endpoint
        Where the stacks are.
    name
        The stack that exports.
    after
        The values that it is to export, by name; none when it is to be deleted.

    Raises
    ------
    StackError
        With the export and the stack that imports it.
    """
    before = _exports({"Outputs": _outputs(find(endpoint, name))})
    for other in _backend(endpoint).stacks.values():
        imported = _imports(json.loads(other.template)) if other.name != name else ()
        for export in imported:
            if export in before and before[export] != (after or {}).get(export):
                raise StackError(f"Export {export} cannot go: {other.name} imports it.")


def _backend(endpoint: Endpoint) -> Any:
    return cloudformation_backends[ACCOUNT][endpoint.region]


def _with_budgets_named(name: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """Put the names of budgets in, which are not made here and yet are referred to."""
    made = json.dumps(template)
    for logical, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Budgets::Budget":
            made = made.replace(json.dumps({"Ref": logical}), json.dumps(f"{name}-{logical}"))
    named: dict[str, Any] = json.loads(made)
    return named


def _rehearsed(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return what moto is given of a template."""
    made = copy.deepcopy(dict(template))
    made["Resources"] = {
        logical: resource
        for logical, resource in made["Resources"].items()
        if not resource["Type"].startswith(NOT_REHEARSED)
    }
    for resource in made["Resources"].values():
        if resource["Type"] in ("AWS::KMS::Key", "AWS::SSM::Parameter"):
            # moto reads their tags as it does those of a request, which have another form.
            resource["Properties"].pop("Tags", None)
    made.pop("Rules", None)  # The check of the CDK's own bootstrap stack, as its parameter is.
    made.get("Parameters", {}).pop("BootstrapVersion", None)
    return made


def _prepare_change(resources: Any, logical: str, after: dict[str, Any]) -> None:
    """See to it that moto does with a changed resource what CloudFormation would."""
    before = resources._resource_json_map[logical]
    kind = after["Type"]
    if before.get("Properties") == after.get("Properties") or kind in _UPDATED_LATER:
        # The same to moto, so that it is left alone.
        resources._resource_json_map[logical] = copy.deepcopy(after)
    elif kind in _REPLACED:
        if before.get("UpdateReplacePolicy") != "Retain":
            raise NotImplementedError(f"The rehearsal keeps the {kind} that {logical} was.")
        _forget(resources, logical)
    elif kind not in _UPDATED_BY_MOTO:
        raise NotImplementedError(f"The rehearsal cannot change {logical}, a {kind}.")


def _forget(resources: Any, logical: str) -> None:
    """Let moto know no more of a resource, which stays."""
    del resources._resource_json_map[logical]
    resources._parsed_resources.pop(logical, None)


def _delete_what_moto_leaves(endpoint: Endpoint, resources: Any, logical: str) -> None:
    """Delete a resource of a type that moto's CloudFormation cannot delete."""
    found = resources._parsed_resources.get(logical)
    kind, ec2 = resources._resource_json_map[logical]["Type"], endpoint.client("ec2")
    if kind == "AWS::EC2::VPCEndpoint":
        ec2.delete_vpc_endpoints(VpcEndpointIds=[found.id])
    elif kind == "AWS::EC2::RouteTable":
        (table,) = ec2.describe_route_tables(RouteTableIds=[found.id])["RouteTables"]
        for association in table["Associations"]:
            ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
        ec2.delete_route_table(RouteTableId=found.id)
    elif kind != "AWS::EC2::SubnetRouteTableAssociation":
        return
    _forget(resources, logical)


def _in_use(endpoint: Endpoint, resources: Any, logical: str) -> bool:
    """Return whether AWS would refuse to delete a resource."""
    found, texts = resources._parsed_resources[logical], resources._resource_json_map
    kind = texts[logical]["Type"]
    if kind == "AWS::S3::Bucket":
        listed = endpoint.client("s3").list_object_versions(Bucket=found.name, MaxKeys=1)
        return bool(listed.get("Versions") or listed.get("DeleteMarkers"))
    if kind == "AWS::EC2::VPC":
        own = {
            resources._parsed_resources[other].id
            for other, text in texts.items()
            if text["Type"] == "AWS::EC2::VPCEndpoint"
        }
        there = endpoint.client("ec2").describe_vpc_endpoints(
            Filters=[{"Name": "vpc-id", "Values": [found.id]}]
        )["VpcEndpoints"]
        return any(e["VpcEndpointId"] not in own and e["State"] != "deleted" for e in there)
    return False


def _with_what_they_name(texts: Mapping[str, Any], failed: list[str]) -> set[str]:
    """Return resources that could not be deleted, and those that they refer to in turn."""
    found, to_see = set[str](), list(failed)
    while to_see:
        logical = to_see.pop()
        found.add(logical)
        to_see += [name for name in _named(texts[logical]) if name in texts and name not in found]
    return found


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for entry in value:
            yield from _named(entry)
    elif isinstance(value, dict):
        if "Ref" in value:
            yield value["Ref"]
        if "Fn::GetAtt" in value:
            yield value["Fn::GetAtt"][0]
        for entry in value.values():
            yield from _named(entry)


def _outputs(stack: Any) -> dict[str, Any]:
    return dict(stack.output_map._output_json_map or {})


def _exports(template: Mapping[str, Any]) -> dict[str, Any]:
    return {
        output["Export"]["Name"]: output["Value"]
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }


def _imports(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for entry in value:
            yield from _imports(entry)
    elif isinstance(value, dict):
        if "Fn::ImportValue" in value:
            yield str(value["Fn::ImportValue"])
        for entry in value.values():
            yield from _imports(entry)


def _register_exports(endpoint: Endpoint, stack: Any) -> None:
    exports = _backend(endpoint).exports
    for name in [name for name, e in exports.items() if e.exporting_stack_id == stack.stack_id]:
        del exports[name]
    exports.update({export.name: export for export in stack.exports})
