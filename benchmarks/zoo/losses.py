"""Losses of rlax and optax around small networks."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, normal, tokens


def _network(*widths):
    layers = [layer for width in widths[:-1] for layer in (nn.Dense(width), nn.relu)]
    return nn.Sequential([*layers, nn.Dense(widths[-1])])


def target_network() -> Model:
    """rlax: double Q-learning whose target stops the gradient of the same parameters."""
    import rlax

    model, x = _network(256, 6), normal(2, 32, 128)
    params = jax.jit(model.init)(KEY, x)

    def loss(params, x, action, reward):
        now, after = model.apply(params, x)
        target = model.apply(jax.lax.stop_gradient(params), x[1])
        error = jax.vmap(rlax.double_q_learning)(
            now, action, reward, 0.9 + 0 * reward, target, after
        )
        return jnp.mean(jnp.square(error))

    batch = {"x": x, "action": tokens(32, below=6), "reward": normal(32)}
    return Model(loss, params, batch)


def actor_critic() -> Model:
    """rlax: policy gradient, entropy and a value loss over a sequence."""
    import rlax

    model, x = _network(256, 7), normal(17, 64)
    params = jax.jit(model.init)(KEY, x)

    def loss(params, x, action, reward):
        out = model.apply(params, x)
        logits, value = out[:-1, :6], out[:, 6]
        advantage = rlax.td_lambda(value[:-1], reward, 0.9 + 0 * reward, value[1:], 0.9)
        weights = jnp.ones_like(reward)
        policy = rlax.policy_gradient_loss(logits, action, advantage, weights)
        return policy + 0.01 * rlax.entropy_loss(logits, weights) + jnp.mean(jnp.square(advantage))

    batch = {"x": x, "action": tokens(16, below=6), "reward": normal(16)}
    return Model(loss, params, batch)


def ctc() -> Model:
    """optax: CTC over a sequence of logits."""
    model, x = _network(256, 16), normal(4, 24, 64)
    params = jax.jit(model.init)(KEY, x)

    def loss(params, x, labels):
        logits, zeros = model.apply(params, x), jnp.zeros
        return jnp.mean(optax.ctc_loss(logits, zeros(x.shape[:2]), labels + 1, zeros(labels.shape)))

    return Model(loss, params, {"x": x, "labels": tokens(4, 6, below=14)})


def distillation() -> Model:
    """optax: KL divergence to a teacher that shares the embedding; focal loss on labels."""
    student, teacher, x = _network(128, 10), _network(256, 10), normal(32, 64)
    params = {"student": jax.jit(student.init)(KEY, x), "teacher": jax.jit(teacher.init)(KEY, x)}

    def loss(params, x, y):
        logits = student.apply(params["student"], x)
        soft = jax.nn.softmax(jax.lax.stop_gradient(teacher.apply(params["teacher"], x)))
        kl = optax.losses.kl_divergence(jax.nn.log_softmax(logits), soft)
        return jnp.mean(
            kl + jnp.mean(optax.losses.sigmoid_focal_loss(logits, y, alpha=0.25), axis=-1)
        )

    return Model(loss, params, {"x": x, "y": jax.nn.one_hot(tokens(32, below=10), 10)})
