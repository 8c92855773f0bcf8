"""An estimator as an optax gradient transformation."""

from zojax._transform.metrics import Metrics, metrics_of, with_metrics
from zojax._transform.rounding import RoundedState, rounding
from zojax._transform.state import Scalars, ZerothOrder, ZerothOrderState
from zojax._transform.transform import transformation, zeroth_order
from zojax._trees import apply_updates

__all__ = [
    "Metrics",
    "RoundedState",
    "Scalars",
    "ZerothOrder",
    "ZerothOrderState",
    "apply_updates",
    "metrics_of",
    "rounding",
    "transformation",
    "with_metrics",
    "zeroth_order",
]
