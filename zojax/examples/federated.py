"""Federated learning by scalars: `python -m zojax.examples.federated`.

Clients hold different classes of scikit-learn's digits. In a round of DeComFL
(https://arxiv.org/abs/2405.15861), some clients replay the steps that they missed and take a few steps on
their own examples. They send the coefficients of these steps, one float for each direction. The server
averages the coefficients. It never sees a parameter or an example.

With `--pool`, steps share this many seeds, as in FedKSeed (https://arxiv.org/abs/2312.06353). The server
keeps one sum of coefficients for each seed. A client receives these sums, however many rounds it missed.

For comparison one process trains on all the data, with as many steps and examples a step.
"""

import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import zojax
from zojax.examples import _command, _federated_options, _federated_report, _mlp
from zojax.examples._digits import shuffled_digits
from zojax.lm import mean_nll

__all__ = ["Client", "main", "split", "train"]


class Client(NamedTuple):
    """What a client keeps: its examples, and the run as far as it has seen it."""

    images: np.ndarray
    labels: np.ndarray
    params: tuple
    state: zojax.ZerothOrderState


def split(args, tx) -> tuple[list[Client], Client, tuple[np.ndarray, np.ndarray]]:
    """Clients with two shards of the digits sorted by class, one with all of them, and test data."""
    images, labels = shuffled_digits()
    test, rest = np.arange(400), np.arange(400, len(labels))
    params = _mlp.init(jax.random.key(args.seed), (64, 32, 10))
    state = tx.init(params)
    shards = np.array_split(rest[np.argsort(labels[rest], kind="stable")], 2 * args.clients)
    mine = [np.concatenate(shards[i :: args.clients]) for i in range(args.clients)]
    clients = [Client(images[own], labels[own], params, state) for own in mine]
    return clients, Client(images[rest], labels[rest], params, state), (images[test], labels[test])


def loss(params: tuple, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    return mean_nll(_mlp.forward(params, images), labels)


@partial(jax.jit, static_argnums=0)
def stepped(tx, params, state, batches):
    """Steps on batches (K, B, ...): the parameters, the state, and the coefficients (K, N)."""

    def step(carry, batch):
        params, state = carry
        images, labels = batch
        extras = dict(value_fn=loss, images=images, labels=labels)
        updates, state = tx.update(None, state, params, **extras)
        return (zojax.apply_updates(params, updates), state), state.coefficients

    (params, state), coefficients = jax.lax.scan(step, (params, state), batches)
    return params, state, coefficients


@partial(jax.jit, static_argnums=0)
def replayed(tx, params, state, coefficients):
    """Steps with given coefficients (K, N): the parameters and the state."""

    def step(carry, row):
        params, state = carry
        updates, state = tx.replay(state, params, row)
        return (zojax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), coefficients)[0]


def draw(rng: np.random.Generator, client: Client, steps: int, size: int) -> tuple:
    """Batches (steps, size, ...) of the client's examples."""
    chosen = rng.integers(0, len(client.labels), (steps, size))
    return client.images[chosen], client.labels[chosen]


def caught_up(args, tx, client: Client, base: Client, server: np.ndarray, step: int):
    """The client at a step of the run, and the floats that it received for this."""
    if args.pool:  # sums of coefficients, from the first parameters on
        params, state = replayed(tx, base.params, base.state, server)
        state = state._replace(count=jnp.int32(step % args.pool))
        return client._replace(params=params, state=state), server.size
    params, state, seen = client.params, client.state, int(client.state.count)
    for begin in range(seen, step, args.local_steps):
        params, state = replayed(tx, params, state, server[begin : begin + args.local_steps])
    return client._replace(params=params, state=state), server[seen:step].size


def train(args, tx, clients: list[Client], accuracy) -> tuple[list[Client], list[tuple]]:
    """The clients after all rounds, and a row of each round: accuracy, bytes sent, bytes received."""
    rng, base, rows = np.random.default_rng(args.seed), clients[0], []
    total = args.rounds * args.local_steps
    server, clients = np.zeros((args.pool or total, args.num_directions), np.float32), [*clients]
    for step in range(0, total, args.local_steps):
        sent, received = [], 0.0
        for i in rng.choice(args.clients, args.sampled, replace=False).tolist():
            clients[i], count = caught_up(args, tx, clients[i], base, server, step)
            batches = draw(rng, clients[i], args.local_steps, args.batch)
            sent.append(np.asarray(stepped(tx, clients[i].params, clients[i].state, batches)[2]))
            received += 4 * count / args.sampled
        begin = step % len(server)
        server[begin : begin + args.local_steps] += np.mean(sent, axis=0)
        rows.append((accuracy(clients[i].params), sent[0].nbytes, received))
    return [caught_up(args, tx, c, base, server, total)[0] for c in clients], rows


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = _federated_options.make_parser()
    args = parser.parse_args(argv)
    with _command.refusing(parser, "finetune", "sklearn"):
        _federated_options.settle(args)
    estimator = dict(num_directions=args.num_directions, key=args.seed)
    tx = zojax.mezo(args.learning_rate, args.mu, **estimator)
    clients, pooled, (x, labels) = split(args, tx)
    images = jnp.asarray(x)
    predict = jax.jit(lambda params: _mlp.forward(params, images).argmax(axis=1))

    def accuracy(params) -> float:
        return float(np.mean(predict(params) == labels))

    _, rows = train(args, tx, clients, accuracy)
    rng, params, state = np.random.default_rng(args.seed), pooled.params, pooled.state
    for _ in range(args.rounds):
        batches = draw(rng, pooled, args.local_steps, args.sampled * args.batch)
        params, state, _ = stepped(tx, params, state, batches)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    print(_federated_report.describe(rows, accuracy(params), size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
