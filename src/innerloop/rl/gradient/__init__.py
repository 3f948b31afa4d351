"""Policy gradients: returns and advantages, losses, and the training steps made of them."""

from .actor_critic import AdvantageActorCritic
from .advantage_alignment import aligned_advantages
from .experience import Learner
from .lola_dice import LolaDice, Plays, SampledPlays, dice_objective, lola_dice_loss, magic_box
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
    "LolaDice",
    "Plays",
    "ProximalPolicyOptimisation",
    "SampledPlays",
    "ShapingEstimator",
    "actor_critic_loss",
    "aligned_advantages",
    "batch_lambda_returns",
    "clipped_surrogate",
    "dice_objective",
    "generalised_advantages",
    "lambda_returns",
    "lola_dice_loss",
    "magic_box",
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
