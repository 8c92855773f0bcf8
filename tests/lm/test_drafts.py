"""Drafts change the number of forward passes, never the text."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zojax
from zojax import lm
from zojax.lm import drafts, llama
from zojax.lm.drafts import _ouroboros, _phrases

FOLDERS = pathlib.Path(__file__).with_name("reference_models")
CONFIG = llama.Config(vocabulary=8, width=16, layers=2, heads=2, kv_heads=1, hidden=16)
PARAMS = llama.init(jax.random.key(3), CONFIG)
MODEL = lm.Model(llama, CONFIG, PARAMS)
TOKENS, LENGTHS, NEW = np.random.default_rng(1).integers(0, 8, (3, 7)), np.array([7, 3, 1]), 24


def decode(params, tokens=TOKENS, **options):
    return MODEL.decode(params, tokens, LENGTHS, NEW, **options)


PLAIN = jax.jit(decode)


def of_members(evaluate=None, **options):
    """The texts of four members."""
    return lm.decode_members(llama, CONFIG, evaluate, 4, TOKENS, LENGTHS, NEW, **options)


def oracle(size, damage=()):
    """Drafts the model's own text, with wrong tokens at some places."""
    answers = np.array(PLAIN(PARAMS).tokens)
    answers[:, list(damage)] = (answers[:, list(damage)] + 1) % 8
    return drafts.text(answers, size=size)


@pytest.fixture(scope="module")
def made():
    return {
        "lookup": drafts.lookup(size=3),
        "text": oracle(3, damage=[5, 6, 13]),
        "pool": drafts.pool(count=2, size=3, capacity=32),
        "union": drafts.union(drafts.lookup(2), drafts.pool(2, 3, 32), oracle(3, damage=[9])),
    }


# The union has all of them.
ALONE = [pytest.param(name, marks=pytest.mark.slow) for name in ("lookup", "text", "pool")]


@pytest.mark.parametrize("name", [*ALONE, "union"])
def test_a_draft_changes_only_the_number_of_forward_passes(made, name):
    plain = PLAIN(PARAMS)
    found = jax.jit(lambda params: decode(params, draft=made[name]))(PARAMS)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    np.testing.assert_array_equal(found.lengths, [NEW] * 3)
    assert (plain.forwards == NEW).all() and found.forwards.mean() < 0.8 * NEW


