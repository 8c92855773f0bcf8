"""Networks of penzai and e3nn-jax."""

import jax

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, distance, normal


def penzai_mlp() -> Model:
    """penzai: an MLP with named axes."""
    from penzai import pz
    from penzai.models import simple_mlp

    model = simple_mlp.MLP.from_config(KEY, [128, 256, 10])
    bare, params = pz.unbind_params(model, freeze=True)

    def loss(params, x):
        named = pz.nx.wrap(x).tag("batch", "features")
        out = pz.bind_variables(bare, params)(named)
        return distance(out.unwrap("batch", "features"))

    return Model(loss, params, {"x": normal(32, 128)})


def e3nn_layer() -> Model:
    """e3nn-jax: an equivariant linear layer on tensor products."""
    import e3nn_jax as e3nn
    from e3nn_jax.flax import Linear

    irreps = e3nn.Irreps("32x0e + 32x1o")
    layer = Linear(irreps)
    x = normal(16, irreps.dim)

    def apply(params, x):
        a = e3nn.IrrepsArray(irreps, x)
        return layer.apply(params, e3nn.tensor_square(a)).array

    square = e3nn.tensor_square(e3nn.IrrepsArray(irreps, x))
    params = jax.jit(layer.init)(KEY, square)
    return Model(lambda params, x: distance(apply(params, x)), params, {"x": x})
