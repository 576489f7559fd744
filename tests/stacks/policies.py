"""The policies of a synthesized template, with every reference filled in as a deployment would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ACCOUNT = "123456789012"
REGION = "eu-west-1"

_ARNS = {
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{name}}",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{name}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{{name}}",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{{name}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{name}}:*",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{name}}",
}
# Of these, a Ref is the ARN and not the name.
_REF_IS_ARN = {"AWS::SNS::Topic", "AWS::StepFunctions::StateMachine"}


class Deployed:
    """A template's resources as if they were deployed, each named after its logical id."""

    def __init__(self, template: Mapping[str, Any], stack_name: str) -> None:
        self._resources: Mapping[str, Any] = template["Resources"]
        self._pseudo = {
            "AWS::Partition": "aws",
            "AWS::AccountId": ACCOUNT,
            "AWS::Region": REGION,
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::StackName": stack_name,
        }

    def resolve(self, value: Any) -> Any:
        """Return a template's value with its references filled in."""
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "Ref" in value:
            return self._pseudo.get(value["Ref"]) or self._ref(value["Ref"])
        if "Fn::GetAtt" in value:
            name, attribute = value["Fn::GetAtt"]
            return self.arn(name) if attribute == "Arn" else self.name(name)
        if "Fn::Join" in value:
            separator, parts = value["Fn::Join"]
            return separator.join(self.resolve(parts))
        if "Fn::Sub" in value:
            text = str(value["Fn::Sub"])
            for name, filled in self._pseudo.items():
                text = text.replace(f"${{{name}}}", filled)
            return text
        return {key: self.resolve(item) for key, item in value.items()}

    def find(self, kind: str, part: str = "") -> str:
        """Return the logical id of the one resource of a kind whose id has a part."""
        (found,) = (
            name for name, r in self._resources.items() if r["Type"] == kind and part in name
        )
        return found

    def name(self, logical_id: str) -> str:
        """Return the name that a resource would have."""
        resource = self._resources[logical_id]
        if resource["Type"] == "AWS::SSM::Parameter":
            return str(resource["Properties"]["Name"])
        return logical_id.lower() if resource["Type"] == "AWS::S3::Bucket" else logical_id

    def arn(self, logical_id: str) -> str:
        """Return the ARN that a resource would have."""
        return _ARNS[self._resources[logical_id]["Type"]].format(name=self.name(logical_id))

    def policies(self, role: str) -> tuple[dict[str, Any], ...]:
        """Return the inline policies of a role, by its logical id."""
        return tuple(
            self.resolve(resource["Properties"]["PolicyDocument"])
            for resource in self._resources.values()
            if resource["Type"] == "AWS::IAM::Policy"
            and {"Ref": role} in resource["Properties"]["Roles"]
        )

    def state_machines(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield each state machine's logical id, its role's, and its definition."""
        for name, resource in self._resources.items():
            if resource["Type"] == "AWS::StepFunctions::StateMachine":
                properties = resource["Properties"]
                definition = json.loads(self.resolve(properties["DefinitionString"]))
                yield name, properties["RoleArn"]["Fn::GetAtt"][0], definition

    def _ref(self, logical_id: str) -> str:
        kind = self._resources[logical_id]["Type"]
        return self.arn(logical_id) if kind in _REF_IS_ARN else self.name(logical_id)
