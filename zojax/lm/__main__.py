"""Language models from the command line: `python -m zojax.lm COMMAND`.

    python -m zojax.lm templates                          the datasets with a prompt
    python -m zojax.lm evaluate --weights FOLDER --task rte.jsonl --template rte
    python -m zojax.examples.finetune --weights FOLDER --task rte.jsonl --template rte --save tuned
    python -m zojax.lm generate --weights tuned "The capital of France is"
    python -m zojax.lm rl --task products --folder run    rewards for generated text

`python -m zojax.lm COMMAND --help` explains a command.
"""

import argparse
import sys

from zojax.lm.assets import AssetError
from zojax.lm.commands import evaluate, generate, rl, templates

COMMANDS = {"evaluate": evaluate, "generate": generate, "rl": rl, "templates": templates}


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
