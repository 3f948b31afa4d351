"""World models: what will be seen, earned and done next; roll-outs inside them."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key, PyTree

from ...envs.matrix_games import PRISONERS_DILEMMA
from .posterior import BetaPosterior
from .tabular_pool import SWAP, swap_view


class AbstractWorldModel(eqx.Module):
    """Predicts one player's own stream of observations, rewards and actions, one by one.

    It predicts the player itself as it predicts the world: its predictions of actions are a policy, its predictions
    of observations a model, and drawing from both in turn is a possible future.
    """

    @abc.abstractmethod
    def init_memory(self) -> PyTree:
        """The memory before the first observation."""

    @abc.abstractmethod
    def see(self, memory: PyTree, observation: Int[Array, ""]) -> tuple[PyTree, Float[Array, "a"], Float[Array, ""]]:
        """An observation: the memory after it, the logits of the own next action, the reward that came with it."""

    @abc.abstractmethod
    def do(self, memory: PyTree, action: Int[Array, ""]) -> tuple[PyTree, Float[Array, "o"]]:
        """An own action: the memory after it, and the logits of the next observation."""


def action_values(
    model: AbstractWorldModel,
    key: Key[Array, ""],
    memory: PyTree,
    *,
    num_actions: int = 2,
    horizon: int = 15,
    num_samples: int = 16,
    discount: ArrayLike = 1.0,
) -> Float[Array, "a"]:
    r"""What each action is worth in the model: the mean return of futures drawn from it.

    $\hat Q(x, a) = \frac1n \sum_i \sum_{k < h} \gamma^k r^{(i)}_{k}$: take $a$, then draw observations, rewards and own
    actions from the model for `horizon` rounds. Every action and sample starts from a copy of the memory; all
    actions see the same random numbers, so that their difference is less noisy than their values.

    **Arguments:**

    - `model`: what the future is drawn from.
    - `key`: a random key.
    - `memory`: after the present observation.
    - `num_actions`: how many actions there are.
    - `horizon`: how many rounds ahead.
    - `num_samples`: futures for each action.
    - `discount`: of one round.

    **Reference:** Weis et al. (2026), arXiv 2602.16301 (15 rounds; the number of futures is not given).
    """

    def future(key: Key[Array, ""], action: Int[Array, ""]) -> Float[Array, ""]:
        def advance(carry: tuple, key: Key[Array, ""]):
            memory, action = carry
            first, second = jax.random.split(key)
            memory, logits = model.do(memory, action)
            observation = jax.random.categorical(first, logits).astype(jnp.int32)
            memory, logits, reward = model.see(memory, observation)
            return (memory, jax.random.categorical(second, logits).astype(jnp.int32)), reward

        rewards = jax.lax.scan(advance, (memory, action), jax.random.split(key, horizon))[1]
        weights = jnp.asarray(discount, rewards.dtype) ** jnp.arange(horizon).astype(rewards.dtype)
        return jnp.sum(weights * rewards)

    keys, actions = jax.random.split(key, num_samples), jnp.arange(num_actions, dtype=jnp.int32)
    return jax.vmap(lambda one: jax.vmap(lambda action: future(one, action))(actions))(keys).mean(axis=0)


def exact_action_values(
    model: AbstractWorldModel, memory: PyTree, *, horizon: int, num_actions: int = 2, discount: float = 1.0
) -> Float[Array, "a"]:
    """The expectation of `action_values` by enumeration of all futures: for a few rounds only."""

    def value(memory: PyTree, action: Int[Array, ""], left: int) -> Float[Array, ""]:
        memory, logits = model.do(memory, action)
        total = jnp.zeros((), logits.dtype)
        for observation in range(logits.shape[0]):
            after, own, reward = model.see(memory, jnp.asarray(observation, jnp.int32))
            if left > 1:
                later = [value(after, jnp.asarray(a, jnp.int32), left - 1) for a in range(num_actions)]
                reward = reward + discount * jnp.sum(jax.nn.softmax(own) * jnp.stack(later))
            total = total + jax.nn.softmax(logits)[observation] * reward
        return total

    return jnp.stack([value(memory, jnp.asarray(action, jnp.int32), horizon) for action in range(num_actions)])


def _joint(own: Int[Array, ""], other: Float[Array, "2"]) -> Float[Array, "5"]:
    """The law of the next view, as logits, from the own action and the logits of the other's."""
    none = jnp.full((2,), -jnp.inf, other.dtype)
    rows = jnp.where(own == 0, jnp.concatenate([other, none]), jnp.concatenate([none, other]))
    return jnp.concatenate([none[:1], rows])


