"""Memory of compiled programs: a forward pass, and the largest part of a parameter in use."""

import time
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.experimental.compilation_cache import compilation_cache
from jax.flatten_util import ravel_pytree

import zojax
from tests._compiler import is_known
from tests.implicit._helpers import noises, normal
from zojax import directions
from zojax.directions.low_rank import cut
from zojax.implicit import evaluate, explain

pytestmark = pytest.mark.optimized

LAYERS, WIDTH, HIDDEN, VOCABULARY, HEADS, BATCH, LENGTH = 4, 256, 1024, 2048, 4, 4, 128


@cache
def transformer(layers=LAYERS, width=WIDTH, hidden=HIDDEN, batch=BATCH):
    """A loss and the shapes of its parameters: scanned layers, an embedding tied to the output."""
    matrix = jax.ShapeDtypeStruct((layers, width, width), jnp.float32)
    vector = jax.ShapeDtypeStruct((layers, width), jnp.float32)
    stack = {
        **dict.fromkeys("qkvo", matrix),
        "norm1": vector,
        "norm2": vector,
        "up": jax.ShapeDtypeStruct((layers, width, hidden), jnp.float32),
        "bias": jax.ShapeDtypeStruct((layers, hidden), jnp.float32),
        "down": jax.ShapeDtypeStruct((layers, hidden, width), jnp.float32),
    }
    shapes = {"embed": jax.ShapeDtypeStruct((VOCABULARY, width), jnp.float32), "stack": stack}

    def norm(x, gain):
        return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * gain

    def block(x, p):
        h = norm(x, p["norm1"])
        q, k, v = ((h @ p[n]).reshape(batch, LENGTH, HEADS, -1) for n in "qkv")
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(width // HEADS)
        scores = jnp.where(np.tri(LENGTH, dtype=bool), scores, -jnp.inf)
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v)
        x = x + mixed.reshape(x.shape) @ p["o"]
        return x + jax.nn.gelu(norm(x, p["norm2"]) @ p["up"] + p["bias"]) @ p["down"], None

    def loss(params):
        tokens = np.zeros((batch, LENGTH), np.int32)
        x, _ = lax.scan(block, params["embed"][tokens], params["stack"])
        return -jnp.mean(jax.nn.log_softmax(x @ params["embed"].T)[..., 0])

    return loss, shapes


def perturbed(direction, loss, shapes):
    def evaluation(params, key):
        z = direction.draw(direction.frame(key, 1, shapes), 0, shapes)
        return evaluate(loss, params, z, 1e-3)

    return evaluation


def peak(compiled):
    m = compiled.memory_analysis()
    return m.temp_size_in_bytes + m.argument_size_in_bytes + m.output_size_in_bytes


# Signs and normals take the same rules: where both stand, one is slow.
@pytest.mark.parametrize(
    "name", [pytest.param("rademacher", marks=pytest.mark.slow), "normal", "low_rank"]
)
def test_peak_is_a_forward_pass_and_the_largest_slice(name):
    loss, shapes = transformer()
    direction = getattr(directions, name)()
    key = jax.eval_shape(lambda: jax.random.key(0))
    drawn = jax.eval_shape(lambda k: direction.draw(direction.frame(k, 1, shapes), 0, shapes), key)
    forward = peak(jax.jit(loss).lower(shapes).compile())
    ours = peak(jax.jit(perturbed(direction, loss, shapes)).lower(shapes, key).compile())
    largest = explain(loss, shapes, drawn).largest_slice
    # The tied output layer reads all of the embedding at once, low rank reads vectors only.
    assert largest == 4 * (HIDDEN if name == "low_rank" else VOCABULARY * WIDTH)
    assert ours <= 1.01 * forward + largest, (ours, forward, largest)


@pytest.mark.parametrize("name", ["rademacher", "low_rank"])
def test_the_operand_of_a_product_is_stored_once(name):
    """Unrolled layers, whose products read a gelu: the gelu and its tanh are computed once."""
    width, hidden, examples = 128, 512, 512
    matrix = jax.ShapeDtypeStruct((hidden, width), jnp.float32)
    shapes = [(matrix, jax.ShapeDtypeStruct((width, hidden), jnp.float32)) for _ in range(4)]

    def loss(params):
        x = jnp.ones((examples, width))
        for up, down in params:
            x = x + jax.vmap(lambda v, up=up, down=down: down @ jax.nn.gelu(up @ v))(x)
        return jnp.mean(x**2)

    direction = getattr(directions, name)()
    key = jax.eval_shape(lambda: jax.random.key(0))
    forward = peak(jax.jit(loss).lower(shapes).compile())
    ours = peak(jax.jit(perturbed(direction, loss, shapes)).lower(shapes, key).compile())
    assert ours <= 1.01 * forward + 4 * width * hidden, (ours, forward)


