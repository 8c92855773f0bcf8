"""Errors of the user's functions: some stop a loop early, others need a remedy in a note."""

from contextlib import contextmanager
from typing import Any, NamedTuple

LIMIT = 10  # evaluations that fail alike, from the first on, before the error is raised


class Failures(NamedTuple):
    """Counts evaluations for as long as all of them raise the same type of exception.

    One success, another type, or a type in `catch` ends the count for good.

    Attributes:
      catch: exception types that count as failed evaluations and are never raised.
      count: evaluations so far.
      first: the exception of the first evaluation; None once evaluations differ.

    >>> failures = Failures()
    >>> for _ in range(LIMIT):
    ...     failures = failures.of(KeyError("lr"))
    >>> failures.is_fatal, failures.first
    (True, KeyError('lr'))
    >>> failures = Failures().of(KeyError("lr")).of(None)  # the second evaluation succeeded
    >>> failures.is_fatal, failures.first
    (False, None)
    """

    catch: tuple[type[Exception], ...] = ()
    count: int = 0  # type: ignore[assignment]  # the field hides tuple.count
    first: Exception | None = None

    def of(self, error: Exception | None) -> "Failures":
        """The count after one more evaluation, which raised `error` or, with None, returned a number."""
        counts = error is not None and not isinstance(error, self.catch)
        alike = counts and (self.count == 0 or type(error) is type(self.first))
        return self._replace(
            count=self.count + 1,
            first=(error if self.first is None else self.first) if alike else None,
        )

    @property
    def is_fatal(self) -> bool:
        """Whether the first `LIMIT` evaluations all failed alike: raise `explained()`."""
        return self.first is not None and self.count >= LIMIT

    def explained(self) -> Exception:
        """The first exception, with a note that names the count and `catch`.

        Also for the end of a loop with fewer evaluations, if `first` is not None.
        """
        if self.first is None:
            raise ValueError("evaluations differ: no exception explains them.")
        name = type(self.first).__name__
        note = (
            f"All {self.count} evaluations raised {name}. "
            f"Pass catch=({name},) to count them as failed evaluations instead."
        )
        if note not in getattr(self.first, "__notes__", []):
            self.first.add_note(note)
        return self.first


def as_catch(catch) -> tuple[type[Exception], ...]:
    """The argument `catch` of a host loop, a tuple of exception types.

    Raises:
      TypeError: anything else.
    """
    if isinstance(catch, tuple) and all(
        isinstance(kind, type) and issubclass(kind, Exception) for kind in catch
    ):
        return catch
    raise TypeError(
        f"catch must be a tuple of exception types, such as (RuntimeError,), got {catch!r}."
    )


def attach(error: BaseException, partial_result: Any) -> None:
    """Gives the user the result so far, as an attribute of the exception that ends the call.

    >>> error = RuntimeError("disk full")
    >>> attach(error, 3)
    >>> error.partial_result
    3
    """
    vars(error)["partial_result"] = partial_result


@contextmanager
def unbatchable(remedy: str):
    """Adds a remedy to the errors of functions that JAX cannot `vmap`, such as ordered callbacks."""
    try:
        yield
    except (NotImplementedError, ValueError) as error:  # ordered callbacks raise ValueError
        if isinstance(error, NotImplementedError) or "vmap" in str(error):
            error.add_note(remedy)
        raise
