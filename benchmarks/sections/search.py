"""Searches beside other libraries: values over seeds, BBOB, speed, and hyper-parameters."""

from benchmarks import problems
from benchmarks.sections.section import NAMED, Section, entry, plural
from benchmarks.tables import by_work, over, rates

THEIRS = ["zoopt", "coordinate reset", "random search"]
OURS = ["zojax default", "zojax sracos", "zojax coordinate_reset", "zojax random_search"]
NOISY = ["zojax ssracos", "zojax ssracos, 20 after 50", "zojax sracos(parity=True), x10"]
NOISY += ["zojax default, x10", "zoopt resampling x10", "zoopt suppression, P = 5"]
SRACOS = ["sracos(parity=True)", "sracos", "default"]
PROBLEMS = problems.quality()
LOOPS = ["default", "cma_es", "sracos", "nsga2", "pycma"]  # searches of Python functions
FEW = ["turbo", "Optuna TPE"]
FIRST = ["default", "pycma", "Optuna TPE"]


def searchers(problem: problems.Problem) -> list[str]:
    """The searches that take a problem; evolution strategies where time and memory allow."""
    if "effective" in problem.name:
        return [*OURS, "zojax sre(sracos())", *THEIRS, "zoopt SRE"]
    names = [*OURS, *THEIRS, "nevergrad OnePlusOne", "nevergrad CMA"]
    if problem.box.continuous:
        names += ["pycma", "evosax SNES", "scipy DE"]
        names += ["evosax CMA_ES"] if problem.box.dim <= 100 else []
    return names + (NOISY if problem.noise else [])


def _problem(name, seeds=30, names=None):
    names = names or searchers(PROBLEMS[name])
    return entry(name, "problem", {"name": name}, 1, names, turns=seeds)


def _of_default(name, seeds=10):
    """One worker and eight, beside CMA-ES and, without noise, a quasi-Newton method."""
    names = ["zojax default, host", "zojax default, 8 workers", "pycma BIPOP"]
    names += ["pycma"] if " noise " in name else ["scipy L-BFGS-B", "scipy COBYQA"]
    return entry(name, "problem", {"name": name}, 1, names, turns=seeds)


def _of_suite(name, seeds=5):
    """The default beside CMA-ES, and a peer for integers or for many smooth coordinates."""
    names = ["zojax default, host", "pycma BIPOP"]
    names += ["scipy DE", "Optuna TPE"] if "integer" in name else ["pycma"]
    names += ["scipy L-BFGS-B"] if "-80" in name else []
    return entry(name, "problem", {"name": name}, 1, names, turns=seeds)


def _bbob(dim, instances, times=1000):
    names = [*OURS[:3], "zojax cma_es", "zojax quasi_newton", *THEIRS, "pycma", "pycma BIPOP"]
    names += ["nevergrad OnePlusOne", "nevergrad CMA", "evosax SNES", "evosax CMA_ES", "scipy DE"]
    names += ["scipy L-BFGS-B"]
    if times < 1000:
        names = ["zojax default", "pycma BIPOP", "scipy L-BFGS-B", "scipy COBYQA", "Optuna TPE"]
        names += ["random search"]
    label = f"BBOB, d = {dim}" + (f", {times} d" if times < 1000 else "")
    settings = {"dim": dim, "times": times}
    return entry(label, "bbob", settings, 1, names, turns=24 * instances)


def _tuning(data, seeds, **settings):
    names = ["zojax default, 16 random first", "zojax default", "zojax sracos"]
    names += ["zojax random_search", "Optuna TPE", "zoopt"]
    return entry(data, "tuning", {"data": data} | settings, 1, names, turns=seeds)


def _speed(dim, budget, slice_, algorithms, runs):
    """Runs of `budget` evaluations; a slow contestant takes a slice of them."""
    names = ["zoopt, a slice"]
    for r in runs:
        # Side by side the default computes every branch: minutes.
        some = [name for name in algorithms if r == 1 or name != "default"]
        names += [f"zojax {name}, {plural(r, 'run')}" for name in some]
    names += [f"zojax {name}, NumPy function" for name in algorithms]
    settings = {"dim": dim, "budget": budget, "slice": slice_}
    return entry(f"SRACOS, Ackley-{dim}", "speed", settings, 1, names, names[:1], turns=4)


def _host(label, what, names, turns=3, **settings):
    names = [f"search by {name}" for name in names]
    settings = {"what": what, "dim": 10} | settings
    return entry(label, "host search", settings, 1, names, turns=turns)


