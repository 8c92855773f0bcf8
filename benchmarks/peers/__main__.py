"""Runs the peers and keeps what they did: `python -m benchmarks.peers`.

Results are added to `results/cpu/search_peers.json` after every few seeds of a (problem, peer); only seeds
that are not there yet are run, unless `--again` is given. `python -m benchmarks.search` reads the file and
never runs a peer.
"""

import argparse
import fnmatch
import json
import time
from functools import partial

import jax
import numpy as np

from benchmarks import problems
from benchmarks.measure import RESULTS, environment
from benchmarks.peers import PEERS, Peer, play

FILE = RESULTS / "cpu" / "search_peers.json"
POINTS = 25  # of a kept curve
SEEDS = 5  # after which results are kept: a run may take minutes

# What zoopt offers against noise and in many dimensions: rows of their own.
ZOOPT_NOISE = {
    "zoopt resampling x10": {"noise_handling": True, "resampling": True, "resample_times": 10},
    "zoopt suppression, P = 5": {
        "noise_handling": True,
        "suppression": True,
        "non_update_allowed": 500,
        "resample_times": 100,
        "balance_rate": 0.5,
        "positive_size": 5,
        "reserve": 500,
    },
}


def contestants(problem: problems.Problem) -> dict[str, Peer]:
    """Who runs on a problem."""
    peers = {name: peer for name, peer in PEERS.items() if peer.takes(problem)}
    if problem.noise:
        peers |= {name: Peer("zoopt", settings) for name, settings in ZOOPT_NOISE.items()}
    if "effective" in problem.name:
        few = ("zoopt", "coordinate reset", "random search")
        peers = {name: PEERS[name] for name in few} | {"zoopt SRE": Peer("zoopt", {"low": 10})}
    return peers


def record(
    problem: problems.Problem, name: str, peer: Peer, seeds: int, again: bool = False
) -> dict:
    """Runs a peer from every seed that it did not run from before, or from all of them `again`.

    Keeps each final value, and the mean best so far at a few budgets.
    """
    before = {} if again else load().get((problem.name, name), {})
    at = np.unique(np.geomspace(1, problem.budget, POINTS).astype(int))
    known = before.get("seeds", 0)
    final, seconds = list(before.get("final", [])), [before["seconds"]] * known if known else []
    total = known * np.array(before.get("curve", np.zeros(len(at))))
    for seed in range(known, seeds):
        run = play(peer.run, problem.noisy(seed), problem.box, problem.budget, seed)
        final.append(problem.host(seed)(run.x) if problem.noise else run.best[-1])
        total = total + run.best[at - 1]
        seconds.append(run.seconds)
    return {
        "problem": problem.name,
        "peer": name,
        "budget": problem.budget,
        "seeds": len(final),
        "final": _short(final),
        "seconds": _short([np.median(seconds)])[0],
        "at": at.tolist(),
        "curve": _short(total / len(final)),
    }


def record_subset(name: str, noise: float, k: int, seeds: int, **settings) -> dict:
    """POSS and PONSS on sonar: the true error of what they return; noise multiplies an evaluation."""
    from benchmarks.peers import zoopt

    task = problems.Regression(*problems.sonar(), k)
    final, seconds = [], []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 1])
        fun = (
            (lambda s, rng=rng: task.host(s) * (1 + noise * rng.standard_normal()))
            if noise
            else task.host
        )
        start = time.perf_counter()
        final.append(task.host(zoopt.subset(fun, 60, k, task.budget, seed, **settings)))
        seconds.append(time.perf_counter() - start)
    return {
        "problem": f"sonar k={k}" + (f" noise {noise}" if noise else ""),
        "peer": name,
        "budget": task.budget,
        "seeds": seeds,
        "final": _short(final),
        "seconds": _short([np.median(seconds)])[0],
    }


