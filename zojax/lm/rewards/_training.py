"""Steps on rewards: write, judge, update; each step is stored, and a run that was cut off continues."""

import json
import pathlib
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zojax import trajectory
from zojax._kept import PROGRAMS
from zojax._transform import ZerothOrder, ZerothOrderState
from zojax.lm._adapters import combine
from zojax.lm._files import FilePath
from zojax.lm._model import Model
from zojax.lm.models.decoding import Choice, Decoded, most_likely
from zojax.lm.rewards._members import make_write, make_write_one
from zojax.lm.rewards._problem import Problem, Prompts
from zojax.lm.rewards._reward import Written, _checked, centred

DRAFTS = "auto", "none", "text"
LOG, STEPS, HELD_OUT = "run.log", "steps.jsonl", "held_out.jsonl"
Row = dict[str, Any]


class Trained(NamedTuple):
    """The result of `train`.

    Attributes:
      params: the trained part.
      state: the optimizer's last state.
      steps: a row for each step: `step`; `reward`, the mean; `best`, the best member's; `failed`, texts
        without a finite reward; `length`, mean tokens of a text; `tokens` generated so far; `forwards`, the
        mean of forward passes for a text; `draft`, whether drafts were verified; `write`, `judge` and
        `update` in seconds.
      held_out: a row for each evaluation: `step`, `tokens`, `reward`, `solved` (share of rewards of 1 at
        least), `length`, `drift`, and `texts`, the first few.
    """

    params: Any
    state: ZerothOrderState
    steps: list[Row]
    held_out: list[Row]


def train(
    problem: Problem,
    tx: ZerothOrder,
    steps: int,
    folder: FilePath | None = None,
    *,
    every: int = 10,
    draft: str = "auto",
    choose: Choice = most_likely,
    note: Any = None,
    report: Callable[[Row], None] | None = None,
) -> Trained:
    """Trains until `steps` steps are taken.

    Args:
      tx: minimises minus the reward. Its shaping must ignore a constant, as that of `zojax.eggroll` and
        `zojax.open_es` does, or its stencil take differences.
      folder: keeps `run.log`, a trajectory, and the rows of steps and evaluations as JSONL. A run there
        continues. `zojax.trajectory.replay(params, tx, load("run.log"))` makes its parameters again.
      every: steps between two evaluations. The start and the end are evaluated, too.
      draft: "text" verifies drafts from the unperturbed model's text, "none" does without. "auto" times
        both, two steps each, and continues with the faster.
      choose: `zojax.lm.most_likely`, or a `sampler()`, which gets a key of the step.
      note: of a new log, see `zojax.trajectory.Recorder`.
      report: called with each row of a step, and of an evaluation.

    Raises:
      ValueError: for an unknown draft, the log of another run, a reward of a wrong shape, and a step
        without any finite reward.
    """
    if draft not in DRAFTS:
        raise ValueError(f"draft must be one of {DRAFTS}, got {draft!r}.")
    report = report or (lambda row: None)
    params = jax.tree.map(jnp.array, problem.params)  # copies: the update donates them
    state = tx.init(params)
    files = _Files(folder, tx, params, note)
    params, state = files.resumed(tx, params, state)
    update, key = _updating(tx), None if choose is most_likely else jax.random.key(0)

    def evaluated(step: int) -> None:
        if problem.held_out is not None and step not in [row["step"] for row in files.held_out]:
            tokens = files.steps[-1]["tokens"] if files.steps else 0
            row = {"step": step, "tokens": tokens, **evaluate(problem, params)}
            files.add(HELD_OUT, row)
            report(row)

    with files:
        for step in range(int(state.count), steps):
            if step % every == 0:
                evaluated(step)
            prompts = problem.prompts(step)
            is_drafted = _next_draft(draft, files.steps)
            own = None if key is None else jax.random.fold_in(key, step)
            times = [time.perf_counter()]
            found = _write(problem, tx, choose, params, state, prompts, is_drafted, own)
            times.append(time.perf_counter())
            rewards = _judged(problem, found, prompts)
            times.append(time.perf_counter())
            params, state = update(params, state, np.float32(-centred(rewards)))
            times.append(time.perf_counter())
            seconds = zip(("write", "judge", "update"), np.diff(times).tolist(), strict=True)
            row = _row(step, found, rewards, files.steps) | {"draft": is_drafted, **dict(seconds)}
            files.add(STEPS, row)
            files.record(state, params)
            report(row)
        evaluated(steps)
        files.seal(params)
    return Trained(params, state, files.steps, files.held_out)


def evaluate(problem: Problem, params: Any = None) -> Row:
    """Held-out reward, share solved, mean length, drift, and the first few texts, the most likely ones.

    The drift is the mean over the tokens of `problem.other` of the Kullback-Leibler divergence in nats,
    from the next-token distribution at the start to that of the trained model.

    Args:
      params: the trained part; None: that of `problem`, the start.

    Raises ValueError without `problem.held_out`, and without any finite reward.
    """
    prompts, params = problem.held_out, problem.params if params is None else params
    if prompts is None:
        raise ValueError("nothing is held out; give the problem held_out=Prompts.")
    write = make_write_one(problem.model, problem.new, shared=prompts.shared)
    found = jax.device_get(write(params, problem.frozen, prompts.tokens, prompts.lengths))
    whole = jax.tree.map(lambda x: x[None], found)
    rewards = _judged(problem, whole, prompts)
    row = {"reward": float(np.nanmean(rewards)), "solved": float(np.mean(rewards >= 1))}
    row["length"] = float(found.lengths.mean())
    if problem.other is not None:
        drift = _drift(problem.model.module, problem.model.config)
        row["drift"] = float(drift(params, problem.params, problem.frozen, problem.other))
    return row | {"texts": _written(problem.model, whole).texts[:4]}


