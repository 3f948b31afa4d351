"""The advantage actor-critic (A2C): one gradient from each batch of experience."""

import equinox as eqx
import optax
from jaxtyping import Array, Float, Key

from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...envs.environment import AbstractEnvironment
from ..policy import AbstractPolicy
from .experience import Learner, check_worlds, collect, make_batch, said, start_learner, summarise
from .losses import actor_critic_loss, normalise_advantages
from .returns import Scalar


class AdvantageActorCritic(eqx.Module):
    r"""A training step `(key, learner) -> (learner, info)` for `fit`: act, then one gradient step (A2C).

    For any world of one agent and any policy. Worlds run side by side and are reset when their episodes end; an
    episode that was cut off is valued at its last observation. Policies that remember are unrolled again over whole
    trajectories, from the memory with which these began.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> step = il.AdvantageActorCritic(il.DelayedCue(delay=0), optax.adam(1e-2), num_worlds=8, num_steps=6)
    >>> policy = il.PerceptronPolicy.random(4, 2, key=jax.random.key(0))
    >>> result = il.fit(step, step.init(jax.random.key(1), policy), steps=3)
    >>> result.history("train", "episode_return").shape
    (3,)

    ```

    **Reference:** Mnih et al. (2016), arXiv 1602.01783.

    **Errors:** `ValueError` for a world of several agents.
    """

    environment: AbstractEnvironment
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    num_worlds: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    discount: Scalar = 0.99
    trace_decay: Scalar = 0.95
    value_coefficient: Scalar = 0.5
    entropy_coefficient: Scalar = 0.0
    normalise: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_worlds(self.environment, self.num_worlds, self.num_steps)

    def init(self, key: Key[Array, ""], policy: AbstractPolicy) -> Learner:
        """The state at the start of training `policy`."""
        return start_learner(self.environment, policy, self.optimiser, key, self.num_worlds)

    def __call__(self, key: Key[Array, ""], learner: Learner) -> tuple[Learner, dict[str, Float[Array, ""]]]:
        experience, worlds, episodes = collect(
            self.environment, learner.policy, learner.worlds, learner.episodes, named_key(key, "act"), self.num_steps
        )
        memory = learner.worlds.memories[0]
        batch = make_batch(experience, memory, discount=self.discount, trace_decay=self.trace_decay)
        advantages = normalise_advantages(batch.advantage) if self.normalise else batch.advantage

        def loss(policy: AbstractPolicy) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
            return actor_critic_loss(
                said(policy, batch),
                batch.action,
                advantages,
                batch.target,
                value_coefficient=self.value_coefficient,
                entropy_coefficient=self.entropy_coefficient,
            )

        gradients, info = eqx.filter_grad(loss, has_aux=True)(learner.policy)
        policy, optimiser_state = apply_gradients(learner.policy, self.optimiser, learner.optimiser_state, gradients)
        info = {**info, "update_norm": optax.tree.norm(gradients), **summarise(experience, episodes)}
        return Learner(policy, optimiser_state, worlds, episodes), info