def record_bbob(name: str, dim: int, peer_name: str, instances: int, budget: int) -> dict:
    """Targets reached, averaged over instances, at every checkpoint."""
    from benchmarks import bbob

    with jax.enable_x64(True):
        problem = bbob.problem(name, dim)
        runs = [
            play(PEERS[peer_name].run, problem.host(i), problem.box, budget * dim, i)
            for i in range(instances)
        ]
    reached = np.mean([bbob.solved(run.best, dim) for run in runs], axis=0)
    return {
        "problem": problem.name,
        "peer": peer_name,
        "budget": budget * dim,
        "seeds": instances,
        "solved": np.round(reached, 2).tolist(),
        "seconds": _short([np.median([run.seconds for run in runs])])[0],
    }


def _short(values) -> list[float]:
    return [float(f"{v:.4g}") for v in values]


def load() -> dict[tuple[str, str], dict]:
    """What was measured, by (problem, peer)."""
    if not FILE.exists():
        return {}
    return {(row["problem"], row["peer"]): row for row in json.loads(FILE.read_text())["rows"]}


def _keep(row: dict) -> None:
    """Reads, adds, writes: another process may have added rows meanwhile."""
    rows = load() | {(row["problem"], row["peer"]): row}
    device = environment("cpu")
    lines = ",\n".join(json.dumps(r) for r in rows.values())
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(f'{{"environment": {json.dumps(device)},\n"rows": [\n{lines}\n]}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="pattern of problem names, as in 'ackley*'")
    parser.add_argument("--peers", default="*", help="pattern of peer names")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--instances", type=int, default=1, help="of every BBOB function")
    parser.add_argument("--bbob-budget", type=int, default=1000, help="times the dimension")
    parser.add_argument(
        "--again",
        action="store_true",
        help="run what is there already, too; else only seeds that are missing",
    )
    arguments = parser.parse_args()
    done, jobs = {} if arguments.again else load(), []
    for problem in problems.quality().values():
        for name, peer in contestants(problem).items():
            known = done.get((problem.name, name), {}).get("seeds", 0)
            if known < arguments.seeds:
                parts = [*range(known + SEEDS, arguments.seeds, SEEDS), arguments.seeds]
                again = [arguments.again] + [False] * (len(parts) - 1)
                jobs += [
                    (problem.name, name, partial(record, problem, name, peer, *part))
                    for part in zip(parts, again, strict=True)
                ]
    quiet = partial(record_subset, "zoopt POSS", 0.0, 8, arguments.seeds)
    loud = partial(record_subset, noise=0.2, k=8, seeds=arguments.seeds)
    others = [("sonar k=8", "zoopt POSS", quiet)]
    others += [("sonar k=8 noise 0.2", "zoopt POSS", partial(loud, "zoopt POSS"))]
    ponss = partial(
        loud, "zoopt PONSS", noise_handling=True, ponss=True, ponss_theta=0.5, ponss_b=8
    )
    others += [("sonar k=8 noise 0.2", "zoopt PONSS", ponss)]
    if "bbob" in arguments.only:
        from benchmarks import bbob

        for dim in bbob.DIMS:
            for name in bbob.FUNCTIONS:
                for peer in PEERS:
                    run = partial(
                        record_bbob, name, dim, peer, arguments.instances, arguments.bbob_budget
                    )
                    others.append((f"bbob {name}-{dim}", peer, run))
    jobs += [job for job in others if job[:2] not in done]
    for problem, peer, job in jobs:
        chosen = fnmatch.fnmatch(problem, arguments.only) and fnmatch.fnmatch(peer, arguments.peers)
        if not chosen:
            continue
        try:
            row = job()
        except ImportError as error:
            row = {"problem": problem, "peer": peer, "error": f"not installed: {error.name}"}
        _keep(row)
        summary = (
            f"{np.mean(row['final']):.4g} +- {np.std(row['final']):.2g}" if "final" in row else ""
        )
        print(problem, "|", peer, "|", summary, "|", row.get("seconds"), "s", flush=True)


if __name__ == "__main__":
    main()
