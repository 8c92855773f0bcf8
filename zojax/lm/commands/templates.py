"""Lists the templates of public datasets: columns, kind and prompt.

python -m zojax.lm templates
python -m zojax.lm templates rte sst2
"""

import argparse

from zojax.lm.templates import ALIASES, TEMPLATES

HELP = "list the prompts of public datasets and the columns that they need"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of them; all by default")


def run(args: argparse.Namespace) -> int:
    """Prints each template."""
    for name in args.names or TEMPLATES:
        if name not in TEMPLATES:
            raise ValueError(f"NAME must be one of {', '.join(TEMPLATES)}, got {name}.")
        template = TEMPLATES[name]
        columns = ["/".join((c, *ALIASES.get(c, ()))) for c in template.columns]
        print(f"{name}  ({template.kind})")
        print(f"  columns  {', '.join(columns)}")
        print(f"  prompt   {template.prompt!r}")
        if template.mask:
            print(f"  encoder  {template.mask!r}")
    return 0