def _row(step: int, found: Decoded, rewards: np.ndarray, before: list[Row]) -> Row:
    total = before[-1]["tokens"] if before else 0
    of_members = centred(rewards)
    return {
        "step": step,
        "reward": float(np.nanmean(np.where(np.isfinite(rewards), rewards, np.nan))),
        "best": float(np.nanmax(of_members)),
        "failed": int((~np.isfinite(rewards)).sum()),
        "length": float(np.mean(found.lengths)),
        "tokens": total + int(np.sum(found.lengths)),
        "forwards": float(np.mean(found.forwards)),
    }


def _next_draft(draft: str, rows: list[Row]) -> bool:
    """Whether to draft in the next step; the first step of each kind compiles and is not compared."""
    if draft != "auto":
        return draft == "text"
    plain, drafted = ([row["write"] for row in rows if row["draft"] is k] for k in (False, True))
    if len(plain) < 2 or len(drafted) < 2:
        return len(plain) >= 2
    return min(drafted[1:]) < min(plain[1:])


def _write(problem: Problem, tx, choose, params, state, prompts, is_drafted: bool, key) -> Decoded:
    """The texts of all members on the host; with drafts, the unperturbed model writes first."""
    (tokens, lengths, _, shared), frozen = prompts, problem.frozen
    members = make_write(problem.model, tx, problem.new, choose, shared)
    one = make_write_one(problem.model, problem.new, choose, shared)
    text = one(params, frozen, tokens, lengths, key).tokens if is_drafted else None
    return jax.device_get(members(params, state, frozen, tokens, lengths, text, key))


def _judged(problem: Problem, found: Decoded, prompts: Prompts) -> np.ndarray:
    """`(members, prompts)` rewards; raises ValueError unless one is finite."""
    members, written = len(found.tokens), _written(problem.model, found)
    rewards = _checked(problem.reward, written, list(prompts.examples) * members)
    if not np.isfinite(rewards).any():
        raise ValueError(
            f"no reward of the step is finite; the first text is {written.texts[0]!r}. Call the "
            "reward with it."
        )
    return rewards.reshape(members, -1)


def _written(model: Model, found: Decoded) -> Written:
    """Texts of decoded tokens `(M, P, new)`, the prompts of the first member first."""
    tokens = np.reshape(found.tokens, (-1, found.tokens.shape[-1]))
    lengths = np.reshape(found.lengths, -1)
    if model.tokenizer is None:
        return Written([""] * len(tokens), tokens, lengths)
    rows = [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]
    return Written(model.tokenizer.decode_batch(rows), tokens, lengths)


@lru_cache(PROGRAMS)
def _updating(tx: ZerothOrder) -> Any:
    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state, values):
        updates, state = tx.update(None, state, params, values=values)
        return optax.apply_updates(params, updates), state

    return lambda *arguments: jax.block_until_ready(update(*arguments))


@lru_cache(PROGRAMS)
def _drift(module: ModuleType, config: Any) -> Callable[..., jax.Array]:
    @jax.jit
    def drift(params, start, frozen, tokens):
        before, after = (
            jax.nn.log_softmax(module.forward(config, combine(part, frozen), tokens))
            for part in (start, params)
        )
        return jnp.mean(jnp.sum(jnp.exp(before) * (before - after), axis=-1))

    return drift


class _Files:
    """The rows of a run, and its folder if there is one. A row is written before its step is recorded."""

    def __init__(self, folder, tx: ZerothOrder, params: Any, note: Any):
        self.steps: list[Row] = []
        self.held_out: list[Row] = []
        self._folder = None if folder is None else pathlib.Path(folder).expanduser()
        self._recorder = None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / LOG
            self._recorder = trajectory.Recorder(path, tx, params, every=1, note=note)

    def resumed(self, tx: ZerothOrder, params: Any, state: ZerothOrderState) -> tuple[Any, Any]:
        """Parameters and state after the recorded steps; rows of later steps are dropped."""
        if self._folder is None or self._recorder is None or not self._recorder.steps:
            return params, state
        done = self._recorder.steps
        self.steps = [row for row in _rows(self._folder / STEPS) if row["step"] < done]
        self.held_out = [row for row in _rows(self._folder / HELD_OUT) if row["step"] <= done]
        for name, rows in ((STEPS, self.steps), (HELD_OUT, self.held_out)):
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self._folder / name).write_text(text, encoding="utf-8")
        return trajectory.resume(params, tx, trajectory.load(self._folder / LOG))

    def add(self, name: str, row: Row) -> None:
        (self.steps if name == STEPS else self.held_out).append(row)
        if self._folder is not None:
            with open(self._folder / name, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def record(self, state: ZerothOrderState, params: Any) -> None:
        if self._recorder is not None:
            self._recorder.append(state, params)

    def seal(self, params: Any) -> None:
        """A replay must reach these parameters; more steps may follow in a later process."""
        if self._recorder is not None and self._recorder.steps:
            self._recorder.seal(params)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        if self._recorder is not None:
            self._recorder.close()


def _rows(path: pathlib.Path) -> Iterator[Row]:
    """The whole lines of a JSONL file; a kill may cut the last one."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            yield json.loads(line)
        except ValueError:
            return
