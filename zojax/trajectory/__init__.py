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

from zojax.trajectory._files import load as load
from zojax.trajectory._files import save as save
from zojax.trajectory._log import Log as Log
from zojax.trajectory._log import truncate as truncate
from zojax.trajectory._merge import merge as merge
from zojax.trajectory._notes import note_of as note_of
from zojax.trajectory._notes import require_note as require_note
from zojax.trajectory._recorder import Recorder as Recorder
from zojax.trajectory._replay import replay as replay
from zojax.trajectory._replay import resume as resume

__all__ = [name for name in dir() if not name.startswith("_")]
