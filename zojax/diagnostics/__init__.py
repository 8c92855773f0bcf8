"""A look at a loss before training: its noise, the range of mu, its curvature, and estimators beside it."""

from zojax.diagnostics.diagnose import Diagnosis, diagnose
from zojax.diagnostics.gradient_report import GradientReport, gradient_report
from zojax.diagnostics.noise_level import noise_level
from zojax.diagnostics.smoothing import Sweep, choose_mu, sweep

__all__ = [
    "Diagnosis",
    "GradientReport",
    "Sweep",
    "choose_mu",
    "diagnose",
    "gradient_report",
    "noise_level",
    "sweep",
]