def test_a_right_draft_takes_all_its_tokens_in_each_forward_pass():
    draft = oracle(3)
    found = jax.jit(lambda params: decode(params, draft=draft))(PARAMS)
    np.testing.assert_array_equal(found.tokens, PLAIN(PARAMS).tokens)
    assert (found.forwards == 1 + -(-(NEW - 1) // 4)).all()


@pytest.mark.slow
def test_a_smaller_model_drafts_on_its_own_cache():
    def run(params, layers):
        smaller = drafts.first_layers(MODEL._replace(params=params), layers)
        return decode(params, draft=drafts.model(smaller, size=3))

    whole, half = (jax.jit(lambda p, n=n: run(p, n))(PARAMS) for n in (2, 1))
    for found in (whole, half):
        np.testing.assert_array_equal(found.tokens, PLAIN(PARAMS).tokens)
    assert (whole.forwards == 1 + -(-(NEW - 1) // 4)).all()  # it drafts its own text
    assert (half.forwards >= whole.forwards).all()


def test_random_drafts_of_random_models_are_harmless():
    def propose(state, text, length):
        key = jax.random.fold_in(state, jnp.sum(length))
        return jax.random.randint(key, (3, 12), -1, 8), state

    draft = drafts.Draft(
        drafts.branches(4, 3), lambda *_: jax.random.key(9), propose, lambda state, seen: state
    )
    run = jax.jit(lambda params: decode(params, draft=draft))
    for seed in range(5):
        params = llama.init(jax.random.key(seed), CONFIG)
        found = run(params)
        np.testing.assert_array_equal(found.tokens, PLAIN(params).tokens)
        assert found.forwards.max() < NEW  # some guesses among 8 tokens are right


def small(params, layers):
    return drafts.first_layers(MODEL._replace(params=params), layers)


def ouroboros(params, layers):
    return drafts.ouroboros(
        small(params, layers), size=4, count=2, phrase=3, window=3, tried=2, capacity=64
    )


def test_ouroboros_drafts_phrase_by_phrase_and_its_pool_stays_warm():
    run = jax.jit(lambda params, memory: decode(params, draft=ouroboros(params, 1), memory=memory))
    warm = jax.eval_shape(lambda: decode(PARAMS, draft=ouroboros(PARAMS, 1))).draft
    warm = jax.tree.map(lambda leaf: jnp.full(leaf.shape, -1, leaf.dtype), warm)
    for seed in range(5):
        params = llama.init(jax.random.key(seed), CONFIG)
        expected = PLAIN(params).tokens
        for memory in (warm, run(params, warm).draft):
            found = run(params, memory)
            np.testing.assert_array_equal(found.tokens, expected)
            assert found.forwards.max() < NEW
        warm = found.draft
    phrases = np.array(warm.own.draft.phrases)
    kept = phrases[phrases[:, 0] >= 0]
    assert len(np.unique(kept, axis=0)) == len(kept) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [ouroboros, lambda p, n: drafts.model(small(p, n), 4, drafts.lookahead(3, 2, 3, 64))]
)
def test_a_model_that_drafts_for_itself_is_always_right(make):
    run = jax.jit(lambda params: decode(params, draft=make(params, 2)))
    for seed in range(3):
        params = llama.init(jax.random.key(seed), CONFIG)
        found = run(params)
        np.testing.assert_array_equal(found.tokens, PLAIN(params).tokens)
        assert (found.forwards <= 1 + -(-(NEW - 1) // 5)).all()  # a draft, and one token more
        assert (found.draft.own.forwards > found.forwards).all()


def test_a_drafted_token_sees_the_text_and_its_own_tree():
    """The window of lookahead beside a draft with phrases behind it, with random tokens."""
    longer = drafts.ouroboros(MODEL, size=2, count=2, phrase=2, window=1, tried=1).tree
    window = drafts.lookahead(window=3, count=1, size=2).tree
    whole = np.zeros((len(longer.sees) + 6,) * 2, bool)
    whole[:6, :6], whole[6:, 6:] = window.sees[:6, :6], longer.sees
    tree = drafts.Tree(whole, longer.paths + 6, np.ones(len(whole), bool))
    tokens = np.random.default_rng(0).integers(0, 8, (3, len(whole)))
    draft = drafts.Draft(
        tree,
        lambda memory, text, length: jnp.zeros((3, 1 + len(whole)), jnp.int32),
        lambda state, text, length: (jnp.asarray(tokens, jnp.int32), state),
        lambda state, seen: seen.answers,
    )
    found = jax.jit(lambda params: MODEL.decode(params, TOKENS, LENGTHS, 2, draft=draft))(PARAMS)
    first, rows = np.array(found.tokens)[:, :1], range(3)
    seen = [[*TOKENS[r, : LENGTHS[r]], *first[r]] for r in rows]
    texts = [seen[r] + tokens[r, sees].tolist() for r in rows for sees in whole]
    padded = np.array([text + [0] * (16 - len(text)) for text in texts])
    ends = np.array([len(text) - 1 for text in texts])
    logits = jax.jit(lambda p: MODEL.forward(p, padded, positions=ends))(PARAMS)
    expected = np.argmax(logits, axis=1).reshape(3, -1)
    np.testing.assert_array_equal(found.draft[:, 1:], expected)
    depths = np.array([[1, 2, 3, 2, 3, 4], [1, 2, 3, 4, 3, 4]])
    np.testing.assert_array_equal(whole.sum(axis=1).reshape(2, 6), depths)


def test_the_pool_learns_from_a_rejected_draft():
    """Runs of agreement behind the rejected token, and the model's choices in place of the phrases."""
    tree = drafts.ouroboros(MODEL, size=5, count=2, phrase=3, window=1, tried=1).tree
    nodes = np.array([[4, 9, 5, 6, 1, 7, 2, -1, -1, -1, -1]])
    answers = np.array([[4, 8, 5, 6, 3, 7, 2, 6, 0, 0, 0, 0]])  # 9 is wrong, then 5 6 agree

    @jax.jit
    def learnt(nodes, answers):
        seen = drafts.Round(nodes, nodes, nodes, nodes, answers, tree.paths)
        return _ouroboros._runs(seen, 5, 3), _ouroboros._corrected(seen, 5)

    runs, (old, better) = learnt(nodes, answers)
    runs = np.array(runs[0])
    assert runs[(runs >= 0).any(axis=1)].tolist() == [[9, 5, 6, -1]]
    assert old.tolist() == [[[1, 7, 2, -1], [-1] * 4]]
    assert better.tolist() == [[[1, 7, 2, 6], [-1] * 4]]


def test_a_pool_has_the_newest_phrases_of_each_first_token():
    pool = np.array([[-1, -1], [1, 2], [3, 4], [1, 5], [1, 6]])
    new = np.array([[1, 2], [-1, -1], [1, 7]])

    @jax.jit
    def run(pool, new):
        found = _phrases.appended(pool, new, gone=jnp.array([[1, 5]]), most=2)
        return found, _phrases.newest(found, jnp.array([1, 3]), 2)

    found, newest = run(pool, new)
    assert found.tolist() == [[-1, -1]] * 2 + [[3, 4], [1, 2], [1, 7]]
    assert newest.tolist() == [[[7], [2]], [[4], [-1]]]


def test_unions_nest():
    inner = drafts.union(drafts.lookup(1), drafts.lookup(3))
    tree = drafts.union(inner, drafts.lookup(2)).tree
    assert tree.paths.tolist() == [[0, -1, -1], [1, 2, 3], [4, 5, -1]]
    assert [int(n) for n in tree.sees.sum(axis=1)] == [1, 1, 2, 3, 1, 2]


def test_a_draft_rests_where_it_does_not_pay():
    def run(params, other):
        def propose(count, text, length):
            places = (length - LENGTHS)[:, None] + np.arange(3)
            return jnp.take_along_axis(jnp.pad(other, [(0, 0), (0, 3)]), places, axis=1), count

        counted = drafts.Draft(  # its rounds with candidates
            drafts.branches(1, 3),
            lambda memory, text, length: 0,
            propose,
            lambda count, seen: count + jnp.any(seen.nodes >= 0),
        )
        return decode(params, draft=drafts.auto(counted, cost=1.5))

    plain, run = PLAIN(PARAMS).tokens, jax.jit(run)
    right, wrong = run(PARAMS, plain), run(PARAMS, (plain + 1) % 8)
    for found in (right, wrong):
        np.testing.assert_array_equal(found.tokens, plain)
    assert (right.forwards == 1 + -(-(NEW - 1) // 4)).all()
    assert right.draft.inner == right.forwards[0] - 1
    assert (right.positions == 4 * right.draft.inner).all()
    assert (wrong.forwards == NEW).all() and 2 <= wrong.draft.inner <= 6
    assert (wrong.positions < 1.5 * NEW).all()  # short candidates between the rests


def test_the_longest_candidate_that_pays_is_tried():
    draft = drafts.auto(drafts.union(drafts.lookup(5), drafts.lookup(3)), 2.0)
    state = draft.init(None, jnp.zeros((1, 4), int), jnp.array([2]))
    rates = 0.1, 0.4, 0.66, 0.9
    states = [state._replace(accepted=jnp.float32(r), refused=jnp.float32(1 - r)) for r in rates]
    assert [draft.sizes[int(draft.pick(each))] for each in states] == [0, 1, 3, 5]
    cut = drafts.shortened(draft, 1)
    assert cut.tree.paths.tolist() == [[0], [1]] and cut.tree.sees.tolist() == np.eye(2).tolist()
    looking = drafts.lookahead(window=2, count=1, size=2)  # its window is no candidate
    assert [len(drafts.shortened(looking, size).tree.asked) for size in (0, 1, 2)] == [0, 1, 6]


@pytest.mark.slow
def test_the_cost_of_each_size_is_a_ratio_of_times():
    found = drafts.cost(MODEL, drafts.lookup(), rows=2, length=16, repeats=3)
    assert len(found) == 4 and all(0.1 < ratio < 100 for ratio in found)


def test_first_tokens_that_all_prompts_share_are_read_once():
    tokens, lengths = np.insert(TOKENS, [0, 0], [4, 6], axis=1), LENGTHS + 2
    plain, shared = (
        jax.jit(lambda p, n=n: MODEL.decode(p, tokens, lengths, NEW, shared=n)) for n in (0, 2)
    )
    np.testing.assert_array_equal(shared(PARAMS).tokens, plain(PARAMS).tokens)
    flops = [run.lower(PARAMS).cost_analysis()["flops"] for run in (shared, plain)]
    assert flops[0] < flops[1]


def test_near_ties_are_counted():
    """Two tokens have one embedding, which is also the readout."""
    embed = PARAMS["embed"].at[3].set(PARAMS["embed"][7])
    found = PLAIN({**PARAMS, "embed": embed})
    twins = np.isin(found.tokens, [3, 7]).sum(axis=1)
    assert found.near_ties.tolist() == twins.tolist() and twins.sum() > 0
    assert not PLAIN(PARAMS).near_ties.any()


def test_the_first_of_the_largest_logits_is_the_most_likely_token():
    logits = jnp.array([1.0, 3.0, -jnp.inf, 3.0])
    assert lm.most_likely(None, logits) == 1
    assert lm.most_likely(None, logits.at[0].set(jnp.nan)) in range(4)


@pytest.mark.slow
def test_samples_are_those_of_plain_decoding():
    options = dict(choose=lm.sampler(0.8, top_k=5, top_p=0.9), key=jax.random.key(5))
    plain = jax.jit(lambda params: decode(params, **options))(PARAMS)
    draft = drafts.text(plain.tokens, size=3)
    found = jax.jit(lambda params: decode(params, draft=draft, **options))(PARAMS)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    assert (plain.tokens != PLAIN(PARAMS).tokens).any() and found.forwards.max() < NEW / 2


def test_a_text_ends_at_its_stop():
    whole = np.array(PLAIN(PARAMS).tokens)
    stop = int(whole[0, 6])
    ends = [(row.tolist() + [stop]).index(stop) + 1 for row in whole]
    draft = oracle(3)
    found = jax.jit(lambda params: decode(params, draft=draft, stop=stop))(PARAMS)
    np.testing.assert_array_equal(found.lengths, np.minimum(ends, NEW))
    assert (found.forwards <= found.lengths).all()
    for row, expected, end in zip(found.tokens, whole, ends, strict=True):
        np.testing.assert_array_equal(row[:end], expected[:end])
        assert (row[end:] == stop).all()


@pytest.mark.slow
def test_a_warm_pool_needs_fewer_forward_passes(made):
    run = jax.jit(lambda params, memory: decode(params, draft=made["pool"], memory=memory))
    first = run(PARAMS, jnp.full((32, 4), -1, jnp.int32))
    second = run(PARAMS, first.draft)
    np.testing.assert_array_equal(second.tokens, first.tokens)
    assert second.forwards.sum() < first.forwards.sum()
    phrases = np.array(first.draft)
    kept = phrases[phrases[:, 0] >= 0]
    assert len(np.unique(kept, axis=0)) == len(kept) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
def test_learned_positions_and_windows_follow_the_tree(kind):
    model = lm.load(FOLDERS / kind)
    tokens = np.random.default_rng(1).integers(0, 61, (3, 7))

    def run(params, draft):
        return model.decode(params, tokens, LENGTHS, 12, draft=draft)

    plain = jax.jit(lambda params: run(params, None))(model.params)
    wrong = np.array(plain.tokens)
    wrong[:, 4] += 1
    draft = drafts.union(drafts.lookup(3), drafts.text(wrong, size=3))
    found = jax.jit(lambda params: run(params, draft))(model.params)
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    assert found.forwards.max() < 8


@pytest.mark.slow
def test_a_perturbed_model_drafts_for_itself_with_its_own_layers():
    direction, mu = zojax.directions.low_rank(), 0.2
    noise = direction.draw(direction.frame(jax.random.key(0), 1, PARAMS), 0, PARAMS)

    def moved(run):
        return jax.jit(lambda: zojax.implicit.evaluate(run, PARAMS, noise, mu))()

    plain = moved(decode)
    found = moved(lambda params: decode(params, draft=ouroboros(params, 1))._replace(draft=None))
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    assert (np.array(plain.tokens) != PLAIN(PARAMS).tokens).any()
    assert found.forwards.max() < NEW


@pytest.mark.slow  # two large programs; test_decoding.py perturbs a generation without a draft
@pytest.mark.parametrize("stop", [None, 5])
def test_members_of_a_population_drafted_from_the_unperturbed_text_say_their_own(stop):
    draft = drafts.auto(drafts.text(PLAIN(PARAMS).tokens, size=3), cost=1.2)
    direction, mu = zojax.directions.low_rank(), 0.02
    frame = direction.frame(jax.random.key(0), 4, PARAMS)

    def evaluate(fun, i, *arrays):
        return zojax.implicit.evaluate(fun, PARAMS, direction.draw(frame, i, PARAMS), mu, *arrays)

    def member(i):
        return evaluate(lambda params: decode(params, stop=stop), i)._replace(draft=None)

    plain = jax.jit(jax.vmap(member))(jnp.arange(4))
    found = jax.jit(lambda: of_members(evaluate, stay=(3, 1), stop=stop, draft=draft))()
    np.testing.assert_array_equal(found.tokens, plain.tokens)
    np.testing.assert_array_equal(found.lengths, plain.lengths)
    assert (np.array(plain.tokens) != PLAIN(PARAMS).tokens).any()
    assert (np.array(found.forwards) <= plain.forwards).all()
    assert found.forwards.sum() < plain.forwards.sum()


def test_members_share_one_loop_and_no_cache_is_selected():
    """A loop with a batched condition would select between the old and the new cache in each round.

    XLA copies what a branch changes: a cache as an output of branches would be copied in each round.
    """
    draft = drafts.auto(drafts.lookup(3), cost=1.5)
    members = jax.tree.map(lambda x: jnp.stack([x, x]), PARAMS)
    traced = jax.make_jaxpr(jax.vmap(lambda p: decode(p, draft=draft).tokens))(members)
    for primitive in ("select_n", "cond"):
        shapes = set(_outputs(traced.jaxpr, primitive))
        assert (2, 3) in shapes and not any(7 + NEW + 3 in shape for shape in shapes)


def _outputs(jaxpr, primitive):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == primitive:
            yield from (var.aval.shape for var in eqn.outvars)
        for inner in jax.tree.leaves(list(eqn.params.values())):
            inner = getattr(inner, "jaxpr", inner)
            yield from _outputs(inner, primitive) if hasattr(inner, "eqns") else ()


def test_texts_of_all_rows_are_searched():
    """Two prompts, `1 2` and `3 4`, the other run's texts, and a third text of no prompt."""
    draft = drafts.text([[5, 6, 7, 8], [9, 5, 1, 2], [4, 6, 9, 9]], size=3, second=2)

    @jax.jit
    def proposed(text, length):
        state = draft.init(None, jnp.where(np.arange(7) < 2, text, 0), jnp.array([2, 2]))
        return draft.propose(state, text, length)[0]

    text = np.array([[1, 2, 5, 0, 0, 0, 0], [3, 4, 9, 6, 0, 0, 0]])
    first, second = proposed(text, np.array([3, 4])).tolist()
    assert first == [6, 7, 8, 1, 2]  # the same place, then `5 1 2` of row 1
    assert second == [9, 9, 9, 7, 8]  # `6 9 9` of the third text goes on periodically, then row 0
    text = np.array([[1, 2, 9, 6, 0, 0, 0], [3, 4, 0, 0, 0, 0, 0]])
    first, second = proposed(text, np.array([4, 3])).tolist()
    assert first == [7, 8, 7, 9, 9]  # a match in its own other text comes before one elsewhere
    assert second == [5, 1, 2, -1, -1]  # 0 is new, so the same place


def test_the_longest_match_in_the_text_is_followed():
    text = jnp.array([[5, 1, 2, 3, 9, 4, 2, 3, 8, 1, 2, 3, 0, 0]])
    found, _ = drafts.lookup(size=3).propose(None, text, jnp.array([12]))
    assert found.tolist() == [[9, 4, 2]]  # "1 2 3" beats the later "2 3"
    found, _ = drafts.lookup(size=4).propose(None, text, jnp.array([5]))
    assert found.tolist() == [[-1] * 4]  # 9 is new
    loop = jnp.array([[7, 1, 2, 1, 2, 0]])
    found, _ = drafts.lookup(size=4).propose(None, loop, jnp.array([5]))
    assert found.tolist() == [[1, 2, 1, 2]]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: drafts.lookup(0), "size must be at least 1, got 0"),
        (
            lambda: jax.eval_shape(lambda: decode(PARAMS, draft=drafts.text([[1]]))),
            "give a text for each of the 3 prompts, got 1",
        ),
        (lambda: drafts.text([[1]], second=-1), "second must be 0 at least, got -1"),
        (lambda: drafts.pool(count=9, capacity=8), "count must be from 1 to capacity, 8, got 9"),
        (lambda: drafts.union(), "union needs a draft at least, got none"),
        (lambda: drafts.lookahead(window=0), "window must be at least 1, got 0"),
        (
            lambda: drafts.lookahead(count=9, capacity=8),
            "count must be from 1 to capacity, 8, got 9",
        ),
        (lambda: drafts.ouroboros(MODEL, count=0), "count must be from 1 to capacity, 2048, got 0"),
        (lambda: drafts.auto(drafts.none(), cost=0.0), "cost must be positive and finite"),
        (
            lambda: drafts.auto(drafts.lookup(), [1, 2]),
            r"one or 4 for \(0, 1, 3, 8\), got \[1, 2\]",
        ),
        (lambda: drafts.auto(drafts.lookup(), 2.0, [1, 0]), "sizes must ascend from 0"),
        (lambda: drafts.auto(drafts.none(), 1.5, retry=0), "retry must be at least 1, got 0"),
        (lambda: drafts.auto(drafts.auto(drafts.none(), 2.0), 2.0), "needs a draft that always"),
        (lambda: drafts.union(drafts.auto(drafts.none(), 2.0)), r"write auto\(union\("),
        (lambda: drafts.first_layers(MODEL, 3), "layers must be from 1 to 2, got 3"),
        (lambda: lm.sampler(0.0), "temperature must be positive"),
        (lambda: lm.sampler(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: lm.sampler(top_p=1.5), "top_p must be above 0 and at most 1, got 1.5"),
        (lambda: MODEL.generate(PARAMS, TOKENS, LENGTHS, 0), "new must be at least 1, got 0"),
        (lambda: decode(PARAMS, shared=7), "shared must be from 0 to 6, got 7"),
        (lambda: decode(PARAMS, choose=lm.sampler()), "sampling needs a key"),
        (lambda: of_members(stay=(2, 2)), r"from below members, 4, to 1 or more, got \(2, 2\)"),
        (lambda: of_members(stay=(4,)), r"got \(4,\)"),
        (lambda: of_members(stay=(2, 0)), r"got \(2, 0\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
