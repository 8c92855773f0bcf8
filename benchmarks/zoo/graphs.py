"""Graph networks of jraph; their layers are Haiku's, or arrays."""

import haiku as hk
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from benchmarks.models import Model
from benchmarks.zoo.data import KEY, distance, normal

NODES, EDGES = 32, 96


def _of(network) -> Model:
    ends = jnp.asarray(np.random.default_rng(0).integers(0, NODES, (2, EDGES)), jnp.int32)
    features = normal(NODES, 128), normal(EDGES, 16), *ends, normal(1, 16)
    graph = jraph.GraphsTuple(*features, jnp.array([NODES]), jnp.array([EDGES]))
    model = hk.without_apply_rng(hk.transform(network))
    params = jax.jit(model.init)(KEY, graph)
    return Model(lambda params, x: distance(model.apply(params, x).nodes), params, {"x": graph})


def graph_network() -> Model:
    """GraphNetwork with MLPs for edges, nodes and globals."""

    def network(graph):
        def update():
            mlp = hk.nets.MLP([128, 128])
            return jraph.concatenated_args(mlp)

        return jraph.GraphNetwork(update(), update(), update())(graph)

    return _of(network)


def attention() -> Model:
    """GAT."""

    def network(graph):
        query = hk.Linear(128)

        def logits(sender, receiver, edges):
            return hk.Linear(1)(jnp.concatenate([sender, receiver], axis=1))

        return jraph.GAT(query, logits)(graph._replace(edges=None))

    return _of(network)


def convolution() -> Model:
    """GraphConvolution, two layers."""

    def network(graph):
        for width in (128, 32):
            graph = jraph.GraphConvolution(hk.Linear(width), add_self_edges=True)(graph)
            graph = graph._replace(nodes=jax.nn.relu(graph.nodes))
        return graph

    return _of(network)
