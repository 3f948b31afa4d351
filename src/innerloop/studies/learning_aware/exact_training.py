"""Training memory-one policies by exact gradients: against naive learners, against each other, looking ahead."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...envs.matrix_games import PRISONERS_DILEMMA
from ...rl.exact.returns import discounted_returns, naive_gradient
from ...rl.exact.shaping import mixed_gradient, naive_trajectory
from .configuration import ExactSettings

Info = dict[str, Float[Array, ""]]


class Group(eqx.Module):
    """Pairs of policies, one per setting, and the state of their optimiser: what the trainings carry."""

    policies: Float[Array, "k 2 5"]
    optimiser_state: PyTree


class Naive(NamedTuple):
    """How naive learners learn: a number of steps, and one step size per setting."""

    num_steps: int
    rates: np.ndarray  # [k], for payoffs per step


def rates_of(settings: ExactSettings, *, look_aheads: int | None = None) -> dict[str, float]:
    """Step sizes of naive learners along payoffs per step, of which the raw return is 1/(1-discount) times as much."""
    rate = settings.one_look_ahead_rate if look_aheads == 1 else settings.naive_rate
    return {"raw": rate / (1 - settings.discount), "scaled": rate}


def against_naive(
    policies: Float[Array, "k 2 5"],
    learners: Float[Array, "k 2 n 5"],
    naive: Naive,
    discount: float,
    *,
    aware: bool = True,
) -> Float[Array, "k 2 n m 2"]:
    """Payoffs per step of every policy and of its naive learners, before and after each of their steps.

    An agent who is not `aware` takes the learners' policies for given: no gradient goes through their learning.
    """

    def one(policy: Float[Array, "5"], learner: Float[Array, "5"], rate: Float[Array, ""]) -> Float[Array, "m 2"]:
        game = (PRISONERS_DILEMMA, discount)
        way = naive_trajectory(policy, learner, *game, num_steps=naive.num_steps, rate=rate)
        if aware:
            return way.returns
        taken = jax.lax.stop_gradient(way.policies)
        return jax.vmap(lambda other: discounted_returns(policy, other, *game, normalised=True))(taken)

    of_learners = jax.vmap(one, (None, 0, None))
    of_pair = jax.vmap(of_learners, (0, 0, None))
    return jax.vmap(of_pair)(policies, learners, jnp.asarray(naive.rates, policies.dtype))


def among_each_other(policies: Float[Array, "k 2 5"], discount: float) -> Float[Array, "k 2"]:
    """What the two of every pair earn from each other per step."""
    return jax.vmap(lambda pair: discounted_returns(pair[0], pair[1], PRISONERS_DILEMMA, discount, normalised=True))(
        policies
    )


def partial_gradients(policies: Float[Array, "k 2 5"], discount: float) -> Float[Array, "k 2 5"]:
    """For every agent the gradient of the own payoff, the other one of the pair taken for given."""
    own = jax.vmap(lambda first, other: naive_gradient(first, other, PRISONERS_DILEMMA, discount, normalised=True))
    return jax.vmap(own)(policies, policies[:, ::-1])


class Gradients(NamedTuple):
    """Ascent directions, and what is reported of them."""

    ascent: Float[Array, "k 2 5"]
    info: Info


class Training(eqx.Module):
    """A step `(key, group) -> (group, info)` for `fit`: AdamW along the gradients that `rule` gives."""

    rule: Callable[[Key[Array, ""], Float[Array, "k 2 5"]], Gradients] = eqx.field(static=True)
    optimiser: optax.GradientTransformation = eqx.field(static=True)

    def init(self, policies: Float[Array, "k 2 5"]) -> Group:
        """The group at the start of training."""
        return Group(policies, self.optimiser.init(policies))

    def __call__(self, key: Key[Array, ""], group: Group) -> tuple[Group, Info]:
        found = self.rule(key, group.policies)
        return Group(*apply_gradients(group.policies, self.optimiser, group.optimiser_state, -found.ascent)), found.info


def shaping_rule(
    names: tuple[str, ...], naive: Naive, settings: ExactSettings, *, aware: bool = True
) -> Callable[[Key[Array, ""], Float[Array, "k 2 5"]], Gradients]:
    """Every policy for itself, each against fresh naive learners with normally distributed logits."""

    def rule(key: Key[Array, ""], policies: Float[Array, "k 2 5"]) -> Gradients:
        learners = jax.random.normal(named_key(key, "naive"), (len(names), 2, settings.naive_batch, 5))

        def objective(policies: Float[Array, "k 2 5"]) -> tuple[Float[Array, ""], Float[Array, "k 2"]]:
            earned = against_naive(policies, learners, naive, settings.discount, aware=aware).mean(axis=(2, 3))
            return earned[..., 0].sum(), earned.mean(axis=1)

        ascent, earned = jax.grad(objective, has_aux=True)(policies)
        info = {f"{name}/{who}": earned[k, i] for k, name in enumerate(names) for i, who in enumerate(("ego", "naive"))}
        return Gradients(ascent, info)

    return rule


def meeting_rule(
    names: tuple[str, ...], discount: float
) -> Callable[[Key[Array, ""], Float[Array, "k 2 5"]], Gradients]:
    """Two policies against each other, neither of which can see the other one's learning."""

    def rule(key: Key[Array, ""], policies: Float[Array, "k 2 5"]) -> Gradients:
        earned = among_each_other(policies, discount).mean(axis=1)
        info = {f"{name}/pair": earned[k] for k, name in enumerate(names)}
        return Gradients(partial_gradients(policies, discount), info)

    return rule


