"""An estimator as an optax gradient transformation."""

from zojax._transform.metrics import Metrics as Metrics
from zojax._transform.metrics import metrics_of as metrics_of
from zojax._transform.metrics import with_metrics as with_metrics
from zojax._transform.rounding import rounding as rounding
from zojax._transform.state import Scalars as Scalars
from zojax._transform.state import ZerothOrder as ZerothOrder
from zojax._transform.state import ZerothOrderState as ZerothOrderState
from zojax._transform.transform import around as around
from zojax._transform.transform import zeroth_order as zeroth_order
from zojax._trees import apply_updates as apply_updates
