"""Signatures and docstrings, completed by the arguments that all functions of a package share."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
# Where the sections begin: the descriptions of a function's own arguments, or the section after them.
_PLACE = re.compile(r"^(?:Args:\n((?:  .*\n)+)\n)?(?=Raises:|References:|>>> )", re.M)
_ARGUMENT = re.compile(r"^  (\w+): (.*(?:\n    .*)*)", re.M)


def completed(
    function: F, shared: Mapping[str, str], ending: str, options: type, defaults: Mapping[str, Any]
) -> F:
    """Completes a function that ends in `**options: Unpack[SomeTypedDict]`, or has no such arguments.

    Args:
      shared: descriptions of arguments. The function's section "Args:" describes the others, and may
        describe a shared one anew. An argument without a description is a KeyError.
      ending: the sections after the arguments.
      options: the `TypedDict`, whose names replace `**options` in the signature.
      defaults: of these names; None for the others.
    """
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    is_open = len(parameters) < len(signature.parameters)
    if is_open:
        for name, kind in options.__annotations__.items():
            given: dict = {"default": defaults.get(name), "annotation": kind}
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, **given))
        vars(function)["__signature__"] = signature.replace(parameters=parameters)
    if function.__doc__:  # none under python -OO
        text = inspect.cleandoc(function.__doc__)
        place = _PLACE.search(text)
        if place is None:
            raise ValueError(f"{function.__name__} has no section after its arguments.")
        texts = dict(shared) | dict(_ARGUMENT.findall(place[1] or ""))
        arguments = [f"  {p.name}: {texts[p.name]}" for p in parameters]
        parts = [text[: place.start()] + "Args:", *arguments, "", ending, "", text[place.end() :]]
        function.__doc__ = "\n".join(parts)
    return _refusing(function, [p.name for p in parameters]) if is_open else function


def _refusing(function: F, names: list[str]) -> F:
    """Refuses other keywords, which Python lets through to a function further below."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        unknown = [name for name in options if name not in names]
        if unknown:
            takes = ", ".join(names)
            raise TypeError(f"{function.__name__}() got {unknown[0]!r}, but it takes {takes}.")
        return function(*args, **options)

    return cast(F, call)
