"""One training loop for everything, the usual step, checkpoints."""

from .checkpoint import Checkpoints
from .loop import Fit, fit
from .supervised import Supervised, Trainee, evaluate_on, sample_batch

__all__ = ["Checkpoints", "Fit", "Supervised", "Trainee", "evaluate_on", "fit", "sample_batch"]
