"""Evaluations of Python functions: one call, the calls in flight, and the workers that make them."""

from zojax._evaluation.call import SECONDS as SECONDS
from zojax._evaluation.call import Timed as Timed
from zojax._evaluation.evaluator import Evaluation as Evaluation
from zojax._evaluation.evaluator import Evaluator as Evaluator
from zojax._evaluation.limits import require_limits as require_limits
from zojax._evaluation.workers import WorkerDied as WorkerDied
from zojax._evaluation.workers import require_executor as require_executor
from zojax._evaluation.workers import workers_of as workers_of
