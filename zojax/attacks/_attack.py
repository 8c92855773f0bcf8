"""The contracts that you may implement: `Attack`, its callbacks, and the `Model` under attack."""

from typing import Any, NamedTuple, Protocol

import jax
from jax.typing import ArrayLike

from zojax._trees import PyTree


class Model(Protocol):
    """Images (n, ...) in [0, 1] to scores (n, classes) or labels (n,), in the caller's layout.

    Images are float32: JAX arrays, or NumPy arrays with `jit=False`. Scores are logits or probabilities.
    """

    def __call__(self, images: Any, /) -> ArrayLike: ...


class ClassLoss(Protocol):
    """Logits (classes,) and a class to a scalar. Untargeted attacks lower it, targeted attacks raise it."""

    def __call__(self, logits: jax.Array, label: jax.Array, /) -> jax.Array: ...


class Init(Protocol):
    """The attack's state before the first round, from the image's key, the image and its loss."""

    def __call__(self, key: jax.Array, x: jax.Array, loss: jax.Array, /) -> PyTree: ...


class Propose(Protocol):
    """The images (points, *x.shape) that round t evaluates. The driver projects them onto the ball."""

    def __call__(
        self, key: jax.Array, state: Any, x: jax.Array, eps: jax.Array, t: jax.Array, /
    ) -> jax.Array: ...


class Update(Protocol):
    """The state after round t, from the projected images and their losses (points,).

    The key is the key of `propose`. The loss of an unusable score is inf. Without a `ClassLoss`, an
    adversarial image has the loss -1, another one 1.
    """

    def __call__(
        self,
        key: jax.Array,
        state: Any,
        x: jax.Array,
        eps: jax.Array,
        t: jax.Array,
        points: jax.Array,
        losses: jax.Array,
        /,
    ) -> PyTree: ...


class Attack(NamedTuple):
    """The rounds of an attack on one image: three pure functions, which the driver maps over images.

    The driver projects, counts queries and stops. Run an attack by `attacks.run` or `attacks.ask_tell`.
    Make it once: programs are compiled for its functions. The state is any pytree of arrays.

    Attributes:
      norm: "linf" or "l2", the norm of the ball.
      loss: `loss(logits, label) -> scalar`, to be lowered for the true class. None for an attack from
        labels: its points may leave the ball, and the adversarial image nearest to x is kept. An image
        is solved once this image is within eps.
      points: queries of a round, an int.
      init: `init(key, x, loss) -> state`. `loss` is the loss of x; x is float32 with channels last.
      propose: `propose(key, state, x, eps, t) -> images` of shape (points, *x.shape).
      update: `update(key, state, x, eps, t, points, losses) -> state`.

    A random search over corners of the ball:

    >>> import jax, jax.numpy as jnp
    >>> from zojax import attacks
    >>> def init(key, x, loss):
    ...     return x, loss
    >>> def propose(key, state, x, eps, t):
    ...     flips_key, signs_key = jax.random.split(key)
    ...     flips = jax.random.bernoulli(flips_key, 0.2, x.shape)
    ...     signs = jax.random.rademacher(signs_key, x.shape, x.dtype)
    ...     return jnp.where(flips, x + eps * signs, state[0])[None]
    >>> def update(key, state, x, eps, t, points, losses):
    ...     better = losses[0] < state[1]
    ...     return jnp.where(better, points[0], state[0]), jnp.where(better, losses[0], state[1])
    >>> corners = attacks.Attack("linf", lambda logits, c: logits[c], 1, init, propose, update)
    >>> x = jax.random.uniform(jax.random.key(1), (8, 6, 6))
    >>> w = jax.random.normal(jax.random.key(2), (36, 3))
    >>> model = lambda images: images.reshape(-1, 36) @ w
    >>> found = attacks.run(0, corners, model, x, jnp.argmax(model(x), 1), eps=0.3, budget=200)
    >>> bool(found.success.all())
    True
    """

    norm: str
    loss: ClassLoss | None
    points: int
    init: Init
    propose: Propose
    update: Update

    @property
    def from_labels(self) -> bool:
        return self.loss is None
