"""Training on rewards for generated text: no label, no likelihood, no gradient.

A step has three parts:

1. a population of members continues the same prompts, in one program: `make_write`;
2. a `Reward` scores the texts, in Python or JAX: `each`, `together`, `traced`;
3. the optimizer gets minus each member's reward, `centred` for each prompt.

`train` repeats it, records the scalars of each step and evaluates held-out prompts. Any optimizer with
values will do: `zojax.eggroll` and `zojax.open_es` with low-rank directions share the products with the
weights.

The reward of this toy is the share of even tokens:

>>> import jax, jax.numpy as jnp, numpy as np, zojax
>>> from zojax import lm
>>> from zojax.lm import rewards
>>> config = lm.llama.Config(vocabulary=16, width=8, layers=1, heads=2, kv_heads=1, hidden=8)
>>> model = lm.Model(lm.llama, config, lm.llama.init(jax.random.key(0), config))
>>> prompts = rewards.Prompts(np.array([[1, 2, 3], [4, 5, 0]]), np.array([3, 2]), [None, None])
>>> even = rewards.traced(lambda tokens, length, example: jnp.mean(tokens % 2 == 0))
>>> params, frozen = lm.partition(model, "full", 0, [])
>>> problem = rewards.Problem(model, params, frozen, even, lambda step: prompts, new=6, held_out=prompts)
>>> tx = zojax.eggroll(learning_rate=0.03, mu=0.03, population=16)
>>> trained = rewards.train(problem, tx, 10)
>>> trained.held_out[-1]["reward"] > trained.held_out[0]["reward"]
True

Source: Sarkar et al., "Evolution strategies at the hyperscale", https://arxiv.org/abs/2511.16652.
"""

from zojax.lm.rewards._gym import GYM, Gym, gym
from zojax.lm.rewards._members import make_write
from zojax.lm.rewards._picture import draw
from zojax.lm.rewards._problem import Problem, Prompts, batches, encode
from zojax.lm.rewards._reward import (
    Reward,
    Written,
    centred,
    each,
    first_line,
    matches,
    together,
    traced,
    weighted,
)
from zojax.lm.rewards._training import Trained, train

__all__ = [
    "GYM",
    "Gym",
    "Problem",
    "Prompts",
    "Reward",
    "Trained",
    "Written",
    "batches",
    "centred",
    "draw",
    "each",
    "encode",
    "first_line",
    "gym",
    "make_write",
    "matches",
    "together",
    "traced",
    "train",
    "weighted",
]
