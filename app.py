"""The CDK application: the configuration in cdk.json becomes the stacks of one deployment."""

from __future__ import annotations

import sys

from aws_cdk import App

from stacks.config import ConfigError, OrchardConfig
from stacks.pipeline_stack import PipelineStack


def main() -> None:
    """Synthesize the stacks that the configuration asks for."""
    app = App()
    config = OrchardConfig.from_context(app.node)
    PipelineStack(app, config.name, config=config)
    app.synth()


if __name__ == "__main__":
    try:
        main()
    except ConfigError as error:
        sys.exit(f"orchard: {error}")
