"""Co-players inferred in context: exact posteriors and plans, learned world models, mixed pools."""

from .actor_critic import IdentifiedPolicy, MixedPoolActorCritic, PoolLearners
from .bayes_agent import BayesPlanner, Planning
from .best_response import best_response, chain_rewards, joint_chain
from .improvement import ImprovementState, PredictivePolicyImprovement, paper_optimiser, summarise_episodes
from .mixed_pool import Episodes, MixedPool
from .posterior import (
    BetaPosterior,
    expected_loss_at_visit,
    log_sequence_probability,
    loss_floor,
    predictive_losses,
    random_games,
)
from .predictive_policy import PredictivePolicy
from .sequence_model import IdentifiedModel, SequenceModel
from .tabular_pool import TabularPool, identity_vector, swap_view
from .tilt import boltzmann_tilt, repeated_tilt, tilt_objective
from .world_model import AbstractWorldModel, GameModel, MixtureModel, action_values, exact_action_values

__all__ = [
    "AbstractWorldModel",
    "BayesPlanner",
    "BetaPosterior",
    "Episodes",
    "GameModel",
    "IdentifiedModel",
    "IdentifiedPolicy",
    "ImprovementState",
    "MixedPool",
    "MixedPoolActorCritic",
    "MixtureModel",
    "Planning",
    "PoolLearners",
    "PredictivePolicy",
    "PredictivePolicyImprovement",
    "SequenceModel",
    "TabularPool",
    "action_values",
    "best_response",
    "boltzmann_tilt",
    "chain_rewards",
    "exact_action_values",
    "expected_loss_at_visit",
    "identity_vector",
    "joint_chain",
    "log_sequence_probability",
    "loss_floor",
    "paper_optimiser",
    "predictive_losses",
    "random_games",
    "repeated_tilt",
    "summarise_episodes",
    "swap_view",
    "tilt_objective",
]
