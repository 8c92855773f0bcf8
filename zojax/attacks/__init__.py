"""Black-box adversarial attacks: images that a model gets wrong, found from its outputs alone.

Every attack is a pure function `attack(key, model, x, y, eps, norm, budget, targeted)` of a batch of
images. It compiles to one program, in which each image stops by itself. `jit=False` attacks models that
JAX cannot trace; `ask_tell` attacks models that no function call reaches. `run` takes your own `Attack`.

`hop_skip_jump`, `sign_opt` and `geoda` need labels only. They start outside of the ball and shrink the
distance.

`success` is False for an image that withstood the attack, and for an image that was not really attacked.

- `Result.unusable` counts scores that are not finite or no probabilities, `Result.flat` equal losses.
- Attacks warn of images with no other scores. Inside `jit`, call `Result.problems` afterwards.
- With `output="probabilities"`, scores of x that are negative or do not sum to one raise ValueError.
- A host model without one finite score in its first 10 calls raises ValueError.

An exception of a host model, or Ctrl-C, ends the attack at once. Its attribute `partial_result` is the
`Result` so far, with all queries that the model answered. A compiled attack returns all or nothing.

>>> import numpy as np
>>> from zojax import attacks
>>> def model(images):  # its quota is 20 images
...     if model.answered + len(images) > 20:
...         raise RuntimeError("quota exceeded")
...     model.answered += len(images)
...     total = images.sum(axis=(1, 2))
...     return np.stack([total, 0 * total], axis=1)
>>> model.answered = 0
>>> try:
...     found = attacks.square(0, model, np.full((3, 4, 4), 0.5), np.zeros(3, int), eps=0.1, jit=False)
... except RuntimeError as error:
...     found = error.partial_result
>>> found.queries.sum()
Array(18, dtype=int32)
"""

from zojax.attacks._attack import Attack as Attack
from zojax.attacks._driver.ask_tell import AskTell as AskTell
from zojax.attacks._driver.ask_tell import ask_tell as ask_tell
from zojax.attacks._driver.run import run as run
from zojax.attacks._labels import smoothed as smoothed
from zojax.attacks._result import Result as Result
from zojax.attacks.bandits import bandits as bandits
from zojax.attacks.bandits import bandits_attack as bandits_attack
from zojax.attacks.geoda import geoda as geoda
from zojax.attacks.geoda import geoda_attack as geoda_attack
from zojax.attacks.hop_skip_jump import hop_skip_jump as hop_skip_jump
from zojax.attacks.hop_skip_jump import hop_skip_jump_attack as hop_skip_jump_attack
from zojax.attacks.nes import nes as nes
from zojax.attacks.nes import nes_attack as nes_attack
from zojax.attacks.sign_opt import sign_opt as sign_opt
from zojax.attacks.sign_opt import sign_opt_attack as sign_opt_attack
from zojax.attacks.simba import simba as simba
from zojax.attacks.simba import simba_attack as simba_attack
from zojax.attacks.simba import simba_dct as simba_dct
from zojax.attacks.spsa import spsa as spsa
from zojax.attacks.spsa import spsa_attack as spsa_attack
from zojax.attacks.square import square as square
from zojax.attacks.square import square_attack as square_attack
from zojax.attacks.zo_sign_sgd import zo_sign_sgd as zo_sign_sgd
from zojax.attacks.zo_sign_sgd import zo_sign_sgd_attack as zo_sign_sgd_attack
from zojax.attacks.zoo import zoo as zoo
from zojax.attacks.zoo import zoo_attack as zoo_attack

__all__ = [name for name in dir() if not name.startswith("_")]
