"""The cost of a step: time, memory, compilation, noise, populations, policies."""

from benchmarks.contestants import COMPILATIONS, NOISES, POLICIES, POPULATIONS
from benchmarks.sections.section import CPU, NAMED, Section, entry
from benchmarks.sections.steps import SMALL, TINY
from benchmarks.summary import clear
from benchmarks.tables import beside, by_work, contest, over, peak_of, quartiles, rates

FORMS = ("zojax, signs", "zojax, normal", "zojax, low rank")
STEP = ["two forwards", "jax.grad", "naive lax.map", *FORMS]
PEAKS = ["forward", "jax.grad", "naive lax.map", *FORMS]
ACCELERATED = ["forward", "two forwards in a loop", "jax.grad", *FORMS]
MODELS = {
    "M (159M, scan)": ("model M", {}),
    "M (159M, unrolled)": ("model M", {"scan": False}),
    "SmolLM2": ("SmolLM2", {}),
    "ResNet-18 (flax)": ("ResNet-18", {}),
    "LSTM": ("LSTM", {}),
    "mixture of experts": ("mixture of experts", {}),
    "ViT (equinox)": ("ViT", {}),
}
ON_CHIPS = {
    "M (159M, scan), f32": ("model M", {}),
    "SmolLM2, bf16": ("SmolLM2", {"batch": 16, "length": 512, "dtype": "bfloat16"}),
}
# OPT shapes: layers, width, heads; GB of inference and MeZO, and of full fine-tuning, in Table 22 of
# MeZO's paper (https://arxiv.org/abs/2305.17333), measured on A100s.
OPT = {
    "1.3B": ((24, 2048, 32), 4, 27),
    "2.7B": ((32, 2560, 32), 7, 55),
    "6.7B": ((32, 4096, 32), 14, 156),
    "13B": ((40, 5120, 40), 26, 316),
    "30B": ((48, 7168, 56), 58, 633),
    "66B": ((64, 9216, 72), 128, None),
}
TINY_OPT = (2, 64, 4)
_BIASES = "query_bias", "key_bias", "value_bias"
_NORMS = "query_norm", "key_norm"
_POST = "attention_post_norm", "mlp_post_norm"


def _shape(vocabulary, width, layers, heads, kv_heads, hidden, **more):
    names = "vocabulary", "width", "layers", "heads", "kv_heads", "hidden"
    numbers = vocabulary, width, layers, heads, kv_heads, hidden
    return dict(zip(names, numbers, strict=True)) | more


LLAMAS = {
    "Llama 3.2 1B": _shape(128256, 2048, 16, 32, 8, 8192),
    "SmolLM3 3B": _shape(128256, 2048, 36, 16, 4, 11008),
    "Phi-3 mini": _shape(32064, 3072, 32, 32, 32, 8192, tied=False),
    "Llama 2 7B": _shape(32000, 4096, 32, 32, 32, 11008, tied=False),
    "Mistral 7B": _shape(32000, 4096, 32, 32, 8, 14336, tied=False),
    "Qwen2 7B": _shape(152064, 3584, 28, 28, 4, 18944, tied=False, extra=_BIASES),
    "Llama 3 8B": _shape(128256, 4096, 32, 32, 8, 14336, tied=False),
    "Qwen3 8B": _shape(151936, 4096, 36, 32, 8, 12288, tied=False, extra=_NORMS, head_size=128),
    "Gemma 2 9B": _shape(
        256000, 3584, 42, 16, 8, 14336, extra=_POST, head_size=256, score_cap=50.0, logit_cap=30.0
    ),
    "Llama 2 13B": _shape(32000, 5120, 40, 40, 40, 13824, tied=False),
}
TINY_LLAMA = _shape(64, 16, 2, 4, 2, 32)
POPULATION = 64  # members, in antithetic pairs
LEAVES = [(4096, 4096), (16, 1024, 1024), (2**24,), (2**14, 1000)]


def _peaks(label, name, settings, contestants=PEAKS):
    return entry(label, name, settings, 2, contestants, turns=0)


def opt_shape(label, shape, contestants=("forward", "zojax, signs", "jax.grad, adam"), **options):
    settings = dict(zip(("layers", "width", "heads"), shape, strict=True))
    return entry(label, "OPT", settings, 2, contestants, **options)


def _families():
    """A step of mezo on each family's shape; a step of a population of adapters on some."""
    for label, shape in LLAMAS.items():
        yield entry(label, "Llama", shape, 2, ["forward", "zojax, signs"], turns=0)
    for label in ("Llama 3.2 1B", "Llama 2 7B", "Llama 2 13B"):
        names = ["forward", "zojax, low rank"]
        work = f"{label}, LoRA, {POPULATION} members"
        yield entry(work, "LoRA", LLAMAS[label], POPULATION, names, turns=0)


def families(rows: list[dict]) -> list[dict]:
    """Gigabytes and kernels of a step, and of a forward pass on the same shape."""
    return [
        {
            "work": work,
            "program": name,
            "peak, GB": peak_of(row, 1e9),
            "/ forward": over(row.get("peak"), forward.get("peak")),
            "kernels": row.get("kernels", ""),
        }
        for work, name, row, forward in beside(rows, "forward")
    ]


def leaf(*shape, contestants=NOISES):
    label = "x".join(map(str, shape))
    return entry(label, "leaf", {"shape": shape}, 1, contestants, ["scaled copy"])


def members(label, model, pairs, **settings):
    given = {"model": model, "pairs": pairs, **settings}
    return entry(label, "members", given, 2 * pairs, POPULATIONS, ["plain inference"])


