"""The step of a learning-aware agent: a policy gradient from whole meta-trajectories."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key, PyTree

from ...core.errors import require
from ...core.optimise import apply_gradients
from ..gradient.losses import choices, clipped_surrogate, normalise_advantages, value_errors
from ..gradient.returns import Scalar
from ..gradient.shaping import ShapingEstimator, shaping_advantages, shaping_value_targets, warn_of_lost_shaping
from ..policy import AbstractPolicy, PolicyOutput
from .meta_episode import MetaTrajectory
from .naive import said

Info = dict[str, Float[Array, ""]]


class Lesson(NamedTuple):
    """What a policy learns from meta-trajectories: leading axis co-players, then copies, then time."""

    trajectory: MetaTrajectory  # [n b l ...]
    advantage: Float[Array, "n b l"]  # weighed, so that the gradient is a sum over copies and steps
    target: Float[Array, "n b l"]  # of the values


class LearningAwareUpdate(eqx.Module):
    r"""Proximal policy optimisation (PPO) of an agent over meta-trajectories; with one epoch of one minibatch, A2C.

    Against learners the advantages are those of `estimator`; against agents who do not learn within the trajectory
    the copies are independent games, and the gradient is the ordinary one, `BATCH_UNAWARE`. Whole trajectories are
    unrolled again from their first observation, and minibatches are made over co-players, so that no stored memory
    is ever out of date and no minibatch of copies is torn apart.

    The policy's loss is a sum over steps (and over copies, as the estimator has it) and a mean over co-players; the
    critic's is a sum over steps and a mean over copies and co-players. Values and targets are in scaled rewards.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=5)
    >>> episode = il.MetaEpisode(game, il.NaiveReinforce(), batch_size=4, num_episodes=3)
    >>> agent = il.TabularPolicy.uniform(5, 2)
    >>> keys = jax.random.split(jax.random.key(0), 8)
    >>> trajectories, _ = jax.vmap(lambda key: episode.against_learner(key, agent, agent))(keys)
    >>> update = il.LearningAwareUpdate(optax.adam(0.02), inner_length=5, num_epochs=1, num_minibatches=1)
    >>> learns = jax.numpy.ones(8, bool)
    >>> agent, state, info = update(jax.random.key(1), agent, update.init(agent), trajectories, learns)
    >>> sorted(info)
    ['entropy', 'policy_loss', 'update_norm', 'value_loss']

    ```

    **Arguments:**

    - `optimiser`: of the policy.
    - `inner_length`: of an inner episode.
    - `estimator`: of the gradient against learners.
    - `discount`, `trace_decay`: of the advantages and of the critic's targets; 1 unless meta-episodes are short.
    - `reward_scale`: what rewards are multiplied by in the losses, and nowhere else.
    - `centre`: whether advantages lose, at each step, their mean over copies and co-players; learners and others
        apart.
    - `scale`: whether they are then divided by their deviation, learners and others apart.
    - `clip`: of the ratio of probabilities.
    - `value_clip`: of the change of the values, or `None`.
    - `value_coefficient`, `entropy_coefficient`: of the loss.
    - `num_epochs`, `num_minibatches`: how often the same trajectories are used, and in how many parts.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, section 3 and appendix B.

    **Errors:** `ValueError` if the co-players cannot be parted into minibatches of one size.

    **Warns:** if `discount * trace_decay` below 1 forgets what later inner episodes bring (`warn_of_lost_shaping`).
    """

    optimiser: optax.GradientTransformation = eqx.field(static=True)
    inner_length: int = eqx.field(static=True)
    estimator: ShapingEstimator = eqx.field(static=True, default=ShapingEstimator.COALA)
    discount: Scalar = 1.0
    trace_decay: Scalar = 1.0
    reward_scale: Scalar = 1.0
    centre: bool = eqx.field(static=True, default=True)
    scale: bool = eqx.field(static=True, default=False)
    clip: Scalar = 0.2
    value_clip: Scalar | None = 0.2
    value_coefficient: Scalar = 0.5
    entropy_coefficient: Scalar = 0.0
    num_epochs: int = eqx.field(static=True, default=4)
    num_minibatches: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        for name in ("inner_length", "num_epochs", "num_minibatches"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")

    def init(self, policy: AbstractPolicy) -> PyTree:
        """The optimiser's state before the first step."""
        return self.optimiser.init(eqx.filter(policy, eqx.is_inexact_array))

    def __call__(
        self,
        key: Key[Array, ""],
        policy: AbstractPolicy,
        optimiser_state: PyTree,
        trajectories: MetaTrajectory,
        learns: Bool[Array, "n"],
    ) -> tuple[AbstractPolicy, PyTree, Info]:
        """Learn from the meta-trajectories against `n` co-players; `learns` says which of them were learners.

        **Returns:** the policy and the optimiser's state after all minibatches, and means over these.
        """
        num_players = trajectories.value.shape[0]
        require(
            num_players % self.num_minibatches == 0,
            f"{num_players} co-players cannot be parted into {self.num_minibatches} minibatches of one size",
        )
        lesson = self.prepare(trajectories, learns)
        arrays, static = eqx.partition((policy, optimiser_state), eqx.is_array)

        def learn(arrays: PyTree, rows: Array) -> tuple[PyTree, Info]:
            policy, optimiser_state = eqx.combine(arrays, static)
            part = jax.tree.map(lambda x: x[rows], lesson)
            gradients, info = self.gradients(policy, part)
            after = apply_gradients(policy, self.optimiser, optimiser_state, gradients)
            return eqx.filter(after, eqx.is_array), {**info, "update_norm": optax.tree.norm(gradients)}

        if self.num_epochs == self.num_minibatches == 1:
            order = jnp.arange(num_players)[None]
        else:
            orders = jax.vmap(lambda one: jax.random.permutation(one, num_players))(
                jax.random.split(key, self.num_epochs)
            )
            order = orders.reshape(self.num_epochs * self.num_minibatches, -1)
        arrays, info = jax.lax.scan(learn, arrays, order)
        policy, optimiser_state = eqx.combine(arrays, static)
        return policy, optimiser_state, jax.tree.map(jnp.mean, info)

    def prepare(self, trajectories: MetaTrajectory, learns: Bool[Array, "n"]) -> Lesson:
        """Advantages and value targets, in scaled rewards."""
        rewards, values = self.reward_scale * trajectories.ego.reward, trajectories.value
        batch_size = rewards.shape[1]
        warn_of_lost_shaping(self.discount, self.trace_decay, rewards.shape[2], self.inner_length)

        def advantages(estimator: ShapingEstimator) -> Float[Array, "n b l"]:
            one = lambda reward, value: shaping_advantages(  # noqa: E731
                reward,
                value,
                discount=self.discount,
                trace_decay=self.trace_decay,
                inner_length=self.inner_length,
                estimator=estimator,
            )
            return estimator.weight(batch_size) * jax.vmap(one)(rewards, values)

        ordinary = ShapingEstimator.BATCH_UNAWARE
        shaping = advantages(self.estimator)
        against_agents = shaping if self.estimator is ordinary else advantages(ordinary)
        advantage = jnp.where(learns[:, None, None], shaping, against_agents)
        groups = learns.astype(jnp.int32)
        if self.centre:
            centre = lambda step: normalise_advantages(step, groups, 2, scale=False)  # noqa: E731
            advantage = jax.vmap(centre, in_axes=2, out_axes=2)(advantage)
        if self.scale:
            advantage = normalise_advantages(advantage, groups, 2)
        targets = jax.vmap(
            lambda reward, value: shaping_value_targets(
                reward, value, discount=self.discount, trace_decay=self.trace_decay
            )
        )(rewards, values)
        return Lesson(trajectories, advantage, targets)

    def gradients(self, policy: AbstractPolicy, lesson: Lesson) -> tuple[AbstractPolicy, Info]:
        """The gradients of the loss, and its parts."""

        def loss(policy: AbstractPolicy) -> tuple[Float[Array, ""], Info]:
            trajectory = lesson.trajectory
            output = unroll_all(policy, trajectory.ego.observation)
            log_probabilities, entropies = choices(output.logits, trajectory.ego.action)
            surrogate = clipped_surrogate(
                log_probabilities, trajectory.log_probability, lesson.advantage, clip=self.clip
            )
            errors = value_errors(output.value, lesson.target, trajectory.value, clip=self.value_clip)
            num_players, batch_size, _ = surrogate.shape
            policy_loss = jnp.sum(surrogate) / num_players
            value_loss = jnp.sum(errors) / (num_players * batch_size)
            entropy = jnp.sum(entropies) / (num_players * batch_size)
            total = policy_loss + self.value_coefficient * value_loss - self.entropy_coefficient * entropy
            return total, dict(policy_loss=policy_loss, value_loss=value_loss, entropy=jnp.mean(entropies))

        return eqx.filter_grad(loss, has_aux=True)(policy)


def unroll_all(policy: AbstractPolicy, observations: Array) -> PolicyOutput:
    """What a policy says along whole meta-trajectories `[n b l ...]`."""
    return jax.vmap(lambda copies: said(policy, copies))(observations)
