"""Executors for Python objectives: workers that are replaced when they die, and clusters of Ray.

`search.minimize`, `zojax.minimize(jit=False)` and the attacks with `jit=False` take any executor of
`concurrent.futures`. Those of this module add what long runs need:

- a worker that dies is replaced, and its evaluation made again;
- cancelling an evaluation ends it, also while it runs. A search cancels late evaluations (`timeout=`), and
  those that still run at its end.

`evaluate` calls a function on an executor, for loops of `ask` and `tell`.
"""

from zojax._evaluation import WorkerDied
from zojax.executors._evaluate import evaluate
from zojax.executors._ray import ray, ray_actors
from zojax.executors._restarted import restarted

__all__ = ["WorkerDied", "evaluate", "ray", "ray_actors", "restarted"]
