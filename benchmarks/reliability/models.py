"""Host models that fail at a random query: is a partial result lost, is every query counted?"""

import numpy as np

from zojax import attacks

_IMAGES, _SHAPE, _CLASSES, _BUDGET = 6, (3, 8, 8), 4, 60

# Few programs are compiled: images, norms and budgets are the same in all runs.
_ATTACKS = {
    "square": (attacks.square, 0.15, {}),
    "simba_dct": (attacks.simba_dct, 1.0, {"frequencies": 1.0}),
    "nes": (attacks.nes, 0.15, {"num_directions": 5}),
    "bandits": (attacks.bandits, 0.15, {}),
}
_ERRORS = RuntimeError, OSError, KeyboardInterrupt, MemoryError, ZeroDivisionError


class _Unreliable:
    """A linear model that answers `limit` images, and then raises."""

    def __init__(self, weights: np.ndarray, limit: int | None, error: type[BaseException]):
        self.weights, self.limit, self.error, self.answered = weights, limit, error, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self.limit is not None and self.answered + len(images) > self.limit:
            raise self.error("the model failed")
        self.answered += len(images)
        return self.scores(images)

    def scores(self, images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), -1) - 0.5) @ self.weights


def model_failures(runs: int, seed: int) -> dict[str, int]:
    """Attacks on models that raise at a random query.

    A result is lost if the exception has no partial result, or there was none. It is wrong if the model
    contradicts `success`, or an image is outside of its ball.
    """
    rng = np.random.default_rng(seed)
    found = {"runs": 0, "results lost": 0, "queries miscounted": 0, "wrong results": 0}
    for _ in range(runs):
        attack, eps, options = _ATTACKS[rng.choice(list(_ATTACKS))]
        x = rng.uniform(size=(_IMAGES, *_SHAPE)).astype(np.float32)
        weights = rng.normal(size=(x[0].size, _CLASSES)).astype(np.float32)
        error = _ERRORS[rng.integers(len(_ERRORS))]
        given = dict(key=int(rng.integers(2**31)), x=x, eps=eps, budget=_BUDGET, jit=False)
        given |= dict(layout="nchw", batch_size=int(rng.integers(1, 12))) | options

        whole = _Unreliable(weights, None, error)
        y = whole.scores(x).argmax(axis=1)
        attack(model=whole, y=y, **given)
        model = _Unreliable(weights, int(rng.integers(whole.answered)), error)
        found["runs"] += 1
        try:
            attack(model=model, y=y, **given)
        except error as raised:
            result = getattr(raised, "partial_result", None)
        else:
            result = None
        if result is None:
            found["results lost"] += 1
            continue
        found["queries miscounted"] += int(result.queries.sum()) != model.answered
        found["wrong results"] += not _is_right(result, model, x, y, eps)
    return found


def _is_right(result: attacks.Result, model: _Unreliable, x, y, eps: float) -> bool:
    predicted = model.scores(np.asarray(result.adversarial)).argmax(axis=1)
    return bool(
        result.adversarial.shape == x.shape
        and np.array_equal(result.success, predicted != y)
        and np.all(result.norms <= eps * (1 + 1e-6))
        and np.all(result.queries <= _BUDGET)
    )
