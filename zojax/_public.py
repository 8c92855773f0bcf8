"""The names of `zojax` beside its modules, each from its home. `zojax` imports them when it is first asked.

Ready-made optimizers are those of `zojax.optimizers`.
"""

import typing as _typing

from zojax._estimator import Asked as Asked
from zojax._estimator import Estimate as Estimate
from zojax._estimator import Estimator as Estimator
from zojax._estimator import EstimatorState as EstimatorState
from zojax._estimator import estimator as estimator
from zojax._gradient import grad as grad
from zojax._gradient import value_and_grad as value_and_grad
from zojax._minimize import MinimizeResult as MinimizeResult
from zojax._minimize import Progress as Progress
from zojax._minimize import minimize as minimize
from zojax._transform import Metrics as Metrics
from zojax._transform import Scalars as Scalars
from zojax._transform import ZerothOrder as ZerothOrder
from zojax._transform import ZerothOrderState as ZerothOrderState
from zojax._transform import apply_updates as apply_updates
from zojax._transform import with_metrics as with_metrics
from zojax._transform import zeroth_order as zeroth_order
from zojax._verdict import verdict as verdict
from zojax.directions import Direction as Direction
from zojax.optimizers import *  # noqa: F403
from zojax.shaping import Shaping as Shaping
from zojax.stencils import Stencil as Stencil

if not _typing.TYPE_CHECKING:  # type checkers read the aliases
    __all__ = [name for name in dir() if not name.startswith("_")]