def peak_of_donated_step(estimator, loss, shapes):
    """The peak of a step whose new parameters take the place of the old."""
    tx = zojax.zeroth_order(optax.sgd(1e-3), estimator)

    def step(params, state):
        updates, state = tx.update(None, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(tx.init, shapes)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(shapes, state).compile()
    aliased = compiled.memory_analysis().alias_size_in_bytes
    assert aliased >= sum(4 * x.size for x in jax.tree.leaves(shapes))
    return peak(compiled) - aliased


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("normal", 1),
        pytest.param("low_rank", 1, marks=pytest.mark.slow),
        pytest.param("rademacher", 4, marks=pytest.mark.slow),
        ("low_rank", 4),
    ],
)
def test_a_donated_step_needs_no_more_than_an_evaluation(name, count):
    """No gradient, no update and no perturbed copy, also with several directions."""
    loss, shapes = transformer(layers=12, width=1024, hidden=4096)
    estimator = zojax.estimator(
        getattr(directions, name)(), num_directions=count, batch_size=1, mu=1e-3
    )
    ours = peak_of_donated_step(estimator, loss, shapes)
    forward = peak(jax.jit(loss).lower(shapes).compile())
    assert ours <= 1.01 * forward + 4 * VOCABULARY * 1024, (ours, forward)


@pytest.mark.parametrize(
    ("name", "count", "length"), [("rademacher", 3, 2048), ("low_rank", 16, 8)]
)
def test_a_step_holds_no_lookup_through_its_loop_and_no_sums_of_all_leaves(name, count, length):
    """Long inputs make the lookup of the unperturbed embedding large; short ones the sums."""
    matrix = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    tokens = jax.ShapeDtypeStruct((length,), jnp.int32)
    source = zojax.estimator(getattr(directions, name)(), num_directions=count, batch_size=1)

    def loss(params, tokens):
        x = params[0][tokens]
        for w in params[1:]:
            x = jax.nn.softmax(x @ w)
        return jnp.mean(x**2)

    def step(params, tokens):
        grads = zojax.grad(loss, source)(jax.random.key(0), params, tokens)
        return jax.tree.map(lambda p, g: p - g, params, grads)

    def temporaries(fun, *donated):
        compiled = jax.jit(fun, donate_argnums=donated).lower([matrix] * 4, tokens).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours, forward = temporaries(step, 0), temporaries(loss)
    assert ours <= 1.05 * forward + 2 * 4 * matrix.size, (ours, forward)


def test_noise_beside_a_concatenation_waits_for_its_latest_part():
    """The first part is the input, which exists from the start."""
    width, x = 256, normal(0, (8, 256))
    shapes = [jax.ShapeDtypeStruct((width, width), jnp.float32)] * 3

    def loss(params):
        a, b, c = params
        y = jnp.tanh(x @ a) @ b
        return jnp.mean(y) + jnp.mean(jnp.tanh(jnp.concatenate([x, y]) @ c) ** 2)

    ours = peak_of_donated_step(zojax.estimator(directions.rademacher(), mu=1e-3), loss, shapes)
    forward = peak(jax.jit(loss).lower(shapes).compile())
    assert ours <= 1.05 * forward + 4 * width**2, (ours, forward)


def test_radii_of_many_directions_need_no_noise_at_once():
    shape = jax.ShapeDtypeStruct((256, 256), jnp.float32)
    source = zojax.estimator(directions.sphere(), num_directions=16, batch_size=1)
    step = jax.jit(partial(zojax.grad(lambda w: jnp.mean(jnp.ones((2, 256)) @ w), source), 0))
    temporaries = step.lower(shape).compile().memory_analysis().temp_size_in_bytes
    assert temporaries < 0.1 * 4 * 256**2, temporaries


def stacked(p, x):
    """Three layers in one leaf."""
    for w in p:
        x = jnp.tanh(x @ w)
    return jnp.mean(x**2)


