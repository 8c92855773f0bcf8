"""Training on rewards beside other ways to use as many texts; a step is `work.every` optimizer steps.

SmolLM2-135M-Instruct answers questions of reasoning-gym. All methods train the norms of the last layers,
with 16 evaluations of 8 prompts a step, so equal steps are equal numbers of texts:

- `eggroll`: as `python -m zojax.lm rl`, 1 for a right answer;
- `accuracy`: MeZO on the share of right answers, as `zojax.lm` trains without rewards;
- `likelihood`: MeZO on the likelihood of the right answers. It generates nothing.

Beside them `constant`, the most frequent answer of the training questions, for all held-out questions.
`drafted` takes the steps of `eggroll` without and with drafts of the unperturbed model's texts, in turn.

Each run is a folder of `rewards` in the cache folder of zojax, where every step is stored. So the same
command goes on where it was stopped: `--rounds 3` takes three evaluations' steps, `--rounds 10` seven more.
"""

import itertools
import json
import shutil
import time
from collections import Counter
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

import zojax
from benchmarks.contestants import Host, once
from benchmarks.summary import summary
from zojax import lm, trajectory
from zojax.lm import assets, rewards
from zojax.lm.commands.rl import OTHER
from zojax.lm.rewards import _training

LAST, MU = 6, 4e-2
COMMON = {"population": 16, "prompts": 8, "new": 4, "format": "chat that begins with Answer:"}
TOKENS = 16 * 8 * 4  # of a step
RATES = {"eggroll": 5e-3, "accuracy": 1e-2, "likelihood": 1.5e-3}  # first steps of about equal size
KEPT = "step", "tokens", "reward", "solved", "length", "drift"
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


def build(work, method):
    """Facts: `held_out`, rows of evaluations; `generation`, its share of a step.

    Untrained: `starts`. Drafted: `drafted`, costs without and with drafts.
    """
    work = SimpleNamespace(**COMMON | vars(work))
    if method == "untrained":
        return once(lambda: {"starts": list(_starts(work.questions))})
    if method == "constant":
        return once(lambda: {"held_out": [_constant(_questions(work, _model(work)))]})
    problem, tx = _problem(work), _optimizer(method, work)
    if method == "drafted":
        return _drafted(problem, tx)
    name = f"{'tiny' if work.tiny else work.task}-{method}-{work.seed}"
    folder, ends = assets.cache_dir() / "rewards" / name, itertools.count(work.every, work.every)
    if work.tiny:
        shutil.rmtree(folder, ignore_errors=True)
    train = partial(METHODS[method], problem, tx, folder, work.every)
    found: dict = {}

    def run():
        held_out, about = train(next(ends))
        rows = [{name: row[name] for name in KEPT} for row in held_out]
        found.update({"held_out": rows, **about})

    return Host(run, facts=lambda: found)


def _problem(work) -> rewards.Problem:
    model = _model(work)
    questions = _questions(work, model)
    params, frozen = lm.partition(model, "norms", 0, last=1 if work.tiny else LAST)
    drawn = rewards.batches(questions.train, work.prompts, work.seed)
    other = np.array(model.tokenizer.encode(OTHER).ids)[None]
    return rewards.Problem(
        model, params, frozen, questions.reward, drawn, work.new, questions.held_out, other
    )


def _model(work) -> lm.Model:
    model = _tiny() if work.tiny else lm.smollm2()
    return model._replace(params=jax.tree.map(jnp.asarray, model.params))


def _questions(work, model: lm.Model) -> rewards.Gym:
    options = {"held_out": work.held_out, "seed": work.seed}
    return rewards.gym(model, work.task, template=FORMATS[work.format], **options)


def _constant(questions: rewards.Gym) -> dict:
    """A row of evaluation without a model."""
    counts = Counter(str(entry["answer"]) for entry in questions.train.examples)
    asked = questions.held_out.examples
    texts, none = [counts.most_common(1)[0][0]] * len(asked), np.zeros(len(asked))
    found = np.asarray(questions.reward(rewards.Written(texts, none, none), asked))
    return {"step": "", "reward": float(found.mean()), "solved": float(np.mean(found >= 1))}


def _optimizer(method, work):
    half = work.population // 2
    options = dict(direction=zojax.directions.low_rank(), batch_size=half, key=work.seed)
    if method in ("eggroll", "drafted"):
        return zojax.eggroll(RATES["eggroll"], MU, work.population, **options)
    return zojax.mezo(RATES[method], MU, num_directions=half, **options)


