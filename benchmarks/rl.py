"""Training on rewards beside other ways to use as many texts: `python -m benchmarks.rl ACTION`.

SmolLM2-135M-Instruct answers questions of reasoning-gym. All methods train the norms, with 16 evaluations
of 8 prompts a step. Equal steps are equal numbers of texts:

- `eggroll`: `python -m zojax.lm rl`, the task's own score;
- `accuracy`: MeZO on the share of right answers, as `zojax.lm` trains without rewards;
- `likelihood`: MeZO on the likelihood of the right answers. It generates nothing.

Every step is stored, and the same command continues. A step takes about 15 CPU seconds.

    python -m benchmarks.rl starts
    python -m benchmarks.rl run --folder runs --tasks chain_sum products --seeds 0 1 2 --steps 100
    python -m benchmarks.rl table --folder runs

`starts` prints the accuracy before training by task and format, from which the tasks were chosen.
"""

import argparse
import json
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zojax
from zojax import lm, trajectory
from zojax.lm import rewards

METHODS = ("eggroll", "accuracy", "likelihood")
POPULATION, PROMPTS, NEW, MU = 16, 8, 6, 3e-3
FORMATS = {
    "chat": "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "question and answer": "Question: {}\nAnswer:",
    "chat that begins with Answer:": rewards.GYM_TEMPLATE,
}
_TWO = dict(min_terms=2, max_terms=2)
DIFFICULTIES = (  # beside those of `rewards.GYM`
    ("chain_sum", dict(min_terms=3, max_terms=3, min_digits=1, max_digits=1)),
    ("chain_sum", dict(**_TWO, min_digits=2, max_digits=2)),
    ("spell_backward", dict(min_word_len=3, max_word_len=3)),
    ("simple_equations", dict(**_TWO, min_value=1, max_value=9)),
    ("count_bits", dict(min_n=1, max_n=20)),
    ("leg_counting", dict(min_animals=1, max_animals=2, min_instances=1, max_instances=3)),
    ("coin_flip", {}),
)
RATES = {"eggroll": 5e-4, "accuracy": 1e-4, "likelihood": 1e-4}  # not tuned


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.rl", description=__doc__)
    parser.add_argument("action", choices=("starts", "run", "table"))
    parser.add_argument("--folder", type=pathlib.Path, default="runs")
    parser.add_argument("--tasks", nargs="+", default=["chain_sum", "products"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--held-out", type=int, default=128)
    args = parser.parse_args(argv)
    if args.action == "table":
        print(table(args.folder))
        return
    model = lm.smollm2()
    model = model._replace(params=jax.tree.map(jnp.asarray, model.params))
    if args.action == "starts":
        starts(model)
        return
    for task in args.tasks:
        for seed in args.seeds:
            for method in args.methods:
                folder = args.folder / f"{task}-{method}-{seed}"
                train(model, task, method, seed, args.steps, args.held_out, folder)
    print(table(args.folder))


def starts(model: lm.Model, count: int = 32) -> None:
    """Prints the share of right first lines among 12 greedy tokens, by task and format."""
    import reasoning_gym

    run = jax.jit(lambda p, *prompts: model.generate(p, *prompts, 12, stop=model.stop))
    print("| task | options |", " | ".join(FORMATS), "|\n" + "|---" * 5 + "|")
    for name, options in [*rewards.GYM.items(), *DIFFICULTIES]:
        asked = list(reasoning_gym.create_dataset(name, size=count, seed=0, **options))
        score, shares = reasoning_gym.get_score_answer_fn(name), []
        for template in FORMATS.values():
            texts = [template.replace("{}", entry["question"].strip()) for entry in asked]
            prompts = rewards.encode(model, texts, asked, width=64)
            found = np.asarray(run(model.params, prompts.tokens, prompts.lengths))
            lines = map(rewards.first_line, model.tokenizer.decode_batch(found.tolist()))
            right = [score(line, entry) >= 1 for line, entry in zip(lines, asked, strict=True)]
            shares.append(f"{np.mean(right):.0%}")
        print("|", name, "|", options or "default", "|", " | ".join(shares), "|", flush=True)


def train(model, task, method, seed, steps, held_out, folder) -> None:
    questions = rewards.gym(model, task, held_out=held_out, seed=seed)
    params, frozen = lm.partition(model, "norms", 0, np.arange(0))
    batch = rewards.batches(questions.train, PROMPTS, seed)
    problem = rewards.Problem(
        model, params, frozen, questions.reward, batch, NEW, questions.held_out
    )
    options, rate = dict(direction=zojax.directions.low_rank(), key=seed), RATES[method]
    if method == "eggroll":
        tx = zojax.eggroll(rate, MU, POPULATION, batch_size=POPULATION // 2, **options)
        rewards.train(problem, tx, steps, folder, draft="none", report=partial(print, flush=True))
        return
    count = POPULATION // 2
    tx = zojax.mezo(rate, MU, num_directions=count, batch_size=count, **options)
    if method == "accuracy":
        right = partial(_right, questions.reward)
        rewards.train(problem._replace(reward=right), tx, steps, folder, draft="none")
        return
    _likelihood(problem, tx, steps, folder)


def _right(reward, written, examples) -> np.ndarray:
    return np.asarray(reward(written, examples)) >= 1


def _likelihood(problem: rewards.Problem, tx, steps: int, folder: pathlib.Path, every=10) -> None:
    """Trains on the right answers; evaluations are those of `rewards.train`."""
    model, done = problem.model, folder / "held_out.jsonl"
    folder.mkdir(parents=True, exist_ok=True)

    def loss(params, frozen, batch):
        found = lm.completion_nll(model, lm.combine(params, frozen), batch)
        return jnp.sum(found) / jnp.sum(batch["label"] >= 0)

    @jax.jit
    def step(params, state, frozen, batch):
        updates, state = tx.update(None, state, params, value_fn=loss, frozen=frozen, batch=batch)
        return optax.apply_updates(params, updates), state

    params, state, frozen = problem.params, tx.init(problem.params), problem.frozen
    with trajectory.Recorder(folder / "run.log", tx, params, every=1) as recorder:
        if recorder.steps:
            params, state = trajectory.resume(params, tx, trajectory.load(folder / "run.log"))
        for count in range(int(state.count), steps + 1):
            if count % every == 0 or count == steps:
                row = rewards.train(problem._replace(params=params), tx, 0).held_out[0]
                row |= {"step": count, "tokens": count * POPULATION * PROMPTS * NEW}
                with open(done, "a") as file:
                    file.write(json.dumps(row) + "\n")
            if count < steps:
                batch = _answered(model, problem.prompts(count))
                params, state = step(params, state, frozen, batch)
                recorder.append(state, params)


def _answered(model: lm.Model, prompts: rewards.Prompts) -> dict:
    """A batch of `zojax.lm.completion_nll`: prompts, and right answers with the model's stop."""
    ids = [model.tokenizer.encode(f" {e['answer']}").ids + [model.stop] for e in prompts.examples]
    label = np.full((len(ids), NEW + 2), -1, np.int32)
    for row, answer in zip(label, ids, strict=True):
        row[: len(answer)] = answer[: NEW + 2]
    return {"tokens": prompts.tokens, "position": prompts.lengths - 1, "label": label}


def table(folder: pathlib.Path) -> str:
    """Markdown: what was held out and solved, at the start and in the last evaluation of each seed."""
    lines = ["| task | method | seeds | steps | solved before | after |", "|" + "---|" * 6]
    runs: dict[tuple, list] = {}
    for path in sorted(folder.glob("*/held_out.jsonl")):
        task, method, _ = path.parent.name.rsplit("-", 2)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        runs.setdefault((task, method), []).append(rows)
    for (task, method), seeds in runs.items():
        before, after = (
            " ".join(f"{100 * rows[k]['solved']:.0f} %" for rows in seeds) for k in (0, -1)
        )
        steps = " ".join(str(rows[-1]["step"]) for rows in seeds)
        lines.append(f"| {task} | {method} | {len(seeds)} | {steps} | {before} | {after} |")
    if runs:
        named = {f"{task}, {method}": rows for (task, method), rows in runs.items()}
        rewards.draw(folder / "curves.png", named)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
