"""Peak memory of one donated mezo step against one forward pass, by the compiler.

    python -m benchmarks.memory

Peak = temporaries + arguments + outputs - aliased, from `compiled.memory_analysis()`. The rule: no more
than the forward's peak, plus the largest slice of one leaf that a layer reads, plus 1 %.
"""

import argparse

import jax
import optax

import zojax
from benchmarks import works
from benchmarks.measure import markdown, matching, peak_bytes, save
from benchmarks.models import MODELS, Model
from benchmarks.rivals import naive as written
from zojax import directions, implicit

DIRECTIONS = {
    "signs": directions.rademacher(),
    "normal": directions.normal(),
    "low rank": directions.low_rank(),
}


def forward(model: Model):
    return jax.jit(lambda p, batch: model.loss(p, **batch)).lower(model.params, model.batch)


def backward(model: Model):
    """jax.grad and sgd, donated."""

    def step(params, batch):
        grads = jax.grad(lambda p: model.loss(p, **batch))(params)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads)

    return jax.jit(step, donate_argnums=0).lower(model.params, model.batch)


def naive(model: Model):
    """MeZO as one would write it: jax.random.normal on the tree, one direction."""
    program = written.build(works.of(model, 2), "map")
    carry = jax.eval_shape(program.start, model.params)
    return jax.jit(program.step, donate_argnums=0).lower(carry, model.batch)


def mezo(model: Model, direction):
    """The library's step, donated, in one program."""
    tx = zojax.mezo(1e-6, 1e-3, direction=direction)

    def step(params, state, batch):
        updates, state = tx.update(None, state, params, value_fn=model.loss, **batch)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, model.params)
    return jax.jit(step, donate_argnums=(0, 1)).lower(model.params, state, model.batch)


def largest_slice(model: Model) -> int:
    """Bytes of the largest part of a leaf that one operation of the loss reads, by `explain`."""
    report = implicit.explain(model.loss, model.params, DIRECTIONS["normal"], **model.batch)
    return report.largest_slice


def measure(name: str, model: Model) -> list[dict]:
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(model.params))
    floor = peak_bytes(forward(model).compile())
    rule = 1.01 + largest_slice(model) / floor
    rows = []
    contestants = {"jax.grad + sgd": backward(model), "naive mezo": naive(model)}
    for label, direction in DIRECTIONS.items():
        contestants[f"zojax.mezo, {label}"] = mezo(model, direction)
    for label, lowered in contestants.items():
        peak = peak_bytes(lowered.compile())
        rows.append(
            {
                "model": name,
                "step": label,
                "parameters, MB": size / 1e6,
                "forward peak, MB": floor / 1e6,
                "peak / parameters": peak / size,
                "peak / forward peak": peak / floor,
                "rule": rule,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="part of a model's name; printed, not saved")
    parser.add_argument("--table22", choices=("here", "h100"), help="MeZO's OPT shapes instead")
    arguments = parser.parse_args()
    if arguments.table22:
        from benchmarks import table22  # before anything asks JAX for its devices

        return table22.main(arguments.table22, arguments.only)
    chosen = matching(MODELS, arguments.only)
    rows = [row for name, make in chosen.items() for row in measure(name, make())]
    print(markdown(rows)) if arguments.only else save("memory", rows)


if __name__ == "__main__":
    main()
