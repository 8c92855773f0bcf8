"""zojax.search beside other libraries: `python -m benchmarks.search`.

    quality   the tables of shifted functions, mixed spaces, noise and many dimensions
    parity    two-sample tests of sracos(parity=True) against zoopt
    subset    POSS and PONSS on the sonar data
    bbob      the share of targets solved on the 24 BBOB functions
    speed     evaluations a second, compilation apart
    fresh     a cheap run in a new process, imports and compilation included

What the others did is measured by `python -m benchmarks.peers` and read from its file, since it takes an
hour; ours is run here. `--only quality speed` picks sections, `--quick` runs few seeds and small problems.
"""

import argparse
import fnmatch
import json
import time

import jax
import numpy as np
from scipy import stats

from benchmarks import problems
from benchmarks.measure import RESULTS, environment, markdown
from benchmarks.peers.__main__ import load
from benchmarks.search_ours import play, space_of
from zojax import search

FILE = RESULTS / "cpu" / "search.json"
PARITY = ("ackley-*", "sphere-*", "rastrigin-*", "rosenbrock-*", "mixed-*", "set cover")


def ours(problem: problems.Problem) -> dict[str, search.Algorithm]:
    """The searches of zojax that a problem calls for; the first is the default."""
    every = {
        "zojax default": search.default_algorithm(space_of(problem.box), problem.budget),
        "zojax sracos": search.sracos(),
        "zojax coordinate_reset": search.coordinate_reset(),
        "zojax random_search": search.random_search(),
    }
    if problem.noise:
        every |= {
            "zojax ssracos": search.ssracos(),
            "zojax ssracos, 20 after 50": search.ssracos(times=20, idle=50),
            "zojax sracos(parity=True), x10": search.resample(search.sracos(parity=True), 10),
            "zojax default, x10": search.resample(search.portfolio(), 10),
        }
    if "effective" in problem.name:
        every |= {"zojax sre(sracos())": search.sre(search.sracos())}
    return every


def summary(problem: str, method: str, final, seconds: float | None) -> dict:
    """One cell of the tables."""
    return {
        "problem": problem,
        "method": method,
        "seeds": len(final),
        "mean": float(np.mean(final)),
        "sd": float(np.std(final, ddof=1)) if len(final) > 1 else 0.0,
        "median": float(np.median(final)),
        "seconds": seconds,
    }


def quality(arguments) -> list[dict]:
    """Our rows and the peers', problem by problem."""
    peers, rows = load(), []
    for problem in problems.quality().values():
        if not fnmatch.fnmatch(problem.name, arguments.problems):
            continue
        if arguments.quick and problem.box.dim > 100:
            continue
        wrong = problems.disagreement(problem)
        if wrong > 1e-4:
            raise SystemExit(f"{problem.name}: JAX and NumPy differ by {wrong:.1e}.")
        start = len(rows)
        for name, algorithm in ours(problem).items():
            if not fnmatch.fnmatch(name, arguments.methods):
                continue
            began = time.perf_counter()
            played = play(algorithm, problem, arguments.seeds)
            seconds = (time.perf_counter() - began) / arguments.seeds
            rows.append(summary(problem.name, name, played.final, seconds))
            at = np.unique(np.geomspace(1, played.best.shape[1], 25).astype(int))
            curve = played.best[:, at - 1].mean(0)
            rows[-1] |= {"at": at.tolist(), "curve": [float(f"{v:.4g}") for v in curve]}
        for (where, name), row in peers.items():
            if where == problem.name and "final" in row:
                rows.append(summary(where, name, row["final"], row["seconds"]))
                rows[-1] |= {key: row[key] for key in ("at", "curve")}
        print(f"\n{problem.name}, {problem.budget} evaluations\n")
        print(_ranked(rows[start:]), flush=True)
    return rows