def quadratic(p, x):
    """One reduction reads three parts of one leaf."""
    del x
    return jnp.sum(p[0] ** 2 + p[1] * p[2])


FLAT, UNRAVEL = ravel_pytree(
    [(np.zeros((m, n), np.float32), np.zeros(n)) for m, n in ((256, 512), (512, 512), (512, 9))]
)


def flat(p, x):
    """A network in one vector."""
    for w, b in UNRAVEL(p):
        x = jnp.tanh(x @ w + b)
    return jnp.mean(x**2)


@pytest.mark.parametrize(
    ("loss", "shape", "name"),
    [
        (stacked, (3, 256, 256), "rademacher"),
        (quadratic, (3, 256, 256), "normal"),
        (quadratic, (3, 256, 256), "low_rank"),
        (flat, FLAT.shape, "rademacher"),
        (flat, FLAT.shape, "normal"),
    ],
)
def test_parts_of_one_leaf_are_perturbed_alone(loss, shape, name):
    shapes, x = jax.ShapeDtypeStruct(shape, jnp.float32), normal(0, (64, 256))
    estimator = zojax.estimator(getattr(directions, name)(), mu=1e-3)
    ours = peak_of_donated_step(estimator, lambda p: loss(p, x), shapes)
    forward = peak(jax.jit(loss).lower(shapes, x).compile())
    assert ours <= 1.05 * forward, (ours, forward)


def squares(params):
    return sum(jnp.sum(w**2) for w in params)


def absolute(params):
    return sum(jax.tree.leaves(jax.tree.map(lambda w: jnp.mean(jnp.abs(w)), params)))


@pytest.mark.parametrize(
    ("name", "penalty"),
    [("rademacher", squares), pytest.param("low_rank", absolute, marks=pytest.mark.slow)],
)
def test_a_penalty_reads_one_leaf_at_a_time(name, penalty):
    """A sum over a weight has no other operand for its noise to wait for."""
    width = 512
    shapes = [jax.ShapeDtypeStruct((width, width), jnp.float32)] * 5

    def loss(params):
        x = jnp.ones((32, width))
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.mean(x**2) + 1e-3 * penalty(params)

    estimator = zojax.estimator(getattr(directions, name)(), mu=1e-3)
    ours = peak_of_donated_step(estimator, loss, shapes)
    forward = peak(jax.jit(loss).lower(shapes).compile())
    assert ours <= forward + 2.2 * 4 * width**2, (ours, forward)


@pytest.mark.parametrize("name", ["rademacher", "low_rank"])
def test_a_scaled_table_is_perturbed_where_it_is_looked_up(name):
    shapes = jax.ShapeDtypeStruct((20_000, 64), jnp.float32)

    def loss(table):
        return jnp.sum((table * 8.0)[np.arange(16)] ** 2)

    estimator = zojax.estimator(getattr(directions, name)(), mu=1e-3)
    ours = peak_of_donated_step(estimator, loss, shapes)
    forward = peak(jax.jit(loss).lower(shapes).compile())
    assert ours <= 1.05 * forward, (ours, forward)


@pytest.mark.parametrize(
    ("name", "count"),
    [("rademacher", 1), pytest.param("normal", 16, marks=pytest.mark.slow)],
)
def test_a_vector_that_is_read_several_times_is_perturbed_once(name, count):
    """A forward pass and one perturbed vector: no copy for each reader, no stored column numbers."""

    def loss(x):
        return jnp.sum(x * x + jnp.sin(x)) + jnp.max(jnp.square(x))

    shape = jax.ShapeDtypeStruct((2**20,), jnp.float32)
    estimator = zojax.estimator(getattr(directions, name)(), num_directions=count, mu=1e-3)
    ours = peak_of_donated_step(estimator, loss, shape)
    forward = peak(jax.jit(loss).lower(shape).compile())
    assert ours <= 1.01 * forward + 4 * shape.size, (ours, forward)


def _without_ynnpack():
    """The compiler does not count the buffers of YNNPACK."""
    option = "xla_cpu_experimental_ynn_fusion_type"
    return {option: ""} if is_known(option, "") else {}


def population(loss, shapes, count, **options):
    """Temporaries of low-rank directions at once."""
    direction = directions.low_rank()

    def values(params, key):
        frame = direction.frame(key, count, shapes)
        draw = lambda i: direction.draw(frame, i, shapes)  # noqa: E731
        return jax.vmap(lambda i: evaluate(loss, params, draw(i), 1e-3))(jnp.arange(count))

    key = jax.eval_shape(lambda: jax.random.key(0))
    compiled = jax.jit(values).lower(shapes, key).compile(compiler_options=options)
    return compiled.memory_analysis().temp_size_in_bytes


