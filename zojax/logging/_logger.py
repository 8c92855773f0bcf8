"""`Logger`: a callback and context manager around a function that writes scalars."""

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol

Write = Callable[[int, Mapping[str, float]], None]


class HasScalars(Protocol):
    """The progress of a run: `(step, {name: number})` of each step since the last call."""

    def scalars(self) -> Iterable[tuple[int, Mapping[str, float]]]: ...


class Logger:
    """A callback that writes scalars; a context manager that closes what it writes to.

    Make your own from two functions:

    >>> from zojax.logging import Logger
    >>> log = Logger(lambda step, scalars: print(step, scalars))
    >>> log.write(1, {"loss": 0.5})
    1 {'loss': 0.5}

    Args:
      write: `(step, {name: number}) -> None`.
      close: `() -> None`.
    """

    def __init__(self, write: Write, close: Callable[[], None] = lambda: None):
        self.write, self.close = write, close

    def __call__(self, progress: HasScalars) -> None:
        """Writes the scalars of a progress; returns None, so the run goes on."""
        scalars = getattr(progress, "scalars", None)
        if scalars is None:
            raise TypeError(
                "a logger takes the progress of a run, an object with a method scalars(), got a "
                f"{type(progress).__name__}; call log.write(step, {{name: number}})."
            )
        for step, values in scalars():
            self.write(step, values)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def both(*callbacks: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """One callback of several; the run ends if one returns a true value.

    >>> stop_at = lambda progress: progress >= 3
    >>> both(print, stop_at)(3)
    3
    True
    """

    def callback(progress: Any) -> bool:
        return any([bool(callback(progress)) for callback in callbacks])

    return callback
