"""Generation with a cache against running the whole model again for every token."""

import jax
import numpy as np

from zojax.examples.models import greedy, llama

CONFIG = llama.Config(vocabulary=50, width=16, layers=2, heads=4, kv_heads=2, hidden=24)


FORWARD = jax.jit(lambda params, tokens: llama.forward(CONFIG, params, tokens))


def slowly(params, prompt, new):
    """One row, without a cache; padding on the right is never seen."""
    tokens, gaps = list(prompt), []
    for _ in range(new):
        padded = np.pad(tokens, (0, 13 - len(tokens)))[None]
        logits = FORWARD(params, padded)[0, len(tokens) - 1]
        best = np.sort(logits)
        gaps.append(best[-1] - best[-2])
        tokens.append(int(np.argmax(logits)))
    return tokens[len(prompt) :], min(gaps)


def test_the_cache_changes_nothing_and_rows_do_not_see_one_another():
    params = llama.init(jax.random.key(0), CONFIG)
    tokens = np.asarray(jax.random.randint(jax.random.key(1), (3, 7), 0, 50))
    lengths = np.array([7, 3, 1])
    got = jax.jit(lambda p: greedy.generate(CONFIG, p, tokens, lengths, 6))(params)
    expected = [slowly(params, row[:n], 6) for row, n in zip(tokens, lengths, strict=True)]
    assert min(gap for _, gap in expected) > 1e-4  # no choice hangs on rounding
    assert got.tolist() == [row for row, _ in expected]
    assert len({tuple(row) for row in got.tolist()}) == 3
