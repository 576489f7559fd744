"""The entry point: ``orchard``, or ``python -m orchard``."""

from orchard.app import app


def main() -> None:
    """Run a command; ends this process with one of the codes in ``orchard --help``."""
    app(prog_name="orchard")


if __name__ == "__main__":
    main()