def pool_rule(
    shares: tuple[float, ...], naive: Naive, settings: ExactSettings
) -> Callable[[Key[Array, ""], Float[Array, "k 2 5"]], Gradients]:
    """Two learning-aware agents in a pool with naive learners, one pool per share of naive learners."""

    def rule(key: Key[Array, ""], policies: Float[Array, "k 2 5"]) -> Gradients:
        learners = jax.random.normal(named_key(key, "naive"), (len(shares), 2, settings.pool_naive_batch, 5))

        def objective(policies: Float[Array, "k 2 5"]) -> tuple[Float[Array, ""], Float[Array, "k"]]:
            earned = against_naive(policies, learners, naive, settings.discount)[..., 0].mean(axis=(2, 3))
            return earned.sum(), earned.mean(axis=1)

        shaping, ego = jax.grad(objective, has_aux=True)(policies)
        weights = jnp.broadcast_to(jnp.asarray(shares, policies.dtype)[:, None, None], policies.shape)
        ascent = mixed_gradient(shaping, partial_gradients(policies, settings.discount), weights)
        pair = among_each_other(policies, settings.discount).mean(axis=1)
        info = {f"{share:g}/pair": pair[k] for k, share in enumerate(shares)}
        return Gradients(ascent, info | {f"{share:g}/ego": ego[k] for k, share in enumerate(shares)})

    return rule


def look_ahead_rule(
    names: tuple[str, ...], naive: Naive, shares: np.ndarray, discount: float
) -> Callable[[Key[Array, ""], Float[Array, "k 2 5"]], Gradients]:
    """LOLA on both sides; a share below 1 mixes the partial gradient in."""

    def rule(key: Key[Array, ""], policies: Float[Array, "k 2 5"]) -> Gradients:
        others = policies[:, ::-1, None]

        def objective(policies: Float[Array, "k 2 5"]) -> Float[Array, ""]:
            return against_naive(policies, others, naive, discount)[..., -1, 0].sum()

        weights = jnp.broadcast_to(jnp.asarray(shares, policies.dtype)[:, None, None], policies.shape)
        ascent = mixed_gradient(jax.grad(objective)(policies), partial_gradients(policies, discount), weights)
        earned = among_each_other(policies, discount).mean(axis=1)
        return Gradients(ascent, {f"{name}/pair": earned[k] for k, name in enumerate(names)})

    return rule