def test_eight_directions_add_activations_only():
    """Eight low-rank directions: at most twice a forward pass on eight times the examples."""
    loss, shapes = transformer()
    many, _ = transformer(batch=8 * BATCH)
    forward = jax.jit(many).lower(shapes).compile().memory_analysis()
    assert population(loss, shapes, 8) <= 2 * forward.temp_size_in_bytes


def _grouped_convolution(p, x):
    dims = ("NHWC", "HWIO", "NHWC")
    x = x.reshape(-1, 16, 16, 32)
    return lax.conv_general_dilated(x, p, (1, 1), "SAME", None, None, dims, 2)


def _by_head(p, x):
    return jnp.einsum("bhd,hde->bhe", x.reshape(-1, 2, 16), p)


@pytest.mark.parametrize(
    ("layer", "shape"), [(_grouped_convolution, (3, 3, 16, 32)), (_by_head, (2, 16, 16))]
)
def test_a_population_stores_an_activation_once(layer, shape):
    """The input and the output of a layer, and a fifth: products with noise and base share the input."""
    count, rows = 16, 512
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32, 32), shape)]

    def loss(params):
        first, second = params
        x = jax.nn.gelu(jnp.ones((rows, 32)) @ first)
        return jnp.mean(jnp.square(layer(second, x)))

    assert population(loss, shapes, count) <= 2.2 * 4 * count * rows * 32


def test_weights_under_a_mask_are_made_one_direction_at_a_time():
    """Input, output and half: no weight for each direction, which takes as much as the input."""
    count, rows, inputs = 16, 512, normal(3, (512, 32))
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32, 32), (128, 128))]

    def loss(params):
        first, second = params
        x = jax.nn.gelu(inputs @ first).reshape(-1, 128)
        return jnp.mean(jnp.square(x @ jnp.tril(second)))

    assert population(loss, shapes, count, **_without_ynnpack()) <= 2.5 * 4 * count * rows * 32


def _dense(params):
    x = normal(3, (32, 256))
    for weight in params:
        x = jax.nn.relu(x @ weight)
    return x


def _pooled(params):
    first, second = params
    x = normal(3, (64, 32)) @ first
    return jnp.max(x.reshape(32, 2, 64), axis=1).reshape(-1, 1024) @ second


@pytest.mark.parametrize(
    ("layers", "sizes", "largest"),
    [
        (_dense, [(256, 256), (256, 256), (256, 10)], 2 * 32 * 256),
        (_pooled, [(32, 64), (1024, 10)], 64 * 64),
    ],
)
def test_factors_are_small_beside_few_examples(layers, sizes, largest):
    """8 % above the largest activations: signs are bytes, and each layer makes its factors alone."""
    shapes = [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]
    loss = lambda params: jnp.mean(jnp.square(layers(params)))  # noqa: E731
    assert population(loss, shapes, 32, **_without_ynnpack()) <= 1.08 * 4 * 32 * largest


@pytest.fixture
def no_cache_on_disk():
    compilation_cache.reset_cache()
    jax.config.update("jax_enable_compilation_cache", False)
    yield
    compilation_cache.reset_cache()
    jax.config.update("jax_enable_compilation_cache", True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rows", "low_rank"])
def test_trace_and_compile_time(kind, no_cache_on_disk):
    """At most twice a forward pass, for 12 scanned layers and noise that is cheap to compile.

    Hashing is another matter: its loops cost more to compile than the model.
    """
    loss, shapes = transformer(layers=12, width=64, hidden=256)

    def drawn():
        def one(leaf):
            kinds = noises(leaf.shape, cut(leaf.shape) if len(leaf.shape) > 1 else None)
            return kinds.get(kind, kinds["rows"])

        return jax.tree.map(one, shapes)

    def seconds(fun, *args):
        times = []
        for _ in range(3):
            jax.clear_caches()
            start = time.process_time()
            jax.jit(fun).lower(*args).compile()
            times.append(time.process_time() - start)
        return min(times)

    ours = seconds(lambda p, z: evaluate(loss, p, z, 1e-3), shapes, jax.eval_shape(drawn))
    assert ours <= 2 * seconds(loss, shapes)
