"""Black-box attacks by zojax and by the Adversarial Robustness Toolbox, on one model and the same images.

ART calls the same compiled model through its black-box classifier. Its calls are padded to powers of two,
so that few shapes compile, and every image shown to the model counts. Its iterations are set to our budget,
which for Square gives it more queries than ours. One judge for both: misclassified, within the radius.
"""

import jax
import numpy as np

from benchmarks.contestants import once
from zojax import attacks
from zojax.examples import _cnn, _images


class Counted:
    """The model for ART: NumPy in and out, counting images."""

    def __init__(self, model):
        self.model, self.queries = model, 0

    def __call__(self, images):
        images = np.asarray(images, np.float32).reshape(-1, 28, 28)
        self.queries += len(images)
        return answers(self.model, images)


def answers(model, images) -> np.ndarray:
    """The model's answers on images that are padded to a power of two."""
    most = 1 << (len(images) - 1).bit_length()
    padded = np.pad(images, ((0, most - len(images)), (0, 0), (0, 0)))
    return np.asarray(model(padded))[: len(images)]


def build(work, by, enough=False):
    params, x, y = network(work.data, work.images, work.epochs)
    budget = work.enough if enough else work.budget
    predict = jax.jit(lambda images: _cnn.forward(params, images))
    model = (lambda images: _cnn.forward(params, images)) if by == "zojax" else predict
    attack = zojax_attack if by == "zojax" else art_attack

    def run():
        adversarial, queries = attack(work, model, x, y, budget)
        found = judged(predict, work, x, y, adversarial)
        return found | {"budget": budget, "queries": float(np.mean(queries))}

    return once(run, len(x))


def network(data: str, count: int, epochs: int):
    """A trained network, and the first images that it classifies rightly."""
    images = _images.DATA[data]()
    params = _images.train(images, epochs)
    logits = _cnn.forward(params, images.test_x)
    right = np.flatnonzero(np.argmax(logits, axis=1) == images.test_y)[:count]
    return params, images.test_x[right], images.test_y[right]


def judged(predict, work, x, y, adversarial) -> dict:
    wrong = np.argmax(predict(adversarial), axis=1) != y
    inside = lengths(adversarial - x, work.norm) <= work.eps * (1 + 1e-3)
    return {"success": float(np.mean(wrong & inside))}


def lengths(delta, norm) -> np.ndarray:
    flat = np.asarray(delta).reshape(len(delta), -1)
    return np.linalg.norm(flat, {"linf": np.inf, "l2": 2}[norm], axis=1)


def classifier(call):
    """ART's black box around a function of images (n, 28, 28, 1)."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    options = {"channels_first": False, "clip_values": (0, 1)}
    return BlackBoxClassifierNeuralNetwork(call, (28, 28, 1), 10, **options)


def zojax_attack(work, model, x, y, budget):
    options = {}
    if work.step is not None:
        options["learning_rate" if work.name == "zoo" else "step"] = work.step
    if work.name == "square":
        options["p"] = {"linf": 0.05, "l2": 0.1}[work.norm]
    attack = getattr(attacks, work.name)
    result = attack(0, model, x, y, work.eps, work.norm, budget, **options)
    return np.asarray(result.adversarial), np.asarray(result.queries)


def art_attack(work, model, x, y, budget):
    counted = Counted(model)

    def call(images):  # SimBA takes probabilities, the others logits
        scores = counted(images)
        return np.asarray(jax.nn.softmax(scores)) if work.name.startswith("simba") else scores

    attack = _art(work, classifier(call), budget)
    adversarial = attack.generate(x[..., None], np.eye(10, dtype=np.float32)[y])
    return np.asarray(adversarial)[..., 0], counted.queries / len(x)


def _art(work, classifier, budget):
    from art.attacks import evasion

    if work.name == "square":
        norm, p = {"linf": (np.inf, 0.05), "l2": (2, 0.1)}[work.norm]
        settings = dict(norm=norm, eps=work.eps, p_init=p, nb_restarts=1)
        return evasion.SquareAttack(classifier, max_iter=budget, verbose=False, **settings)
    if work.name == "zoo":
        return evasion.ZooAttack(
            classifier,
            max_iter=budget // 256,  # iterations of 128 pixels, two queries each
            nb_parallel=128,
            binary_search_steps=1,
            learning_rate=work.step,
            initial_const=10.0,  # its default of 1e-3 left every image unsolved
            abort_early=False,
            variable_h=0.05,
            use_resize=False,
            use_importance=False,
            verbose=False,
        )
    settings = {"simba": {"attack": "px"}, "simba_dct": {"freq_dim": 7, "stride": 7}}[work.name]
    return evasion.SimBA(classifier, max_iter=budget, epsilon=work.step, verbose=False, **settings)
