"""Optional packages, imported when a function first needs them."""

import importlib
from typing import Any


def require(name: str, extra: str) -> Any:
    """Imports an optional module; if it is missing, the error names the extra that installs it.

    >>> require("no_such_module", "finetune")
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_module is missing; install it: python -m pip install "zojax[finetune]"
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        remedy = f'install it: python -m pip install "zojax[{extra}]"'
        raise ModuleNotFoundError(f"{name} is missing; {remedy}", name=error.name) from error
