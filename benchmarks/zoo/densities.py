"""Log densities: flowjax, distrax, numpyro, dynamax, tinygp."""

import jax
import jax.numpy as jnp

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, normal, tokens

KEYS = jax.random.split(KEY, 4)


def _flow(make, **options) -> Model:
    import equinox as eqx
    import paramax
    from flowjax.distributions import Normal

    flow = make(KEYS[0], base_dist=Normal(jnp.zeros(8)), flow_layers=2, nn_width=64, **options)

    def is_fixed(leaf):
        return isinstance(leaf, paramax.NonTrainable)

    params, static = eqx.partition(flow, eqx.is_inexact_array, is_leaf=is_fixed)

    def loss(params, x):
        return -jnp.mean(paramax.unwrap(eqx.combine(params, static)).log_prob(x))

    return Model(loss, params, {"x": normal(64, 8)})


def masked_autoregressive_flow() -> Model:
    """flowjax: a masked autoregressive flow."""
    from flowjax.flows import masked_autoregressive_flow as make

    return _flow(make)


def coupling_flow() -> Model:
    """flowjax: a coupling flow with rational quadratic splines."""
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.flows import coupling_flow as make

    return _flow(make, transformer=RationalQuadraticSpline(knots=4, interval=3))


def real_nvp() -> Model:
    """distrax: RealNVP with conditioners of Haiku."""
    import distrax
    import haiku as hk

    def log_prob(x):
        layers = []
        for i in range(2):
            mask = jnp.arange(16) % 2 == i
            conditioner = hk.nets.MLP([128, 128, 32])

            def shift_and_scale(params):
                shift, scale = jnp.split(params, 2, axis=-1)
                return distrax.Block(
                    distrax.ScalarAffine(shift, log_scale=0.1 * jnp.tanh(scale)), 0
                )

            layers.append(distrax.MaskedCoupling(mask, conditioner, shift_and_scale))
        base = distrax.MultivariateNormalDiag(jnp.zeros(16), jnp.ones(16))
        return distrax.Transformed(base, distrax.Chain(layers)).log_prob(x)

    model = hk.without_apply_rng(hk.transform(log_prob))
    x = normal(32, 16)
    params = jax.jit(model.init)(KEY, x)
    return Model(lambda params, x: -jnp.mean(model.apply(params, x)), params, {"x": x})


def bayesian_network() -> Model:
    """numpyro: the log density of a Bayesian network."""
    import numpyro
    from numpyro import distributions as dist
    from numpyro.infer.util import log_density

    def model(x, y):
        w1 = numpyro.sample("w1", dist.Normal(jnp.zeros((64, 128)), 1).to_event(2))
        w2 = numpyro.sample("w2", dist.Normal(jnp.zeros((128, 1)), 1).to_event(2))
        with numpyro.plate("data", len(x)):
            numpyro.sample("y", dist.Normal((jnp.tanh(x @ w1) @ w2)[:, 0], 1.0), obs=y)

    params = {"w1": 0.1 * normal(64, 128), "w2": 0.1 * normal(128, 1, seed=1)}

    def loss(params, x, y):
        return -log_density(model, (x, y), {}, params)[0] / len(x)

    return Model(loss, params, {"x": normal(32, 64), "y": normal(32)})


def hidden_markov_model() -> Model:
    """dynamax: the marginal likelihood of a hidden Markov model."""
    from dynamax.hidden_markov_model import hmm_filter

    def loss(params, x):
        start = jax.nn.softmax(params["start"])
        transitions = jax.nn.softmax(params["transitions"], axis=-1)
        likelihoods = jax.nn.log_softmax(params["emissions"], axis=-1)[:, x].T
        return -hmm_filter(start, transitions, likelihoods).marginal_loglik / len(x)

    params = {"start": normal(32), "transitions": normal(32, 32)}
    params["emissions"] = normal(32, 64, seed=1)
    return Model(loss, params, {"x": tokens(24, below=64)})


def gaussian_process() -> Model:
    """tinygp: the marginal likelihood with a deep kernel."""
    import tinygp

    def loss(params, x, y):
        features = jnp.tanh(x @ params["w1"]) @ params["w2"]
        kernel = jnp.exp(params["log_amplitude"]) * tinygp.kernels.ExpSquared()
        return -tinygp.GaussianProcess(kernel, features, diag=0.1).log_probability(y) / len(x)

    params = {"w1": 0.1 * normal(64, 128), "w2": 0.3 * normal(128, 4)}
    params["log_amplitude"] = jnp.zeros(())
    return Model(loss, params, {"x": normal(32, 64), "y": normal(32)})
