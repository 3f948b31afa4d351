"""LOLA-DiCE: learning with opponent-learning awareness from samples, with any number of look-aheads."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...core.tree import trainable
from ...envs.environment import AbstractEnvironment
from ..policy import AbstractPolicy
from ..rollout import rollout
from .losses import choices
from .returns import Scalar, rewards_to_go

Policies = tuple[AbstractPolicy, AbstractPolicy]


class Plays(NamedTuple):
    """Whole episodes of two players, and what each episode weighs in a mean over all."""

    observation: Array  # [b t 2 ...]
    action: Int[Array, "b t 2"]
    reward: Float[Array, "b t 2"]
    weight: Float[Array, "b"]


Play = Callable[[Key[Array, ""], Policies], Plays]


class SampledPlays(eqx.Module):
    """Plays of `batch_size` episodes in a world of two, each cut after `num_steps` steps, all of one weight."""

    environment: AbstractEnvironment
    batch_size: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)

    def __check_init__(self):
        require(
            self.environment.num_agents == 2,
            f"two players look ahead at each other, but {type(self.environment).__name__} has "
            f"{self.environment.num_agents} agents",
        )
        for name in ("batch_size", "num_steps"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")

    def __call__(self, key: Key[Array, ""], policies: Policies) -> Plays:
        """Draw episodes. Episodes must not end before `num_steps`: what follows would be another one."""
        keys = jax.random.split(key, self.batch_size)
        lived, _ = jax.vmap(lambda one: rollout(self.environment, policies, one, self.num_steps))(keys)
        weight = jnp.full(self.batch_size, 1 / self.batch_size, lived.reward.dtype)
        return Plays(lived.observation, lived.action, lived.reward, weight)


def magic_box(x: Float[Array, "*t"]) -> Float[Array, "*t"]:
    r"""One, whose derivatives of every order are those of a probability divided by itself: $e^{x - \perp x}$.

    With $x$ the sum of the log-probabilities of everything random on which a cost depends, any derivative of
    $\square(x)\,c$ has the expectation of that derivative of the expected cost.

    **Reference:** Foerster, Farquhar, Al-Shedivat, Rocktäschel, Xing & Whiteson (2018), arXiv 1802.05098.
    """
    return jnp.exp(x - jax.lax.stop_gradient(x))


def dice_objective(
    log_probabilities: Float[Array, "t"],
    rewards: Float[Array, "t"],
    baselines: Float[Array, "t"] | None = None,
    *,
    discount: Scalar,
) -> Float[Array, ""]:
    r"""The discounted return of one episode, differentiable any number of times.

    $$\sum_t \gamma^t\,\square\Big(\sum_{k \le t} \log\pi_k\Big)\,r_t
    + \sum_t \gamma^t\,\big(1 - \square(\log\pi_t)\big)\,b_t$$

    **Arguments:**

    - `log_probabilities`: of the joint action of each step, under all policies with respect to which one
        differentiates.
    - `rewards`: of the player whose return it is.
    - `baselines`: values of what was seen before each action; they add nothing to the value and nothing to the
        expectation of any derivative. No gradient flows through them.
    - `discount`: of one step.

    **Reference:** Foerster et al. (2018), arXiv 1802.05098.
    """
    discounts = discount ** jnp.arange(rewards.shape[0], dtype=rewards.dtype)
    objective = jnp.sum(discounts * magic_box(jnp.cumsum(log_probabilities)) * rewards)
    if baselines is not None:
        baselines = jax.lax.stop_gradient(baselines)
        objective = objective + jnp.sum(discounts * (1 - magic_box(log_probabilities)) * baselines)
    return objective


def lola_dice_loss(
    key: Key[Array, ""],
    policies: Policies,
    *,
    player: int,
    play: Play,
    num_look_aheads: int,
    look_ahead_rate: Scalar,
    discount: Scalar,
    use_baseline: bool = True,
    value_coefficient: Scalar = 0.5,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    r"""Minus a player's return after the other has learned for `num_look_aheads` steps, from samples.

    In each look-ahead both play with the parameters reached so far, and the other's move by
    $\alpha\,\nabla_{\theta_2} J_2(\theta_1, \theta_2)$, estimated from these plays: a function of $\theta_1$, which the
    magic box keeps differentiable. At last they play again, and the gradient of $J_1(\theta_1, \theta_2 + \Delta)$ with
    respect to $\theta_1$ goes through everything. Without look-aheads it is an ordinary policy gradient.

    **Arguments:**

    - `key`: a random key.
    - `policies`: of both players; differentiate with respect to that of `player`.
    - `player`: 0 or 1.
    - `play`: draws weighted episodes, `SampledPlays` for instance.
    - `num_look_aheads`: how many steps the other is imagined to make.
    - `look_ahead_rate`: of these steps ($\alpha$).
    - `discount`: of one step.
    - `use_baseline`: whether the players' own values are baselines.
    - `value_coefficient`: what half a squared error of the player's values weighs in the loss.

    **Returns:** the loss, and its parts.

    **Reference:** Foerster, Chen, Al-Shedivat, Whiteson, Abbeel & Mordatch (2018), arXiv 1709.04326; Foerster et al.
    (2018), arXiv 1802.05098.
    """
    require(player in (0, 1), f"player is 0 or 1, not {player}")
    require(num_look_aheads >= 0, f"num_look_aheads must not be negative, but is {num_look_aheads}")
    me, other = policies[player], policies[1 - player]
    keys = jax.random.split(key, num_look_aheads + 1)

    def returns(me: AbstractPolicy, other: AbstractPolicy, key: Key[Array, ""], whose: int) -> tuple[Array, Array]:
        """The return of one of the two, and the error of its values, of new plays."""
        pair = (me, other) if player == 0 else (other, me)
        frozen = jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, pair)
        plays = play(key, frozen)

        def one(observation: Array, action: Array, reward: Array) -> tuple[Array, Array]:
            outputs = [pair[i].unroll(jax.tree.map(lambda x, i=i: x[:, i], observation))[0] for i in (0, 1)]
            joint = sum(choices(outputs[i].logits, action[:, i])[0] for i in (0, 1))
            values = outputs[whose].value
            objective = dice_objective(
                jnp.asarray(joint), reward[:, whose], values if use_baseline else None, discount=discount
            )
            targets = rewards_to_go(reward[:, whose], discount=discount)
            return objective, 0.5 * jnp.mean((values - targets) ** 2)

        objectives, errors = jax.vmap(one)(plays.observation, plays.action, plays.reward)
        return jnp.sum(plays.weight * objectives), jnp.sum(plays.weight * errors)

    arrays, static = eqx.partition(other, eqx.is_inexact_array)

    def look_ahead(arrays: PyTree, key: Key[Array, ""]) -> tuple[PyTree, None]:
        def others_return(arrays: PyTree) -> Array:
            return returns(me, eqx.combine(arrays, static), key, 1 - player)[0]

        steps = jax.grad(others_return)(arrays)
        return jax.tree.map(lambda x, step: x + look_ahead_rate * step, arrays, steps), None

    arrays, _ = jax.lax.scan(look_ahead, arrays, keys[:-1])
    objective, error = returns(me, eqx.combine(arrays, static), keys[-1], player)
    loss = value_coefficient * error - objective
    return loss, dict(loss=loss, discounted_return=objective, value_loss=error)


class LolaDice(eqx.Module):
    """A training step `(key, pair) -> (pair, info)` for `fit`: both players learn, each looking ahead at the other.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> play = il.SampledPlays(il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=8), batch_size=16, num_steps=8)
    >>> step = il.LolaDice(play, optax.sgd(0.1), num_look_aheads=1, look_ahead_rate=0.3, discount=0.96)
    >>> players = (il.TabularPolicy.uniform(5, 2), il.TabularPolicy.uniform(5, 2))
    >>> result = il.fit(step, step.init(players), steps=2)
    >>> result.history("train", "discounted_return_0").shape
    (2,)

    ```

    **Reference:** Foerster et al. (2018), arXiv 1802.05098.
    """

    play: SampledPlays
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    num_look_aheads: int = eqx.field(static=True)
    look_ahead_rate: Scalar
    discount: Scalar = 0.96
    use_baseline: bool = eqx.field(static=True, default=True)
    value_coefficient: Scalar = 0.5

    def init(self, policies: Policies) -> tuple[Policies, tuple[PyTree, PyTree]]:
        """The policies and their optimisers at the start."""
        first, second = policies
        return policies, (self.optimiser.init(trainable(first)), self.optimiser.init(trainable(second)))

    def __call__(
        self, key: Key[Array, ""], pair: tuple[Policies, tuple[PyTree, PyTree]]
    ) -> tuple[tuple[Policies, tuple[PyTree, PyTree]], dict[str, Float[Array, ""]]]:
        policies, states = pair
        trained, infos = [], {}
        for player in (0, 1):

            def loss(me: AbstractPolicy, player: int = player) -> tuple[Array, dict[str, Array]]:
                return lola_dice_loss(
                    named_key(key, "player", player),
                    (me, policies[1]) if player == 0 else (policies[0], me),
                    player=player,
                    play=self.play,
                    num_look_aheads=self.num_look_aheads,
                    look_ahead_rate=self.look_ahead_rate,
                    discount=self.discount,
                    use_baseline=self.use_baseline,
                    value_coefficient=self.value_coefficient,
                )

            gradients, info = eqx.filter_grad(loss, has_aux=True)(policies[player])
            trained.append(apply_gradients(policies[player], self.optimiser, states[player], gradients))
            infos |= {f"{name}_{player}": value for name, value in info.items()}
        (first, first_state), (second, second_state) = trained
        return ((first, second), (first_state, second_state)), infos
