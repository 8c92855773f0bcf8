"""Optional packages of language models."""

from typing import Any

from zojax import _extras


def require(name: str, extra: str = "finetune") -> Any:
    """`zojax._extras.require` for the extra `finetune`."""
    return _extras.require(name, extra)
