"""The entry point: ``orchard``, or ``python -m orchard``."""

import sys


def main() -> None:
    """Run a command; ends this process with one of the codes in ``orchard --help``."""
    try:
        from orchard.app import app
    except ImportError as error:  # or this Python has not what Orchard's 3.11 has
        sys.exit(
            f"orchard: error: something is missing that Orchard needs ({error}); install it again, "
            "with Python 3.11 on Linux or macOS"
        )
    app(prog_name="orchard")


if __name__ == "__main__":
    main()
