"""Spark's own history server, here, over the event logs of a deployment: ``make history``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from operations.account import AccountError, configured, find_account
from orchard.cloud.stack import find_stack
from orchard.spark_history import PORT, fetch, serve
from spark_job.errors import JobError
from stacks.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the logs, and serve them until interrupted."""
    parser = argparse.ArgumentParser(prog="make history", description=__doc__)
    parser.add_argument("--logs", type=Path, help="a folder of event logs instead of the stack's")
    parser.add_argument("--port", type=int, default=PORT)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.logs
        if folder is None:
            folder = Path(scratch)
            try:
                config = configured()
                os.environ["AWS_REGION"] = find_account(config).region
                fetched = fetch(find_stack(config.name).logs, folder)
            except (AccountError, ConfigError, JobError) as error:
                sys.exit(f"orchard: {error}")
            print(f"fetched {fetched} files of event logs", flush=True)
        print(f"Spark's history is at http://localhost:{given.port} until Ctrl-C", flush=True)
        try:
            serve(folder, given.port)
        except KeyboardInterrupt:
            return 130
        except JobError as error:
            sys.exit(f"orchard: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