def _reward_at(views: Int[Array, ""], payoffs: Float[Array, "2 2"]) -> Float[Array, ""]:
    """What was earned in the round that led to a view; nothing before the first."""
    return jnp.concatenate([jnp.zeros_like(payoffs[0, :1]), payoffs.reshape(-1)])[views]


class GameModel(AbstractWorldModel):
    """The truth about two memory-one players, as a world model of the first: for tests, and for oracles."""

    own: Float[Array, "5"]  # probabilities of cooperation at the own views
    other: Float[Array, "5"]  # at the other's own views
    payoffs: Float[Array, "2 2"] = eqx.field(converter=jnp.asarray, default_factory=lambda: PRISONERS_DILEMMA)

    def init_memory(self) -> Int[Array, ""]:
        """The view."""
        return jnp.asarray(0, jnp.int32)

    def see(
        self, memory: Int[Array, ""], observation: Int[Array, ""]
    ) -> tuple[Int[Array, ""], Float[Array, "2"], Float[Array, ""]]:
        """The view is all that there is to remember."""
        p = self.own[observation]
        reward = _reward_at(observation, self.payoffs.astype(self.own.dtype))
        return observation, jnp.log(jnp.stack([p, 1 - p])), reward

    def do(self, memory: Int[Array, ""], action: Int[Array, ""]) -> tuple[Int[Array, ""], Float[Array, "5"]]:
        """The other moves at the same time."""
        q = self.other[SWAP][memory]
        return memory, _joint(action, jnp.log(jnp.stack([q, 1 - q])))


class MixtureModel(AbstractWorldModel):
    """The ideal world model of games between two players of a `TabularPool`: independent Beta posteriors.

    What a sequence model that is trained on such games would be if it were perfect. It takes the own player, too,
    for one that was drawn from the pool.
    """

    concentration: float | Float[Array, ""] = 1.0
    payoffs: Float[Array, "2 2"] = eqx.field(converter=jnp.asarray, default_factory=lambda: PRISONERS_DILEMMA)

    def init_memory(self) -> tuple[BetaPosterior, BetaPosterior, Int[Array, ""], Int[Array, ""]]:
        """Posteriors of the own and the other player, the last view and the own action there."""
        prior, zero = BetaPosterior.prior(self.concentration), jnp.asarray(0, jnp.int32)
        return prior, prior, zero, zero

    def see(self, memory: tuple, observation: Int[Array, ""]) -> tuple[tuple, Float[Array, "2"], Float[Array, ""]]:
        """What both did in the last round is known now."""
        own, other, view, action = memory
        happened = observation > 0
        new = own.update(view, (observation - 1) // 2), other.update(swap_view(view), (observation - 1) % 2)
        own, other = jax.tree.map(lambda a, b: jnp.where(happened, a, b), new, (own, other))
        reward = _reward_at(observation, self.payoffs.astype(own.cooperations.dtype))
        return (own, other, observation, action), own.logits(observation), reward

    def do(self, memory: tuple, action: Int[Array, ""]) -> tuple[tuple, Float[Array, "5"]]:
        """The other is expected to do what its posterior says."""
        own, other, view, _ = memory
        return (own, other, view, action), _joint(action, other.logits(swap_view(view)))