def _drafted(problem, tx):
    """The same steps without and with drafts; the first one compiles and does not count."""
    params = jax.tree.map(jnp.array, problem.params)
    now, update = (params, tx.init(params)), _training._updating(tx)
    steps: list[tuple] = []  # texts and seconds by kind, and the seconds of all else

    def run():
        nonlocal now
        prompts, written = problem.prompts(len(steps)), {}
        for kind in (True, False):
            begin = time.process_time()
            found = _training._write(problem, tx, lm.most_likely, *now, prompts, kind, None)
            written[kind] = found, time.process_time() - begin
        begin = time.process_time()
        rewarded = _training._judged(problem, found, prompts)
        now = update(*now, np.float32(-rewards.centred(rewarded)))
        steps.append((written, time.process_time() - begin))

    def cost(kind):
        (plain, before), (texts, cpu) = (
            zip(*(written[k] for written, _ in steps[1:]), strict=True) for k in (False, kind)
        )
        passes, rest = np.array([found.forwards for found in texts]), [r for _, r in steps[1:]]
        differs = [a.tokens != b.tokens for a, b in zip(texts, plain, strict=True)]
        return {
            "draft": "the unperturbed text" if kind else "none",
            "steps": len(texts),
            "passes a text": float(passes.mean()),
            "passes of the longest": float(passes.max(axis=(1, 2)).mean()),
            "cpu": summary(list(cpu)),
            "share": float(np.median(np.array(cpu) / np.add(cpu, rest))),
            "over": summary([a / b for a, b in zip(cpu, before, strict=True)]),
            "differ": int(np.any(differs, axis=-1).sum()),
        }

    return Host(run, facts=lambda: {"drafted": [cost(False), cost(True)]})


def _on_rewards(problem, tx, folder, every, steps):
    done = rewards.train(problem, tx, steps, folder, every=every, draft="none")
    parts = np.array([[row[name] for name in ("write", "judge", "update")] for row in done.steps])
    share = float(np.median(parts[:, 0] / parts.sum(axis=1)))
    return done.held_out, {"generation": share, "minutes": float(parts.sum() / 60)}


def _on_likelihood(problem, tx, folder, every, steps):
    """Trains on the right answers from the last stored step on."""
    folder.mkdir(parents=True, exist_ok=True)
    path, evaluations = folder / "run.log", folder / "held_out.jsonl"
    params = jax.tree.map(jnp.array, problem.params)  # copies: the step donates them
    state = tx.init(params)

    def loss(params, frozen, batch):
        found = lm.completion_nll(problem.model, lm.combine(params, frozen), batch)
        return jnp.sum(found) / jnp.sum(batch["label"] >= 0)

    step = lm.make_step(loss, tx)
    with trajectory.Recorder(path, tx, params, every=1) as recorder, evaluations.open("a+") as file:
        if recorder.steps:
            params, state = trajectory.resume(params, tx, trajectory.load(path))
        file.seek(0)
        held_out = [json.loads(line) for line in file]
        for count in range(int(state.count), steps + 1):
            if count % every == 0 and count not in [row["step"] for row in held_out]:
                row = rewards.evaluate(problem, params)
                held_out.append({"step": count, "tokens": count * TOKENS} | row)
                print(json.dumps(held_out[-1]), file=file, flush=True)
            if count < steps:
                batch = _answered(problem.model, problem.prompts(count))
                params, state = step(params, state, problem.frozen, batch)
                recorder.append(state, params)
    return held_out, {}


METHODS = {"eggroll": _on_rewards, "accuracy": _on_rewards, "likelihood": _on_likelihood}


def _answered(model: lm.Model, prompts: rewards.Prompts) -> dict:
    """A batch of `zojax.lm.completion_nll`: prompts, and right answers with the model's stop."""
    ids = [model.tokenizer.encode(f" {e['answer']}").ids + [model.stop] for e in prompts.examples]
    label = np.full((len(ids), COMMON["new"] + 2), -1, np.int32)
    for row, answer in zip(label, ids, strict=True):
        row[: len(answer)] = answer[: label.shape[1]]
    return {"tokens": prompts.tokens, "position": prompts.lengths - 1, "label": label}


def _starts(count: int):
    """The share of right first lines among 12 greedy tokens, by task and format."""
    import reasoning_gym

    model = lm.smollm2()
    run = jax.jit(lambda p, *prompts: model.generate(p, *prompts, 12, stop=model.stop))
    for name, options in [*rewards.GYM.items(), *DIFFICULTIES]:
        asked = list(reasoning_gym.create_dataset(name, size=count, seed=0, **options))
        score, line = reasoning_gym.get_score_answer_fn(name), {"task": name, "options": options}
        for title, template in FORMATS.items():
            texts = [template.replace("{}", entry["question"].strip()) for entry in asked]
            prompts = rewards.encode(model, texts, asked, width=64)
            found = np.asarray(run(model.params, prompts.tokens, prompts.lengths))
            firsts = map(rewards.first_line, model.tokenizer.decode_batch(found.tolist()))
            line[title] = float(
                np.mean([score(*pair) >= 1 for pair in zip(firsts, asked, strict=True)])
            )
        yield line


def _tiny() -> lm.Model:
    """A random model of characters."""
    from tokenizers import Tokenizer, models

    characters = ["\n", *map(chr, range(32, 127))]
    words = {c: i for i, c in enumerate(characters)}
    config = lm.llama.Config(
        vocabulary=len(words), width=16, layers=2, heads=2, kv_heads=1, hidden=16
    )
    tokenizer = Tokenizer(models.BPE(words, []))
    return lm.Model(lm.llama, config, lm.llama.init(jax.random.key(0), config), tokenizer, stop=0)
