"""Black-box adversarial attacks: images that a model gets wrong, found from its outputs alone.

Every attack is a pure function `attack(key, model, x, y, eps, norm, budget, targeted)` over a batch of
images, compiled as one program in which each image stops by itself. Models that JAX cannot trace go
through `jit=False`, or `ask_tell` where no function can be called at all.
"""

from zojax.attacks._driver import AskTell, Attack, ask_tell
from zojax.attacks._labels import smoothed
from zojax.attacks._result import Result
from zojax.attacks.bandits import bandits, bandits_attack
from zojax.attacks.nes import nes, nes_attack
from zojax.attacks.simba import simba, simba_attack, simba_dct
from zojax.attacks.square import square, square_attack
from zojax.attacks.zo_sign_sgd import zo_sign_sgd, zo_sign_sgd_attack
from zojax.attacks.zoo import zoo, zoo_attack

__all__ = [
    "AskTell",
    "Attack",
    "Result",
    "ask_tell",
    "bandits",
    "bandits_attack",
    "nes",
    "nes_attack",
    "simba",
    "simba_attack",
    "simba_dct",
    "smoothed",
    "square",
    "square_attack",
    "zo_sign_sgd",
    "zo_sign_sgd_attack",
    "zoo",
    "zoo_attack",
]