def host_search(rows: list[dict]) -> list[dict]:
    """Processor milliseconds of an evaluation or a search, and programs that XLA compiled."""
    return [
        {
            "work": row["work"],
            "method": row["contestant"].removeprefix("search by "),
            "CPU ms": row.get("failed") or 1e3 * row["seconds"]["median"] / row.get("amount", 1),
            "compiled": row.get("compiled", ""),
        }
        for row in rows
    ]


def search(rows: list[dict]) -> list[dict]:
    """The value of a run over seeds, best mean first; the ratio is to zojax's first row."""
    lines = []
    for work, here in by_work(rows).items():
        kept = {name: row for name, row in here.items() if "values" in row}
        ours = next((r["values"]["mean"] for n, r in kept.items() if n.startswith("zojax")), None)
        order = sorted(kept.items(), key=lambda item: item[1]["values"]["mean"])
        for name, row in order:
            values = row["values"]
            line = {"work": work, "method": name, "runs": values["n"]}
            line |= {key: values.get(key, "") for key in ("mean", "sd", "median")}
            line["mean / zojax's"] = over(values["mean"], ours)
            line |= {key: row.get(key, "") for key in ("test", "test sd", "failed, of all")}
            line["s a run"] = row.get("seconds", {}).get("median", "")
            lines.append(line)
        failed = {n: r["failed"] for n, r in here.items() if "failed" in r}
        lines += [{"work": work, "method": n, "mean": reason} for n, reason in failed.items()]
    return lines


def bbob(rows: list[dict]) -> list[dict]:
    """The share of (function, target) pairs reached within multiples of d evaluations."""
    lines = []
    for row in rows:
        at, share = row.get("at", []), row.get("share", [])
        line = {"work": row["work"], "method": row["contestant"]}
        for budget in (10, 20, 100, 1000):
            reached = [s for a, s in zip(at, share, strict=True) if a <= budget]
            line[f"{budget} d, %"] = 100 * reached[-1] if at and budget <= at[-1] else ""
        lines.append(line | {"failed": row.get("failed", "")})
    return lines


SECTIONS = {
    "search": Section(
        "searches of shifted, mixed, noisy and wide problems",
        NAMED,
        search,
        [_problem(name) for name in PROBLEMS],
        [_problem("ackley-20", 2, ["zojax sracos", "coordinate reset"])],
    ),
    "workers": Section(
        "the default search on the host: one worker, eight, and noise",
        NAMED,
        search,
        [_of_default(name) for name in problems.of_default()],
        [_of_default("sphere-10 random shift", 1)._replace(contestants=["zojax default, host"])],
    ),
    "suites": Section(
        "the default search on mixed-integer, wide and severely noisy functions",
        NAMED,
        search,
        [_of_suite(name) for name in problems.suites()],
        [_of_suite("mixed-integer sphere-10", 1)._replace(contestants=["zojax default, host"])],
    ),
    "bbob": Section(
        "the share of BBOB targets reached",
        NAMED,
        bbob,
        [_bbob(dim, 3) for dim in (5, 20, 40)]
        + [_bbob(dim, 3, times) for dim in (5, 20) for times in (10, 20, 100)],
        [_bbob(2, 1)._replace(turns=2, contestants=["coordinate reset"])],
    ),
    "speed": Section(
        "evaluations a second beside zoopt",
        NAMED,
        rates,
        [
            _speed(100, 10_000, 1000, SRACOS, (1, 256)),
            _speed(1000, 20_000, 2000, SRACOS, (1,)),
        ],
        [_speed(20, 100, 50, ["sracos"], (1,))],
    ),
    "host-search": Section(
        "searches of Python functions in processor time: evaluations, first and many searches",
        NAMED,
        host_search,
        [
            _host("an evaluation, d = 10", "evaluation", LOOPS, budget=2000),
            _host("an evaluation, d = 100", "evaluation", LOOPS, dim=100, budget=2000),
            _host("an evaluation, d = 10, of 100", "evaluation", FEW, budget=100),
            _host("first 100 evaluations, no cache", "process", FIRST, budget=100, cache=False),
            _host("first 1,000, no cache", "process", FIRST[:2], budget=1000, cache=False),
            _host("first 100, filled cache", "process", FIRST[:2], budget=100, cache=True),
            _host("first 1,000, filled cache", "process", FIRST[:2], budget=1000, cache=True),
            _host("a search of 20 spaces, 5 budgets", "sweep", FIRST[:2], 1),
        ],
        [_host("an evaluation, d = 10", "evaluation", ["sracos"], 1, budget=100)],
    ),
    "tuning": Section(
        "hyper-parameters beside Optuna and zoopt",
        NAMED,
        search,
        [_tuning(data, 10) for data in ("digits", "breast_cancer")],
        [_tuning("digits", 1, trainings=24, steps=3)._replace(contestants=["zojax random_search"])],
    ),
}
