"""Searches of zojax inside other tools: `ZojaxSampler` for Optuna, `ZojaxSearch` for Ray Tune.

Each needs its tool: `pip install "zojax[optuna]"` or `pip install "zojax[ray]"`.
"""

import importlib
import typing as _typing

__all__ = ["ZojaxSampler", "ZojaxSearch"]
_FILES = {"ZojaxSampler": "optuna", "ZojaxSearch": "ray"}

if _typing.TYPE_CHECKING:
    from zojax.search.adapters._optuna import ZojaxSampler as ZojaxSampler
    from zojax.search.adapters._ray import ZojaxSearch as ZojaxSearch


def __getattr__(name: str) -> _typing.Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    tool = _FILES[name]
    try:
        return getattr(importlib.import_module(f"{__name__}._{tool}"), name)
    except ImportError as error:
        raise ImportError(f'{name} needs {tool}: pip install "zojax[{tool}]".') from error
