"""The CDK application: the configuration in cdk.json becomes the stacks of one deployment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from aws_cdk import App

from stacks.config import ConfigError, OrchardConfig
from stacks.notebooks.notebook_stack import InteractiveStack
from stacks.pipeline_stack import PipelineStack

_HERE = Path(__file__).parent


def main() -> None:
    """Synthesize the stacks that the configuration asks for."""
    # The CDK CLI passes cdk.json's context and its own folder; a plain `python app.py` does not.
    app = App(
        context=json.loads((_HERE / "cdk.json").read_text())["context"],
        outdir=os.environ.get("CDK_OUTDIR", str(_HERE / "cdk.out")),
    )
    config = OrchardConfig.from_context(app.node)
    pipeline = PipelineStack(app, config.name, config=config)
    if config.interactive:
        InteractiveStack(app, f"{config.name}-notebooks", config=config, pipeline=pipeline)

    assembly = app.synth()
    if "CDK_OUTDIR" not in os.environ:
        for stack in assembly.stacks:
            for message in stack.messages:
                print(f"{stack.stack_name}: {message.entry.data}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"orchard: {error}")
