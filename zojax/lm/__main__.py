"""Language models from the command line: `python -m zojax.lm COMMAND`.

`python -m zojax.examples.finetune` trains the models that these commands read.
"""

import argparse
import sys

from zojax.lm.assets import AssetError
from zojax.lm.commands import generate, rl

COMMANDS = {"generate": generate, "rl": rl}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m zojax.lm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0; 2 if arguments or files do not fit.",
    )
    added = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(
            added.add_parser(
                name,
                help=command.HELP,
                description=command.__doc__,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )
    args = parser.parse_args(argv)
    try:
        return COMMANDS[args.command].run(args)
    except (AssetError, ModuleNotFoundError, OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog} {args.command}: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
