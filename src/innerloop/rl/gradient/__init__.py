"""Policy gradients: returns and advantages, losses, and the training steps made of them."""

from .actor_critic import AdvantageActorCritic
from .experience import Learner
from .losses import (
    actor_critic_loss,
    clipped_surrogate,
    normalise_advantages,
    proximal_loss,
    reinforce_loss,
    shaping_policy_gradient_loss,
    shaping_proximal_loss,
    value_errors,
)
from .proximal import ProximalPolicyOptimisation
from .returns import generalised_advantages, lambda_returns, rewards_to_go
from .shaping import (
    ShapingEstimator,
    batch_lambda_returns,
    shaping_advantages,
    shaping_value_targets,
    warn_of_lost_shaping,
)

__all__ = [
    "AdvantageActorCritic",
    "Learner",
    "ProximalPolicyOptimisation",
    "ShapingEstimator",
    "actor_critic_loss",
    "batch_lambda_returns",
    "clipped_surrogate",
    "generalised_advantages",
    "lambda_returns",
    "normalise_advantages",
    "proximal_loss",
    "reinforce_loss",
    "rewards_to_go",
    "shaping_advantages",
    "shaping_policy_gradient_loss",
    "shaping_proximal_loss",
    "shaping_value_targets",
    "value_errors",
    "warn_of_lost_shaping",
]
