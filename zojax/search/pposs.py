"""PPOSS: the parallel form of POSS."""

from zojax.search._algorithm import Algorithm, reused
from zojax.search.poss import poss


@reused
def pposs(batch_size: int = 16) -> Algorithm:
    """`poss` with `batch_size` mutants evaluated at once: with an executor, or side by side compiled.

    The speed-up in evaluations is nearly linear while the batch is smaller than the number of things. Each
    mutant draws its own parent (the paper's mutants share one): the chance of an improvement in a batch
    is then never smaller.

    Args:
      batch_size: mutants of one ask.

    Returns:
      An `Algorithm`.

    Raises:
      ValueError: batch_size below 1; a space that is not one `search.subset`.

    References:
      Qian, Shi, Yu, Tang and Zhou, Parallel Pareto optimization for subset selection, IJCAI 2016.

    >>> import jax.numpy as jnp
    >>> from zojax import search
    >>> worth = jnp.arange(30.0) % 7
    >>> found = search.minimize(lambda mask: -worth @ mask, search.subset(30, max_size=4),
    ...                         search.pposs(8), budget=4000, key=0)
    >>> found.best_value
    -24.0
    """
    return poss(batch_size)
