"""A run as a log of scalars: a key, and one coefficient for each direction and step.

The key and `ZerothOrderState.coefficients` determine a step of `zeroth_order`: 4 bytes with one direction.
So a log and the first parameters are a checkpoint of every step, in 5 bytes each. `replay` computes the
parameters again, to the bit, without a loss or data. `resume` continues a run that was cut off.

    with Recorder(path, tx, params) as recorder:
        for batch in batches:
            params, state = step(params, state, batch)
            recorder.append(state, params)

    params = replay(params0, tx, load(path))
"""

from zojax.trajectory._files import load, save
from zojax.trajectory._log import Log, truncate
from zojax.trajectory._merge import merge
from zojax.trajectory._notes import note_of, require_note
from zojax.trajectory._recorder import Recorder
from zojax.trajectory._replay import replay, resume

__all__ = [
    "Log",
    "Recorder",
    "load",
    "merge",
    "note_of",
    "replay",
    "require_note",
    "resume",
    "save",
    "truncate",
]