def _policy(environment, episodes, *hidden, population=256):
    """Three generations of a population of policies on a control task."""
    label = f"{environment}, {'x'.join(map(str, hidden))} units, {episodes} episodes"
    settings = {"environment": environment, "population": population}
    settings |= {"episodes": episodes, "hidden": hidden, "generations": 3}
    return entry(label, "policy", settings, 1, POLICIES, ["evosax OpenES"])


def memory(rows: list[dict]) -> list[dict]:
    """Peaks over the forward pass. Rule: its peak, the largest part of a leaf that it reads, and 1 %."""
    lines = []
    for work, name, row, floor in beside(rows, "forward"):
        peak, forward = row.get("peak"), floor.get("peak")
        ours = name.startswith("zojax") and forward and "largest_slice" in floor
        line = {"model": work, "program": name, "peak, MB": peak_of(row, 1e6)}
        line["peak / parameters"] = over(peak, floor.get("parameters"))
        line["peak / forward's"] = over(peak, forward)
        line["rule"] = 1.01 + floor["largest_slice"] / forward if ours else ""
        line["temporaries, MB"] = row["temporaries"] / 1e6 if "temporaries" in row else ""
        line["kernels a layer"] = row.get("layer_kernels", "")
        lines.append(line)
    return lines


def opt(rows: list[dict]) -> list[dict]:
    """Gigabytes of OPT shapes beside the published ones; the device's own peak where it was run."""
    lines = []
    for work, here in by_work(rows).items():
        peaks = {n: r.get("device_peak") or r.get("peak") for n, r in here.items()}
        line: dict = {"OPT": work}
        line |= {f"{n}, GB": p / 1e9 if p else here[n].get("failed", "") for n, p in peaks.items()}
        for name, row in here.items():
            line[f"{name}, s"] = row["seconds"]["median"] if "seconds" in row else ""
        published = OPT.get(work, ("", "", ""))[1:]
        floor = peaks.get("forward") or peaks.get("two forwards in a loop")
        line["zojax / forward"] = over(peaks.get("zojax, signs"), floor)
        seconds = {n: r["seconds"]["median"] for n, r in here.items() if "seconds" in r}
        twice = seconds.get("two forwards in a loop")
        line["step / two forwards"] = over(seconds.get("zojax, signs"), twice)
        line["published, inference = MeZO, GB"], line["published, fine-tuning, GB"] = published
        lines.append(line)
    return lines


def noise(rows: list[dict]) -> list[dict]:
    """A kernel reads the leaf once and writes it once."""
    lines = []
    for row in rows:
        ratio = row.get("over", {}).get("scaled copy")
        size, seconds = row.get("parameters"), row.get("seconds", {}).get("median")
        lines.append(
            {
                "shape": row["work"],
                "kernel": row["contestant"],
                "ms": 1e3 * seconds if seconds else row.get("failed", ""),
                "GB/s": 2e-9 * size / seconds if seconds and size else "",
                "/ scaled copy": clear(ratio),
                "quartiles": quartiles(ratio),
                "temporaries / leaf": row["peak"] / size - 1 if size and row.get("peak") else "",
            }
        )
    return lines


QUICK_PEAKS = [_peaks("transformer", "transformer", TINY, ["forward", "zojax, signs"])]
COMPILED = ["compile two forwards, one program", "compile forward"]
SECTIONS = {
    "step": Section(
        "a step against two forwards",
        CPU,
        contest,
        [entry("M (159M, scan)", "model M", {}, 2, STEP, ["two forwards"])],
        [entry("transformer", "transformer", TINY, 2, STEP[::3], ["two forwards"])],
    ),
    "memory": Section(
        "peak memory of a step, by the compiler",
        CPU,
        memory,
        [_peaks(label, *work) for label, work in MODELS.items()],
        QUICK_PEAKS,
    ),
    "accelerators": Section(
        "peak memory on a TPU v5e or an H100: --target",
        NAMED,
        memory,
        [_peaks(label, *work, ACCELERATED) for label, work in ON_CHIPS.items()],
        QUICK_PEAKS,
    ),
    "opt-compiled": Section(
        "MeZO's Table 22, compiled only: OPT shapes; --target h100",
        NAMED,
        opt,
        [opt_shape(label, shape, turns=0) for label, (shape, *_) in OPT.items()],
        [opt_shape("tiny", TINY_OPT, turns=0)],
    ),
    "families": Section(
        "a step on the shapes of other families, compiled only; --target h100",
        NAMED,
        families,
        list(_families()),
        [entry("tiny", "Llama", TINY_LLAMA, 2, ["forward", "zojax, signs"], turns=0)],
    ),
    "compile": Section(
        "processor time to compile a step",
        CPU,
        contest,
        [entry("M (159M, scan)", "model M", {}, 2, COMPILATIONS, COMPILED, turns=6)],
        [entry("transformer", "transformer", TINY, 2, COMPILED[1:], turns=2)],
    ),
    "noise": Section(
        "noise kernels against a scaled copy",
        CPU,
        noise,
        [leaf(*shape) for shape in LEAVES],
        [leaf(64, 64)],
    ),
    "population": Section(
        "populations against inference, with examples of their own",
        CPU,
        contest,
        [
            members("MLP, 256 members, 1 example", "mlp", 128, batch=1),
            members("MLP, 256 members, 32 examples", "mlp", 128, batch=32),
            members("transformer D 256, 64 directions, 32 tokens", "transformer", 64, **SMALL),
        ],
        [members("MLP, 4 members", "mlp", 2, batch=1, widths=(8, 4, 3))],
    ),
    "policy": Section(
        "environment steps a second beside evosax",
        CPU,
        rates,
        [
            _policy("pendulum", 4, 32, 32),
            _policy("pendulum", 1, 128, 128),
            _policy("cartpole", 4, 32, 32),
        ],
        [_policy("cartpole", 1, 4, population=4)],
    ),
}
