"""The estimator: a direction, a stencil, a shaping and an execution, composed."""

from zojax._estimator.ask_tell import Asked
from zojax._estimator.compose import Estimator, estimator
from zojax._estimator.records import Estimate, EstimatorState, UpdateKind

__all__ = ["Asked", "Estimate", "Estimator", "EstimatorState", "UpdateKind", "estimator"]
