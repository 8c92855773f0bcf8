"""Optional packages, imported when a function first needs them."""

import importlib
from typing import Any


def require(name: str, extra: str = "finetune") -> Any:
    """Imports an optional module.

    Args:
      name: of the module.
      extra: of zojax, which installs it.

    Returns:
      The module.

    Raises:
      ModuleNotFoundError: if it is missing; the message names the extra.

    >>> require("no_such_module")
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_module is missing; install it: python -m pip install "zojax[finetune]"
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        remedy = f'install it: python -m pip install "zojax[{extra}]"'
        raise ModuleNotFoundError(f"{name} is missing; {remedy}", name=error.name) from error
