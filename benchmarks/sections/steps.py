"""One step of equal work beside other libraries: sphere, MLP, language models, populations."""

from benchmarks.contestants import GRADIENTS
from benchmarks.sections.section import CPU, Section, entry, plural, power
from benchmarks.tables import contest

# The bases of ratios, after the floor: zojax by default, and like for like with peers that draw normals.
SIGNS, LOW_RANK = ("zojax, signs", "zojax, normal"), ("zojax, low rank", "zojax, low rank, normal")
HOSTS = ("nevergrad OnePlusOne", "pycma", "zoopt")
_OF_COSTS = {"forward", "two forwards", "two forwards, one program", "two forwards in a loop"}
_EVERY = [name for name in GRADIENTS if name not in _OF_COSTS | {"jax.grad, adam"}]
DENSE = [n for n in _EVERY if "low rank" not in n and n != "inference, batched"] + [*HOSTS]
MANY = [name for name in _EVERY if name not in ("inference", "shardes, regenerated")]
_EXACT = ("jax.grad", "jax.grad, checkpointed", "jvp")
_MEZO_PEERS = ("evosax Open_ES", "shardes, regenerated", "PyTorch MeZO")
MEZO = ["inference", *SIGNS, "zojax, low rank", "naive lax.map", *_EXACT, *_MEZO_PEERS]
FEW = ["inference", "zojax, signs", "naive lax.map", "PyTorch MeZO"]
_EVOSAX = ("evosax Open_ES", "evosax PGPE", "evosax SNES")
_PEERS = (*_EVOSAX, "optax make_perturbed_fun", "shardes, low rank")
POPULATION = ["inference, batched", *LOW_RANK, "naive vmap", "naive lax.map", *_PEERS]
SMALL = dict(batch=1, length=32, layers=4, width=256, hidden=1024, vocabulary=2048, heads=4)
TINY = {**SMALL, "layers": 2, "width": 64, "hidden": 128, "vocabulary": 256}


def _dense(label, name, settings, evaluations, contestants=DENSE):
    bases = [contestants[0], *SIGNS]
    return entry(label, name, settings, evaluations, contestants, bases)


def _low_rank(label, name, settings, members, contestants=POPULATION):
    bases = [contestants[0], *LOW_RANK]
    return entry(label, name, settings, members, contestants, bases)


_OURS, _BATCHED = ["inference", "zojax, signs"], ["inference, batched", "zojax, low rank"]
_QUICK_MLP = {"batch": 1, "widths": (32, 16, 10)}
_QUICK_CONVNET = {"batch": 2, "channels": (4,) * 3}
SECTIONS = {
    "sphere": Section(
        "sphere and Rosenbrock beside every peer",
        CPU,
        contest,
        [
            _dense(f"{name}, d = {power(d)}", name, {"d": d}, count)
            for d, count in ((10**4, 256), (10**6, 256), (10**8, 16))
            for name in ("sphere", "rosenbrock")
        ],
        [_dense("sphere, d = 10^3", "sphere", {"d": 1000}, 16, _OURS)],
    ),
    "mlp": Section(
        "256 members of an MLP beside every peer",
        CPU,
        contest,
        [
            _low_rank(f"MLP, 256 members, {plural(b, 'example')}", "mlp", {"batch": b}, 256, MANY)
            for b in (1, 32)
        ],
        [_low_rank("MLP, 8 members", "mlp", _QUICK_MLP, 8, [*_BATCHED, "shardes, low rank"])],
    ),
    "mezo": Section(
        "MeZO steps of model M and SmolLM2",
        CPU,
        contest,
        [
            _dense(f"{name}, q = {q}", name, settings, 2 * q, FEW if q == 16 else MEZO)
            for name, settings in (("model M", {}), ("SmolLM2", {"length": 64}))
            for q in (1, 4, 16)
        ],
        [_dense("transformer, q = 1", "transformer", TINY, 2, _OURS)],
    ),
    "transformers": Section(
        "populations of transformers, 64 to 4,096 members",
        CPU,
        contest,
        [
            _low_rank(f"transformer, {4**k} members", "transformer", SMALL, 4**k)
            for k in range(3, 7)
        ],
        [_low_rank("transformer, 4 members", "transformer", TINY, 4, _BATCHED)],
    ),
    "convnet": Section(
        "populations of a small ConvNet",
        CPU,
        contest,
        [_low_rank(f"ConvNet, {n} members, 8 examples", "convnet", {}, n) for n in (64, 512)],
        [_low_rank("ConvNet, 4 members", "convnet", _QUICK_CONVNET, 4, _BATCHED)],
    ),
}
