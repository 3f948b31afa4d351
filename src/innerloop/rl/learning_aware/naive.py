"""Naive learners: co-players who improve their policy between the episodes, as if nobody noticed."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.optimise import apply_gradients
from ...core.tree import trainable
from ..gradient.losses import actor_critic_loss, choices, normalise_advantages
from ..gradient.returns import Scalar, lambda_returns, rewards_to_go
from ..gradient.shaping import following
from ..policy import AbstractPolicy, PolicyOutput


class InnerEpisodes(NamedTuple):
    """A minibatch of parallel episodes as one player lived them."""

    observation: Array  # [b t ...]
    action: Int[Array, "b t"]
    reward: Float[Array, "b t"]


class NaiveState(NamedTuple):
    """A policy and whatever its learning carries from update to update."""

    policy: AbstractPolicy
    optimiser_state: PyTree


class AbstractNaiveLearner(eqx.Module):
    """How a co-player learns inside a meta-episode: one update after each minibatch of episodes.

    To the agent who plays against it this is part of the world. Inside one update the policy is fixed, its memory
    starts empty in every episode, and what it learned is thrown away at the end of the meta-episode.
    """

    batch_size: eqx.AbstractVar[int | None]  # from how many parallel episodes it learns; `None` takes any number

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], policy: AbstractPolicy) -> NaiveState:
        """The state before the first update."""

    @abc.abstractmethod
    def update(self, state: NaiveState, episodes: InnerEpisodes) -> NaiveState:
        """The state after learning from a minibatch of whole episodes."""


class NaiveActorCritic(AbstractNaiveLearner):
    r"""An advantage actor-critic (A2C) with whole episodes: nothing is bootstrapped after the last step.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> learner = il.NaiveActorCritic(optimiser=optax.adam(5e-3), reward_scale=0.05)
    >>> state = learner.init(jax.random.key(0), il.TabularPolicy.uniform(5, 2))
    >>> seen = jax.numpy.zeros((16, 10), int)
    >>> episodes = il.InnerEpisodes(seen, seen, jax.numpy.ones((16, 10)))
    >>> learner.update(state, episodes).policy.values.shape
    (5,)

    ```

    **Arguments:**

    - `optimiser`: of the policy.
    - `discount`, `trace_decay`: of the lambda-returns within the episode.
    - `value_coefficient`, `entropy_coefficient`: of the loss, which is a mean over episodes and steps.
    - `reward_scale`: what rewards are multiplied by in the loss, and nowhere else.
    - `normalise`: whether advantages are centred and scaled to deviation one.
    - `batch_size`: from how many parallel episodes it learns; by default from any number.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, appendix B (tables 2 to 8).

    **Errors:** `ValueError` for a minibatch of less than one episode.
    """

    optimiser: optax.GradientTransformation = eqx.field(static=True)
    discount: Scalar = 0.99
    trace_decay: Scalar = 1.0
    value_coefficient: Scalar = 0.5
    entropy_coefficient: Scalar = 0.0
    reward_scale: Scalar = 1.0
    normalise: bool = eqx.field(static=True, default=True)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _check_batch_size(self.batch_size)

    def init(self, key: Key[Array, ""], policy: AbstractPolicy) -> NaiveState:
        """The policy, and its optimiser before the first update."""
        return NaiveState(policy, self.optimiser.init(trainable(policy)))

    def update(self, state: NaiveState, episodes: InnerEpisodes) -> NaiveState:
        """One gradient step."""
        values = jax.lax.stop_gradient(said(state.policy, episodes.observation).value)
        rewards = self.reward_scale * episodes.reward
        targets = jax.vmap(
            lambda reward, value: lambda_returns(reward, value, discount=self.discount, trace_decay=self.trace_decay)
        )(rewards, following(values))
        advantages = targets - values
        advantages = normalise_advantages(advantages) if self.normalise else advantages

        def loss(policy: AbstractPolicy) -> Float[Array, ""]:
            return actor_critic_loss(
                said(policy, episodes.observation),
                episodes.action,
                advantages,
                targets,
                value_coefficient=self.value_coefficient,
                entropy_coefficient=self.entropy_coefficient,
            )[0]

        gradients = eqx.filter_grad(loss)(state.policy)
        return NaiveState(*apply_gradients(state.policy, self.optimiser, state.optimiser_state, gradients))


class NaiveReinforce(AbstractNaiveLearner):
    r"""Plain policy gradient, without critic or optimiser state, from what was earned until the end of the episode.

    $$\psi \leftarrow \psi + \frac{\eta}{B} \sum_b \sum_t \nabla\log\pi_\psi(a_{bt})\, A_{bt}$$

    where $A$ is the return-to-go; or, normalised, that less its mean over the minibatch at each step of the episode,
    divided by the deviation of all of these.

    **Arguments:**

    - `learning_rate`: $\eta$.
    - `discount`: within the episode.
    - `normalise`: whether returns are centred and divided by their deviation.
    - `batch_size`: from how many parallel episodes it learns; by default from any number.

    **Reference:** Williams (1992), Machine Learning 8.

    **Errors:** `ValueError` for a minibatch of less than one episode.
    """

    learning_rate: Scalar = 1.0
    discount: Scalar = 1.0
    normalise: bool = eqx.field(static=True, default=True)
    batch_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _check_batch_size(self.batch_size)

    def init(self, key: Key[Array, ""], policy: AbstractPolicy) -> NaiveState:
        """The policy alone."""
        return NaiveState(policy, None)

    def update(self, state: NaiveState, episodes: InnerEpisodes) -> NaiveState:
        """One gradient step."""
        returns = jax.vmap(lambda reward: rewards_to_go(reward, discount=self.discount))(episodes.reward)
        if self.normalise:
            returns = returns - jnp.mean(returns, axis=0, keepdims=True)
            returns = returns / (jnp.std(returns) + 1e-8)

        def objective(policy: AbstractPolicy) -> Float[Array, ""]:
            log_probabilities, _ = choices(said(policy, episodes.observation).logits, episodes.action)
            return jnp.sum(log_probabilities * returns) / returns.shape[0]

        gradients = eqx.filter_grad(objective)(state.policy)
        steps = jax.tree.map(lambda gradient: self.learning_rate * gradient, gradients)
        return NaiveState(eqx.apply_updates(state.policy, steps), None)


def said(policy: AbstractPolicy, observations: Array) -> PolicyOutput:
    """What a policy says along sequences `[b t ...]` that each start with an empty memory."""
    return jax.vmap(lambda one: policy.unroll(one)[0])(observations)


def _check_batch_size(batch_size: int | None) -> None:
    require(batch_size is None or batch_size >= 1, f"batch_size must be at least 1 or None, not {batch_size}")
