"""`minimize`: a whole run in one call."""

from zojax._minimize.driver import minimize
from zojax._minimize.result import MinimizeResult, Progress

__all__ = ["MinimizeResult", "Progress", "minimize"]
