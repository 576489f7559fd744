"""Write the policies that an organisation gives to a deployer and to CloudFormation, as JSON.

They are derived from the code and from AWS' schemas and checked by a policy simulator, and not yet
tried in an account.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from operations.acceptance import STACK
from operations.account import AccountError, configured
from operations.deployer import deployer
from operations.execution import execution
from operations.statements import Scope, document
from stacks.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER: Final = Path("build") / "permissions"


def policies(stack: str, account: str = "*", region: str = "*") -> dict[str, dict[str, Any]]:
    """Return the policies by name.

    Parameters
    ----------
    stack
        The name of the stack; the one of the acceptance trial is covered too.
    account, region
        Where only; anywhere when not given.
    """
    scope = Scope(tuple(dict.fromkeys((stack, STACK))), account, region)
    parts = {f"cloudformation-{name}": part for name, part in execution(scope).items()}
    return {
        name: document(statements)
        for name, statements in {"deployer": deployer(scope, STACK), **parts}.items()
    }


def write(folder: Path, made: dict[str, dict[str, Any]]) -> None:
    """Write each policy into a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, policy in made.items():
        (folder / f"{name}.json").write_text(json.dumps(policy, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write them for the stack of `cdk.json`, and say what to do with them."""
    parser = argparse.ArgumentParser(prog="make permissions", description=__doc__)
    parser.add_argument("--account", default="*", help="the account's number; any when not given")
    parser.add_argument("--region", default="*", help="the region; any when not given")
    parser.add_argument("--output", type=Path, default=FOLDER, help="the folder to write into")
    given = parser.parse_args(arguments)
    try:
        made = policies(configured().name, given.account, given.region)
    except (AccountError, ConfigError) as error:
        sys.exit(f"orchard: {error}")
    write(given.output, made)
    for name in made:
        print(given.output / f"{name}.json")


if __name__ == "__main__":
    main()
