"""Fine-tunes a language model with forward passes only: `python -m zojax.examples.finetune`.

SmolLM2-135M-Instruct learns the sentiment of movie reviews. One training step is `zojax.mezo`: two
evaluations of the loss, no backward pass. By default it trains shifts after the norms of the upper
layers, as in BitFit (https://arxiv.org/abs/2106.10199). The noise of the method grows with the number of
parameters, so few and strong parameters suit it. The frozen layers below run once for every review.

`--params scales` and `--params integers` train the 4-bit blocks of the model's file, in 97 MB: their
scales by `zojax.qzo`, or their integers by `zojax.qes`.

`--data digits` runs the same loop in seconds and downloads nothing.

`--weights` and `--task` bring your own model and data: a local Hugging Face folder, and a JSONL file of
text and label or of prompt and completion. `python -m zojax.examples.export` makes both. Train one of

- `--params norms`: gains and biases of the norms;
- `--params lora`: adapters of low rank for queries and values, or other `--targets`;
- `--params prefix`: keys and values of 5 positions before the text;
- `--params full`: every weight.

`--template sst2` reads a file with the columns of SST-2 and asks with MeZO's prompt, and so for 14 other
public datasets: `python -m zojax.lm templates` lists them.

`--save FOLDER` writes the trained model as a Hugging Face folder, `--save-adapter FOLDER` the adapter
alone. `python -m zojax.lm generate` reads both.

`--objective accuracy` or `f1` trains on scores without a gradient. With `--log` or `--checkpoint` a run
that was cut off continues to the bit, and more `--steps` extend it. `--csv`, `--tensorboard` and `--wandb`
log its losses and scores.

A run that did not help says so at its end, with a remedy. The exit status is 0; 1 if the run diverged; 2 if
arguments or files do not fit.
"""

import argparse
import sys
import time
from contextlib import ExitStack

import optax

import zojax
from zojax import lm, trajectory
from zojax.examples import _command, _finetune_report
from zojax.examples._finetune_options import DIRECTIONS, DTYPES, SCHEDULES, TASKS, make_parser
from zojax.examples._finetune_settings import (
    check_checkpoint,
    make_callback,
    note_of,
    option_of,
    settle,
)

__all__ = ["check_log", "main", "make_optimizer", "make_task", "save"]


def make_task(args: argparse.Namespace) -> lm.Task:
    """The task: parameters, objectives and batches."""
    if args.data == "jsonl":
        adapter = lm.Adapter(args.rank, args.alpha, tuple(args.targets), args.positions)
        options = dict(seed=args.seed, dtype=DTYPES[args.dtype], stop=args.stop, adapter=adapter)
        files = args.weights, args.task
        if args.template is None:
            task = lm.jsonl_task(*files, args.params, prompt=args.prompt, **options)
        else:
            options |= dict(held_out=args.held_out, shots=args.shots)
            task = lm.prompt_task(*files, args.template, args.params, **options)
    else:
        task = TASKS[args.data](args.params, args.seed)
    if args.objective not in task.objectives:
        known = list(task.objectives)
        raise ValueError(f"--objective {args.objective} does not fit this task; it has {known}.")
    return task


def make_optimizer(args: argparse.Namespace) -> zojax.ZerothOrder:
    """The optimizer; by default its learning rate decays to zero by a cosine."""
    tx = _optimizer(args, SCHEDULES[args.schedule](args.learning_rate, args.horizon))
    return zojax.with_metrics(tx) if args.metrics else tx


def _optimizer(args: argparse.Namespace, rate: optax.Schedule) -> zojax.ZerothOrder:
    direction, count = DIRECTIONS[args.direction](), args.num_directions
    sampling = dict(direction=direction, num_directions=count, key=args.seed)
    estimator = zojax.estimator(direction=direction, mu=args.mu, num_directions=count)
    match args.optimizer:
        case "mezo":
            return zojax.mezo(rate, args.mu, **sampling)
        case "zo_sgd":
            return zojax.zo_sgd(rate, estimator, momentum=0.9, key=args.seed)
        case "adam":
            return zojax.zeroth_order(optax.adam(rate), estimator, key=args.seed)
        case "open_es":
            return zojax.open_es(rate, args.mu, 2 * count, direction=direction, key=args.seed)
        case "qzo":  # the scales of a file are float16
            return zojax.stochastic_rounding(zojax.qzo(rate, args.mu, **sampling))
        case "qes":
            return zojax.qes(rate, args.mu, 2 * count, horizon=2, key=args.seed)
    horizon = args.horizon / 10  # Spall's advice
    gain = args.learning_rate * (1 + horizon) ** 0.602  # the first rate is --learning-rate
    return zojax.spsa(gain, args.mu, horizon, **sampling)


def check_log(log, tx: zojax.ZerothOrder, params, note: dict[str, object]) -> None:
    """Raises ValueError for the log of another run, before anything is trained."""
    trajectory.require_note(log, note, option_of)
    trajectory.Recorder(log, tx, params, note=note).close()


def save(args: argparse.Namespace, task: lm.Task, params: dict) -> None:
    """Writes the folders of `--save` and `--save-adapter`."""
    if args.save_adapter is not None:
        lm.save_adapter(args.save_adapter, params, args.weights)
        print(f"adapter: {args.save_adapter}")
    if args.save is not None:
        model = lm.load(args.weights, DTYPES[args.dtype])
        merged = lm.merge(lm.combine(params, task.frozen))
        source = None if args.weights.endswith(".gguf") else args.weights
        lm.save(args.save, model._replace(params=merged), source)
        print(f"model: {args.save}")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    start = time.perf_counter()
    parser = make_parser()
    args, opened = parser.parse_args(argv), ExitStack()
    with _command.refusing(parser, "finetune", "matplotlib", "tqdm"), opened:
        _command.require_picture(args.out)
        note = note_of(settle(args))
        if args.checkpoint is not None:
            check_checkpoint(args.checkpoint, note)
        task, tx = make_task(args), make_optimizer(args)
        batches = task.batches(args.seed, args.batch)
        if args.log is not None:
            check_log(args.log, tx, task.params, note)
        callback = make_callback(args, note, opened)
        loggers = opened.pop_all()
    evaluated = task.split(args.evaluate_on)
    files = dict(log=args.log, checkpoint=args.checkpoint, note=note, callback=callback)
    options = dict(objective=args.objective, every=args.evaluate_every, **files)
    with loggers:
        trained = lm.train(task, tx, args.steps, batches, evaluated, **options)
    save(args, task, trained.params)
    if said := zojax.verdict(trained.state):
        print(f"warning: {said}", file=sys.stderr)
    return _finetune_report.report(args, task, tx, trained, next(batches), start)


if __name__ == "__main__":
    sys.exit(main())
