"""Contestants: one file each behind one function, `build(work, **settings)`.

It returns a `Program`, one compiled step from a carry to a carry, or a `Host` for any other step. All
contestants of a work have the same loss, data and evaluations; a file says where one differs.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Program(NamedTuple):
    """One step, which is compiled with its carry donated."""

    step: Callable  # (carry, batch) -> carry
    start: Callable = lambda params: params  # params -> carry
    facts: Callable[[], dict] = dict  # columns of its row
    amount: float = 1  # work in a step; ratios are of seconds per unit of it


class Host(NamedTuple):
    """One step as a call. Its fact `values` is a list with one value a step."""

    run: Callable[[], Any]
    amount: float = 1
    facts: Callable[[], dict] = dict  # asked after the last step
    clock: Callable[[], float] = time.perf_counter


def once(run: Callable[[], dict], amount: float = 1) -> Host:
    """A step that is a whole run; its result are the facts."""
    found: dict = {}
    return Host(lambda: found.update(run()), amount, lambda: found)


class Contestant(NamedTuple):
    module: str  # a file of this folder
    settings: dict = {}  # of its `build`
    environment: str | None = None  # a name in `benchmarks.environments`, or the running one
    limit: int | None = None  # of parameters
    beyond: str = ""  # the reason of that limit
    exact: bool = False  # it computes a derivative, not an estimate from values
    devices: int | None = None  # of a mesh, on the host; `build` takes them, or the target's


_DENSE = "one point takes minutes"
# Handling of noise by zoopt.
_SUPPRESSION: dict[str, Any] = dict(
    noise_handling=True,
    suppression=True,
    non_update_allowed=500,
    resample_times=100,
    balance_rate=0.5,
    positive_size=5,
    reserve=500,
)
_RESAMPLING: dict[str, Any] = {"noise_handling": True, "resampling": True, "resample_times": 10}


def _search(of: str, limit: int | None = None, beyond: str = "", **settings) -> Contestant:
    return Contestant("search", {"of": of, **settings}, None, limit, beyond)


def _ours(algorithm: str, **settings) -> Contestant:
    return Contestant("search_ours", {"algorithm": algorithm, **settings})


def _each(module: str, setting: str, prefix: str, *names: str) -> dict[str, Contestant]:
    """A contestant for each value of a setting of a file."""
    return {prefix + name: Contestant(module, {setting: name}) for name in names}


GRADIENTS = {
    "forward": Contestant("inference", {"how": "once"}),
    "inference": Contestant("inference"),
    "inference, batched": Contestant("inference", {"how": "batched"}),
    "two forwards": Contestant("inference", {"how": "calls"}),
    "two forwards, one program": Contestant("inference", {"how": "unrolled"}),
    "two forwards in a loop": Contestant("inference", {"how": "loop"}),
    "zojax, signs": Contestant("ours"),
    "zojax, normal": Contestant("ours", {"direction": "normal"}),
    "zojax, low rank": Contestant("ours", {"direction": "low_rank"}),
    "zojax, low rank, normal": Contestant("ours", {"direction": "low_rank", "factors": "normal"}),
    "naive vmap": Contestant("naive", {"how": "vmap"}),
    "naive lax.map": Contestant("naive", {"how": "map"}),
    "jax.grad": Contestant("backpropagation", exact=True),
    "jax.grad, checkpointed": Contestant("backpropagation", {"checkpoint": True}, exact=True),
    "jax.grad, adam": Contestant("backpropagation", {"adam": True}, exact=True),
    "jvp": Contestant("forward_gradient", exact=True),
    "evosax Open_ES": Contestant("evosax", {"name": "Open_ES"}),
    "evosax PGPE": Contestant("evosax", {"name": "PGPE"}),
    "evosax SNES": Contestant("evosax", {"name": "SNES"}),
    "optax make_perturbed_fun": Contestant("perturbed"),
    "shardes, low rank": Contestant("shardes", {"strategy": "LowRank"}, "shardes"),
    "shardes, regenerated": Contestant("shardes", {"strategy": "SeedRegenerated"}, "shardes"),
    "PyTorch MeZO": Contestant("torch_mezo", {}, "torch"),
}
SEARCHES = {
    "zoopt": _search("zoopt", 10**4, "its points are Python lists"),
    "nevergrad OnePlusOne": _search("nevergrad", 10**6, _DENSE, name="OnePlusOne"),
    "nevergrad CMA": _search("nevergrad", name="CMA"),
    "pycma": _search("pycma", 10**6, _DENSE),
    "evosax CMA_ES": _search("evosax", name="CMA_ES"),
    "scipy DE": _search("scipy"),
    "pycma BIPOP": _search("pycma_bipop"),
    "scipy L-BFGS-B": _search("scipy_local", method="L-BFGS-B"),
    "scipy COBYQA": _search("scipy_local", method="COBYQA"),
    "Optuna TPE": _search("optuna"),
    "coordinate reset": _search("controls", method="reset"),
    "random search": _search("controls", method="random"),
    "zoopt resampling x10": _search("zoopt", **_RESAMPLING),
    "zoopt suppression, P = 5": _search("zoopt", **_SUPPRESSION),
    "zoopt SRE": _search("zoopt", low=10),
    "zojax default": _ours("default"),
    "zojax default, host": _ours("default", workers=1),
    "zojax default, 8 workers": _ours("default", workers=8),
    "zojax cma_es": _ours("cma_es"),
    "zojax quasi_newton": _ours("quasi_newton"),
    "zojax default, 16 random first": _ours("default", start=16),
    "zojax default, x10": _ours("default", resample=10),
    "zojax sracos": _ours("sracos"),
    "zojax sracos(parity=True), x10": _ours("sracos", parity=True, resample=10),
    "zojax ssracos": _ours("ssracos"),
    "zojax ssracos, 20 after 50": _ours("ssracos", times=20, idle=50),
    "zojax sre(sracos())": _ours("sre"),
    "zojax coordinate_reset": _ours("coordinate_reset"),
    "zojax random_search": _ours("random_search"),
}
SPEEDS = {
    f"zojax {name}, {label}": Contestant("search_speed", {"algorithm": name, "runs": runs})
    for name in ("sracos(parity=True)", "sracos", "default")
    for label, runs in {"NumPy function": 0, "1 run": 1, "256 runs": 256}.items()
} | {"zoopt, a slice": Contestant("search_speed", {"algorithm": "zoopt"})}
BATCHES = {
    f"{label}, {size or 'default'} at once": Contestant(
        "ours", {"direction": of, "batch_size": size}
    )
    for label, of in (("signs", "rademacher"), ("low rank", "low_rank"))
    for size in (None, 1, 2, 4, 8, 16, 32, 64, 128, 256)
}
NOISES = _each(
    "noise",
    "kind",
    "",
    "scaled copy",
    "zojax signs",
    "zojax normals",
    "jax.random.rademacher",
    "jax.random.normal",
)
POPULATIONS = _each(
    "population",
    "kind",
    "",
    "plain inference",
    "zojax, evaluation alone",
    "zojax, generation",
)
POLICIES = {
    "zojax OpenES, dense": Contestant("policy", {"direction": "normal"}),
    "zojax OpenES, low rank": Contestant("policy", {"direction": "low_rank"}),
    "evosax OpenES": Contestant("policy"),
}
COMPILATIONS = _each(
    "compiling",
    "of",
    "compile ",
    "forward",
    "two forwards, one program",
    "jax.grad",
    "zojax, signs",
    "zojax, normal",
    "zojax, low rank",
)
FIRST_CALLS = _each(
    "first_call",
    "call",
    "first call of ",
    "jax.grad",
    "SPSA by hand",
    "value_and_grad",
    "value_and_grad, low rank",
    "mezo",
    "minimize",
    "search of a host function",
)
COSINES = _each(
    "cosine",
    "name",
    "direction ",
    "rademacher",
    "normal",
    "sphere",
    "coordinate",
    "orthogonal",
    "hadamard",
    "low_rank",
    "masked",
    "sparse",
)
TRAININGS = _each(
    "training",
    "name",
    "train ",
    "mezo",
    "zo_sgd, momentum",
    "spsa",
    "adam, 4 directions",
    "open_es, 16",
    "ars, 8 directions",
    "jax.grad, adam",
    "jax.grad checkpointed, adam",
)
PRECISIONS = {"train float32": Contestant("precision", {"dtype": "float32"})} | {
    f"train bfloat16, {how}": Contestant("precision", {"dtype": "bfloat16", "rounding": how})
    for how in ("nearest", "stochastic", "compensated")
}
LOW_PRECISIONS = _each(
    "low_precision",
    "method",
    "step of ",
    "mezo",
    "mezo, stochastic rounding",
    "mezo, compensated rounding",
    "qzo, stochastic rounding",
    "qes",
)
ATTACKS = {
    **_each("attack", "by", "attack by ", "zojax", "ART"),
    "attack by zojax, fewer queries": Contestant("attack", {"by": "zojax", "enough": True}),
    **_each("label_attack", "by", "labels by ", "zojax", "ART"),
}
HOST_SEARCHES = _each(
    "host_search",
    "method",
    "search by ",
    "default",
    "cma_es",
    "sracos",
    "nsga2",
    "turbo",
    "pycma",
    "Optuna TPE",
)
REWARDS = {
    "the most frequent answer": Contestant("rewards", {"method": "constant"}),
    "eggroll on rewards": Contestant("rewards", {"method": "eggroll"}),
    "mezo on accuracy": Contestant("rewards", {"method": "accuracy"}),
    "mezo on likelihood": Contestant("rewards", {"method": "likelihood"}),
    "untrained": Contestant("rewards", {"method": "untrained"}),
}
EXECUTORS = {"executor alone": Contestant("executors")} | _each(
    "executors", "algorithm", "search by ", "batches", "asracos"
)
_LAYOUTS: dict[str, dict] = {
    "forward": {},
    "by hand": {"direction": "by hand"},
    "rademacher": {"direction": "rademacher"},
    "low_rank": {"direction": "low_rank"},
    "rademacher, sliced": {"direction": "rademacher", "update": "sliced"},
}
MESHES = {f"{n}, on a mesh": Contestant("mesh", of, devices=8) for n, of in _LAYOUTS.items()}
MESH_STEPS = {
    "FSDP by hand": Contestant("mesh_step", {"of": "naive", "how": "map"}, devices=8),
    "FSDP by zojax": Contestant("mesh_step", {"of": "ours"}, devices=8),
}
HOST_DEVICES = {
    f"{way}, {n} on the host": Contestant("host_devices", {"way": way}, devices=n)
    for n in (1, 2, 4, 8)
    for way in ("scalars", "sliced", *["evaluations", "sum"] * (n == 1))
}
CHECKS = {
    "drafts": Contestant("decoding"),
    "zojax": Contestant("check"),
    "source code": Contestant("code"),
    "a model of the zoo": Contestant("zoo"),
    "zojax and its design": Contestant("expressions"),
    "a method": Contestant("race"),
    "a method on reviews": Contestant("race_reviews"),
    "a precision on reviews": Contestant("low_precision_reviews"),
    "the compiler's counts": Contestant("scaling"),
    "device and CPU": Contestant("self_check"),
}
CONTESTANTS: dict[str, Contestant] = {
    **(GRADIENTS | SEARCHES | SPEEDS | BATCHES | NOISES | POPULATIONS | POLICIES),
    **(COMPILATIONS | FIRST_CALLS | COSINES | TRAININGS | ATTACKS | CHECKS),
    **(PRECISIONS | LOW_PRECISIONS | EXECUTORS | REWARDS | HOST_SEARCHES | MESHES | MESH_STEPS),
    **HOST_DEVICES,
}
