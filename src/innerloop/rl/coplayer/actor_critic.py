"""Independent actor-critics in a mixed pool: the model-free way to agents that infer their co-players."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...core.tree import pick, trainable
from ...envs.agent import AbstractAgent
from ..gradient.losses import actor_critic_loss, normalise_advantages
from ..gradient.returns import generalised_advantages, lambda_returns
from ..gradient.shaping import following
from ..policy import AbstractPolicy, PolicyOutput
from .improvement import summarise_episodes
from .mixed_pool import IDENTITY_SIZE, Episodes, MakeAgent, MixedPool
from .tabular_pool import NUM_VIEWS


class IdentifiedPolicy(AbstractAgent):
    """A policy over arrays that is told at every step who the co-player is, after its own one-hot view.

    The policy reads `NUM_VIEWS + 10` numbers. Given ten zeros it is a policy that is told nothing.
    """

    policy: AbstractPolicy
    identity: Float[Array, "i"]

    def init_memory(self) -> PyTree:
        """That of the policy."""
        return self.policy.init_memory()

    def act(self, key: Key[Array, ""], memory: PyTree, observation: Int[Array, ""]) -> tuple[PyTree, Int[Array, ""]]:
        """Look at the view and at who it is."""
        return self.policy.act(key, memory, self.describe(observation))

    def describe(self, observations: Int[Array, "*t"]) -> Float[Array, "*t d"]:
        """What the policy reads: the view, one-hot, and the identity."""
        views = jax.nn.one_hot(observations, NUM_VIEWS, dtype=self.identity.dtype)
        known = jnp.broadcast_to(self.identity, (*observations.shape, self.identity.shape[0]))
        return jnp.concatenate([views, known], axis=-1)

    def unroll(self, observations: Int[Array, "t"]) -> PolicyOutput:
        """What the policy says at each moment of an episode."""
        return self.policy.unroll(self.describe(observations))[0]


class PoolLearners(eqx.Module):
    """What actor-critics in a pool carry from step to step; leading axis: learners."""

    policies: AbstractPolicy
    optimiser_state: PyTree


class MixedPoolActorCritic(eqx.Module):
    r"""The step `(key, learners) -> (learners, info)` of independent A2C in a mixed pool, for `fit`.

    All learners play a round of episodes, then each makes one gradient step on its own: REINFORCE with generalised
    advantages, a critic with TD($\lambda$) targets, a bonus for entropy. Advantages are centred, and scaled if asked
    for, **apart** for the two kinds of co-players.

    **Arguments:**

    - `pool`: whom the learners meet.
    - `optimiser`: of each learner.
    - `num_learners`: 2, or 1 where the pool has tabular players only.
    - `discount`, `trace_decay`: of returns and advantages.
    - `reward_scale`: what rewards are multiplied by in the losses only.
    - `value_coefficient`, `entropy_coefficient`: weights in the loss.
    - `normalise`: whether advantages are scaled to a deviation of one.
    - `identities`: whether agents are told who the co-player is (an ablation).

    **Reference:** Weis et al. (2026), arXiv 2602.16301, table 2.
    """

    pool: MixedPool
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    num_learners: int = eqx.field(static=True, default=2)
    discount: float = 0.99
    trace_decay: float = 1.0
    reward_scale: float = 0.02
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.01
    normalise: bool = eqx.field(static=True, default=True)
    identities: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require(self.num_learners in (1, 2), f"num_learners is 1 or 2, not {self.num_learners}")

    def init(self, policies: AbstractPolicy) -> PoolLearners:
        """The state at the start of training `policies`, which have a leading axis of learners."""
        return PoolLearners(policies, eqx.filter_vmap(lambda policy: self.optimiser.init(trainable(policy)))(policies))

    def agents(self, policies: AbstractPolicy) -> tuple[MakeAgent, ...]:
        """Who plays for each learner."""

        def maker(number: int) -> MakeAgent:
            policy = pick(policies, number)
            return lambda identity: self._agent(policy, identity)

        return tuple(maker(number) for number in range(self.num_learners))

    def __call__(self, key: Key[Array, ""], learners: PoolLearners) -> tuple[PoolLearners, dict[str, Float[Array, ""]]]:
        episodes = self.pool.play(named_key(key, "play"), self.agents(learners.policies))
        arrays, static = eqx.partition(learners, eqx.is_array)

        def update(inputs: tuple) -> tuple[PyTree, dict[str, Float[Array, ""]]]:
            arrays, mine = inputs
            learner = eqx.combine(arrays, static)
            policy, optimiser_state, info = self._update(learner.policies, learner.optimiser_state, mine)
            return eqx.filter(PoolLearners(policy, optimiser_state), eqx.is_array), info

        moved, info = jax.lax.map(update, (arrays, episodes))
        info = {name: values.mean() for name, values in info.items()}
        return eqx.combine(moved, static), {**info, **summarise_episodes(episodes)}

    def _agent(self, policy: AbstractPolicy, identity: Float[Array, "i"]) -> IdentifiedPolicy:
        return IdentifiedPolicy(policy, identity if self.identities else jnp.zeros(IDENTITY_SIZE))

    def _update(
        self, policy: AbstractPolicy, optimiser_state: PyTree, episodes: Episodes
    ) -> tuple[AbstractPolicy, PyTree, dict[str, Float[Array, ""]]]:
        rewards = self.reward_scale * episodes.rewards
        over = jnp.arange(rewards.shape[1]) == rewards.shape[1] - 1

        def say(policy: AbstractPolicy) -> PolicyOutput:
            def one(observations: Int[Array, "s"], identity: Float[Array, "i"]) -> PolicyOutput:
                return self._agent(policy, identity).unroll(observations[:-1])

            return jax.vmap(one)(episodes.observations, episodes.identity)

        values = say(policy).value

        def look_back(reward: Array, value: Array, after: Array) -> tuple[Array, Array]:
            gamma, decay = self.discount, self.trace_decay
            return (
                generalised_advantages(reward, value, after, over, discount=gamma, trace_decay=decay),
                lambda_returns(reward, after, over, discount=gamma, trace_decay=decay),
            )

        advantages, targets = jax.vmap(look_back)(rewards, values, following(values))
        groups = jnp.where(episodes.with_learner, 1, 0).astype(jnp.int32)
        advantages = normalise_advantages(advantages, groups, 2, scale=self.normalise)

        def loss(policy: AbstractPolicy) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
            return actor_critic_loss(
                say(policy),
                episodes.actions,
                advantages,
                targets,
                value_coefficient=self.value_coefficient,
                entropy_coefficient=self.entropy_coefficient,
            )

        gradient, info = eqx.filter_grad(loss, has_aux=True)(policy)
        return *apply_gradients(policy, self.optimiser, optimiser_state, gradient), info
