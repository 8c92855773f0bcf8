"""A run as a log of scalars: a key and one coefficient a direction and step are all that it did.

A step of `zeroth_order` is its key, which the step's number gives, and `ZerothOrderState.coefficients`:
4 bytes with one direction. A log of them next to the parameters that the run began with is a
checkpoint of every step, in 5 bytes each, and `replay` makes the parameters again, to the bit,
without a loss or data. A run that was cut off continues from its log as if nothing had happened.

    with Recorder(path, tx, params) as recorder:
        for batch in batches:
            params, state = step(params, state, batch)
            recorder.append(state, params)

    params = replay(params0, tx, load(path))
"""

from zojax.trajectory._log import Log, load, merge, save, truncate
from zojax.trajectory._notes import require_note
from zojax.trajectory._recorder import Recorder
from zojax.trajectory._replay import replay, resume

__all__ = [
    "Log",
    "Recorder",
    "load",
    "merge",
    "replay",
    "require_note",
    "resume",
    "save",
    "truncate",
]
