"""Policy gradients: returns and advantages, losses, and the training steps made of them."""

from .returns import generalised_advantages, lambda_returns, rewards_to_go
from .shaping import (
    ShapingEstimator,
    batch_lambda_returns,
    shaping_advantages,
    shaping_value_targets,
    warn_of_lost_shaping,
)

__all__ = [
    "ShapingEstimator",
    "batch_lambda_returns",
    "generalised_advantages",
    "lambda_returns",
    "rewards_to_go",
    "shaping_advantages",
    "shaping_value_targets",
    "warn_of_lost_shaping",
]
