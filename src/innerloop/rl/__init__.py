"""Reinforcement learning: policies, rollouts, policy-gradient estimators, agents that learn about learners."""

from . import coplayer, exact, gradient, learning_aware
from .coplayer import *
from .exact import *
from .gradient import *
from .learning_aware import *
from .perceptron_policy import PerceptronPolicy, TanhPerceptron
from .policy import AbstractPolicy, PolicyOutput, TabularPolicy, log_probability
from .rollout import RolloutState, Trajectory, rollout, start_rollout
from .sequence_policy import SequencePolicy
from .strategies import MemoryOne

__all__ = [
    "AbstractPolicy",
    "MemoryOne",
    "PerceptronPolicy",
    "PolicyOutput",
    "RolloutState",
    "SequencePolicy",
    "TabularPolicy",
    "TanhPerceptron",
    "Trajectory",
    "log_probability",
    "rollout",
    "start_rollout",
]
__all__ += coplayer.__all__
__all__ += exact.__all__
__all__ += gradient.__all__
__all__ += learning_aware.__all__
