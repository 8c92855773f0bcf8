"""Black-box attacks beside the Adversarial Robustness Toolbox, on one model, images, norm and radius.

    python -m pip install ".[bench]"
    python -m benchmarks.attacks

ART calls the same compiled model through its black-box classifier; calls are padded to powers of two, so
that few shapes are compiled, and every image it shows the model is counted. Its iterations are set to our
budget, which for Square gives it more queries than ours. Both are judged alike: misclassified, within
the radius. Where ours solves more images with that budget, it runs again with fewer queries, enough for
ART's success: images per second at equal success.
"""

import argparse
import statistics
import time
from typing import NamedTuple

import jax
import numpy as np

from benchmarks.measure import save, saved
from zojax import attacks
from zojax.examples import _cnn, _images


class Counted:
    """The model for ART: NumPy in and out, counting images."""

    def __init__(self, model):
        self.model, self.queries = model, 0

    def __call__(self, images):
        images = np.asarray(images, np.float32).reshape(-1, 28, 28)
        count = len(images)
        self.queries += count
        padded = np.zeros((1 << (count - 1).bit_length(), 28, 28), np.float32)
        padded[:count] = images
        return np.asarray(self.model(padded))[:count]


def art_square(classifier, eps, norm, budget, step):
    from art.attacks.evasion import SquareAttack

    p = {"linf": np.inf, "l2": 2}[norm]
    start = {"linf": 0.05, "l2": 0.1}[norm]
    return SquareAttack(
        classifier, norm=p, eps=eps, max_iter=budget, p_init=start, nb_restarts=1, verbose=False
    )


def art_simba(classifier, eps, norm, budget, step):
    from art.attacks.evasion import SimBA

    return SimBA(classifier, attack="px", max_iter=budget, epsilon=step, verbose=False)


def art_simba_dct(classifier, eps, norm, budget, step):
    from art.attacks.evasion import SimBA

    return SimBA(classifier, max_iter=budget, epsilon=step, freq_dim=7, stride=7, verbose=False)


def art_zoo(classifier, eps, norm, budget, step):
    from art.attacks.evasion import ZooAttack

    return ZooAttack(
        classifier,
        max_iter=budget // 256,  # iterations of 128 pixels, two queries each
        nb_parallel=128,
        binary_search_steps=1,
        learning_rate=step,
        initial_const=10.0,  # its default of 1e-3 left every image unsolved
        abort_early=False,
        variable_h=0.05,
        use_resize=False,
        use_importance=False,
        verbose=False,
    )


class Setting(NamedTuple):
    """What both attack; `enough` queries of ours are for the success that ART has with all."""

    norm: str
    eps: float
    images: int
    budget: int
    step: float | None = None
    enough: int | None = None


WORK = {
    "square": [
        Setting("linf", 0.3, 100, 1000),
        Setting("linf", 0.2, 100, 1000),
        Setting("linf", 0.1, 100, 1000, enough=700),
        Setting("l2", 3.0, 100, 1000, enough=400),
        Setting("l2", 2.0, 100, 1000, enough=300),
    ],
    "simba": [Setting("l2", 3.0, 100, 2000, 0.2)],
    "simba_dct": [Setting("l2", 3.0, 100, 1000, 0.2)],
    "zoo": [Setting("l2", 3.0, 20, 5120, 0.05)],
}
ART = {"square": art_square, "simba": art_simba, "simba_dct": art_simba_dct, "zoo": art_zoo}


def ours(name, model, x, y, eps, norm, budget, step):
    options = {} if step is None else {"learning_rate" if name == "zoo" else "step": step}
    if name == "square":
        options["p"] = {"linf": 0.05, "l2": 0.1}[norm]
    result = getattr(attacks, name)(0, model, x, y, eps, norm, budget, **options)
    return np.asarray(result.adversarial), np.asarray(result.queries)


def theirs(name, model, x, y, eps, norm, budget, step):
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    counted = Counted(model)
    # SimBA takes probabilities, the others what the model gives.
    call = counted
    if name.startswith("simba"):
        call = lambda images: np.asarray(jax.nn.softmax(counted(images)))  # noqa: E731
    classifier = BlackBoxClassifierNeuralNetwork(
        call, (28, 28, 1), 10, channels_first=False, clip_values=(0, 1)
    )
    attack = ART[name](classifier, eps, norm, budget, step)
    adversarial = attack.generate(x[..., None], np.eye(10, dtype=np.float32)[y])
    return np.asarray(adversarial)[..., 0], np.full(len(x), counted.queries / len(x))


def judged(predict, x, y, eps, norm, adversarial, queries, seconds):
    delta = (adversarial - x).reshape(len(x), -1)
    lengths = np.abs(delta).max(1) if norm == "linf" else np.linalg.norm(delta, axis=1)
    wrong = np.argmax(predict(adversarial), axis=1) != y
    return {
        "success": float(np.mean(wrong & (lengths <= eps * (1 + 1e-3)))),
        "queries / image, solved or not": float(np.mean(queries)),
        "images / s": len(x) / seconds,
    }


def measure(name, setting, params, x, y, rounds) -> list[dict]:
    predict = jax.jit(lambda images: _cnn.forward(params, images))
    for k in range(10):  # every shape that ART shows the model is compiled here
        predict(np.zeros((1 << k, 28, 28), np.float32))
    norm, eps, count, budget, step, enough = setting
    images, labels = x[:count], y[:count]
    contestants = {
        ("zojax", budget): (ours, lambda images: _cnn.forward(params, images)),
        ("ART", budget): (theirs, predict),
    }
    if enough:
        contestants["zojax", enough] = contestants["zojax", budget]
    seconds, found = {who: [] for who in contestants}, {}
    for _ in range(rounds + 1):  # the first call compiles
        for who, (attack, model) in contestants.items():
            start = time.perf_counter()
            found[who] = attack(name, model, images, labels, eps, norm, who[1], step)
            seconds[who].append(time.perf_counter() - start)
    rows = []
    for (by, queries), taken in seconds.items():
        what = {"attack": name, "norm": norm, "eps": eps, "images": count}
        result = judged(
            predict, images, labels, eps, norm, *found[by, queries], statistics.median(taken[1:])
        )
        rows.append(what | {"budget": queries, "by": by} | result | {"first call, s": taken[0]})
    art = rows[1]
    for row in rows:
        row["speed / ART"] = row["images / s"] / art["images / s"]
        print(row, flush=True)
    last = rows[-1] if enough else rows[0]
    lost = {
        "lower success than ART": min(r["success"] for r in rows) < art["success"],
        "more queries than ART": rows[0]["queries / image, solved or not"]
        > art["queries / image, solved or not"],
        "less than 10 times ART's images per second": last["speed / ART"] < 10,
    }
    for what in (text for text, is_so in lost.items() if is_so):
        print(f"LOST: {name} {norm} {eps}: {what}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=tuple(WORK), default=tuple(WORK))
    arguments = parser.parse_args()
    images = _images.mnist()
    params = _images.train(images)
    logits = _cnn.forward(params, images.test_x)
    print(f"accuracy of the model: {_images.accuracy(logits, images.test_y):.3f}")
    right = np.flatnonzero(np.argmax(logits, axis=1) == images.test_y)
    x, y = images.test_x[right], images.test_y[right]
    rows = [
        row
        for name in arguments.only
        for setting in WORK[name]
        for row in measure(name, setting, params, x, y, arguments.rounds)
    ]
    kept = [row for row in saved("attacks") if row["attack"] not in arguments.only]
    save("attacks", kept + rows)


if __name__ == "__main__":
    main()
