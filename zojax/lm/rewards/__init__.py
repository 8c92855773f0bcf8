"""Training on rewards for generated text: no label, no likelihood, no gradient.

A step has three parts:

1. a population of members continues the same prompts, in one program: `make_write`;
2. a reward, `(Written, examples) -> (N,)`, scores the texts in Python or JAX: `each`, `together`,
   `traced`;
3. the optimizer gets minus each member's reward, `centred` for each prompt.

`train` repeats it, records the scalars of each step and evaluates held-out prompts. Any optimizer with
values will do: `zojax.eggroll` and `zojax.open_es` with low-rank directions share the products with the
weights.

    params, frozen = lm.partition(model, "norms", 0, last=6)
    questions = rewards.gym(model, "letter_counting")
    batches = rewards.batches(questions.train, 8)
    problem = rewards.Problem(
        model, params, frozen, questions.reward, batches, new=4, held_out=questions.held_out
    )
    tx = zojax.eggroll(learning_rate=5e-3, mu=4e-2, population=16, batch_size=8)
    trained = rewards.train(problem, tx, 100, folder="run")

Source: Sarkar et al., "Evolution strategies at the hyperscale", https://arxiv.org/abs/2511.16652.
"""

from zojax.lm.rewards._gym import GYM as GYM
from zojax.lm.rewards._gym import GYM_TEMPLATE as GYM_TEMPLATE
from zojax.lm.rewards._gym import Gym as Gym
from zojax.lm.rewards._gym import gym as gym
from zojax.lm.rewards._members import make_write as make_write
from zojax.lm.rewards._picture import draw as draw
from zojax.lm.rewards._problem import Problem as Problem
from zojax.lm.rewards._problem import Prompts as Prompts
from zojax.lm.rewards._problem import batches as batches
from zojax.lm.rewards._problem import encode as encode
from zojax.lm.rewards._reward import Written as Written
from zojax.lm.rewards._reward import centred as centred
from zojax.lm.rewards._reward import each as each
from zojax.lm.rewards._reward import first_line as first_line
from zojax.lm.rewards._reward import matches as matches
from zojax.lm.rewards._reward import together as together
from zojax.lm.rewards._reward import traced as traced
from zojax.lm.rewards._reward import weighted as weighted
from zojax.lm.rewards._training import Trained as Trained
from zojax.lm.rewards._training import evaluate as evaluate
from zojax.lm.rewards._training import train as train

__all__ = [name for name in dir() if not name.startswith("_")]