def _ranked(rows: list[dict]) -> str:
    """Best mean first, with its ratio to the default's."""
    default = rows[0]["mean"]  # or what else of ours was asked for
    shown = [
        {
            "method": row["method"],
            "seeds": row["seeds"],
            "mean": row["mean"],
            "sd": row["sd"],
            "median": row["median"],
            "mean / default's": row["mean"] / max(default, 1e-30),
        }
        for row in sorted(rows, key=lambda row: row["mean"])
    ]
    return markdown(shown)


def parity(arguments) -> list[dict]:
    """Whether sracos(parity=True) and zoopt could be one distribution: two tests a problem.

    `adjusted` is Holm's correction over all tests of the table: below .05 the two differ.
    """
    peers, rows = load(), []
    for problem in problems.quality().values():
        if not any(fnmatch.fnmatch(problem.name, p) for p in PARITY) or problem.noise:
            continue
        row = peers.get((problem.name, "zoopt"))
        if row is None or not fnmatch.fnmatch(problem.name, arguments.problems):
            continue
        if problem.box.dim > (100 if arguments.quick else 1000):
            continue
        final = play(search.sracos(parity=True), problem, arguments.seeds).final
        rows.append(
            {
                "problem": problem.name,
                "zoopt": float(np.mean(row["final"])),
                "sracos(parity=True)": float(np.mean(final)),
                "seeds": f"{row['seeds']} / {len(final)}",
                "Mann-Whitney p": float(stats.mannwhitneyu(row["final"], final).pvalue),
                "Kolmogorov-Smirnov p": float(stats.ks_2samp(row["final"], final).pvalue),
            }
        )
    tests = ("Mann-Whitney p", "Kolmogorov-Smirnov p")
    ordered = sorted((row[test], i, test) for i, row in enumerate(rows) for test in tests)
    level = 0.0
    for rank, (p, i, test) in enumerate(ordered):
        level = max(level, min(1.0, p * (len(ordered) - rank)))
        rows[i][test + ", adjusted"] = level
    print("\n" + markdown(rows), flush=True)
    return rows


def subset(arguments) -> list[dict]:
    """POSS and PONSS on sonar, the true error of what they return."""
    from benchmarks import search_subset

    return search_subset.rows(arguments)


def bbob(arguments) -> list[dict]:
    from benchmarks import search_bbob

    return search_bbob.rows(arguments)


def speed(arguments) -> list[dict]:
    from benchmarks import search_speed

    return search_speed.rows(arguments)


def fresh(arguments) -> list[dict]:
    from benchmarks import search_speed

    return search_speed.fresh(arguments)


SECTIONS = {
    "quality": quality,
    "parity": parity,
    "subset": subset,
    "speed": speed,
    "fresh": fresh,
    "bbob": bbob,
}


def _merged(old: list[dict], new: list[dict]) -> list[dict]:
    """Earlier rows stay, but for what was measured again."""

    def about(row):
        return [row.get(name) for name in ("problem", "d", "work", "method", "contestant")]

    again = [about(row) for row in new]
    return [row for row in old if about(row) not in again] + new


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--problems", default="*", help="pattern of names: quality, parity")
    parser.add_argument("--methods", default="*", help="pattern of names of ours: quality, bbob")
    parser.add_argument("--dims", nargs="+", type=int, default=[5, 20, 40], help="of BBOB")
    parser.add_argument("--seeds", type=int, default=30, help="of ours")
    parser.add_argument("--instances", type=int, default=3, help="of BBOB functions, for ours")
    parser.add_argument("--quick", action="store_true", help="few seeds, d <= 100; nothing is kept")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.instances = min(arguments.seeds, 5), 1
    results = {}
    for name in arguments.only:
        rows = SECTIONS[name](arguments)
        if not arguments.quick:
            results = json.loads(FILE.read_text()) if FILE.exists() else {}
            results |= {
                "environment": environment("cpu"),
                name: _merged(results.get(name, []), rows),
            }
            FILE.write_text(json.dumps(results).replace("}, {", "},\n{") + "\n")
    if not arguments.quick:
        from benchmarks import search_plots

        search_plots.draw(results, FILE.parent)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
