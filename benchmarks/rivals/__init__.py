"""Contestants of gradient estimation: one file each behind one function, `build(work, **settings)`.

It returns a `Program`, one compiled step from a carry to a carry, or a `Host` for what is no JAX program.
The same work has the same loss, data and number of evaluations for all; what a contestant does apart from
that is said in its file.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Program(NamedTuple):
    """Attributes:
    step: `(carry, batch) -> carry`; it is compiled, with the carry donated.
    start: `params -> carry`.
    """

    step: Callable
    start: Callable = lambda params: params


class Host(NamedTuple):
    """Attributes:
    run: `() -> None`, one step.
    """

    run: Callable[[], Any]


class Rival(NamedTuple):
    """Attributes:
    module: a file of this folder.
    settings: of its `build`.
    environment: a name in `benchmarks.environments`, or None for the running one.
    limit: parameters that it can handle, or None.
    beyond: why it has that limit.
    exact: it computes a derivative, not an estimate from values.
    """

    module: str
    settings: dict = {}
    environment: str | None = None
    limit: int | None = None
    beyond: str = ""
    exact: bool = False


_LISTS = "its points are Python lists"
_DENSE = "one point takes minutes"

RIVALS = {
    "inference": Rival("inference"),
    "inference, batched": Rival("inference", {"batched": True}),
    "zojax, signs": Rival("ours"),
    "zojax, normal": Rival("ours", {"direction": "normal"}),
    "zojax, low rank": Rival("ours", {"direction": "low_rank"}),
    "zojax, low rank, normal": Rival("ours", {"direction": "low_rank", "factors": "normal"}),
    "naive vmap": Rival("naive", {"how": "vmap"}),
    "naive lax.map": Rival("naive", {"how": "map"}),
    "jax.grad": Rival("backpropagation", exact=True),
    "jax.grad, checkpointed": Rival("backpropagation", {"checkpoint": True}, exact=True),
    "jvp": Rival("forward_gradient", exact=True),
    "evosax Open_ES": Rival("evosax", {"name": "Open_ES"}),
    "evosax PGPE": Rival("evosax", {"name": "PGPE"}),
    "evosax SNES": Rival("evosax", {"name": "SNES"}),
    "optax make_perturbed_fun": Rival("perturbed"),
    "shardes, low rank": Rival("shardes", {"strategy": "LowRank"}, "shardes"),
    "shardes, regenerated": Rival("shardes", {"strategy": "SeedRegenerated"}, "shardes"),
    "PyTorch MeZO": Rival("torch_mezo", {}, "torch"),
    "nevergrad OnePlusOne": Rival(
        "search", {"name": "nevergrad OnePlusOne", "bounded": False}, None, 10**6, _DENSE
    ),
    "pycma, diagonal": Rival("search", {"name": "pycma", "bounded": False}, None, 10**6, _DENSE),
    "zoopt": Rival("search", {"name": "zoopt"}, None, 10**4, _LISTS),
}
