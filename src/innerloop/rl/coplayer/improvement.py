"""Predictive policy improvement: model, policy, data, and again."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...core.tree import pick, trainable
from .mixed_pool import Episodes, MakeAgent, MixedPool
from .predictive_policy import PredictivePolicy
from .sequence_model import IdentifiedModel, SequenceModel

MAXIMAL_NORM = 1.0  # of a gradient


class ImprovementState(eqx.Module):
    """What predictive policy improvement carries from step to step; axes: learners, then episodes."""

    models: SequenceModel  # of each learner, trained so far in this phase
    optimiser_state: PyTree
    episodes: Episodes  # all that was ever seen, room for all that will be seen
    count: Int[Array, ""]  # how many episodes are there already
    step: Int[Array, ""]
    played: dict[str, Float[Array, ""]]  # what the last round of play was like


class PredictivePolicyImprovement(eqx.Module):
    r"""The step `(key, state) -> (state, info)` of predictive policy improvement, for `fit`.

    A phase: draw a fresh model, train it on everything seen so far, let the **improved** policy (not the model's own
    prediction) play in the pool, keep what was seen. One step is one update of the model; where a phase begins (but
    the first), it is preceded by a round of play with the model of the phase before. All data have their place from
    the beginning and phases begin at steps that are known, so everything is one program.

    Batches are drawn with replacement from the episodes there are. `epochs` passes over the data are as many updates
    as would see each episode so often on average.

    **Arguments:**

    - `pool`: whom the learners meet.
    - `make_model`: draws a model from a key.
    - `agent`: the settings of the deployed policy, `PredictivePolicy` without a model, as a function of one.
    - `optimiser`: of the model; the paper's is AdamW with a rate of 1e-4, weight decay 0.01, betas 0.9 and 0.98.
    - `num_learners`: 2, or 1 where the pool has tabular players only.
    - `num_first`: episodes of the first data.
    - `num_phases`: how many models are trained; data are gathered between them.
    - `epochs`, `batch_size`: of the training of each.
    - `uniform_first`: whether the first data are of players that act uniformly at random.
    - `identities`: whether agents are told who the co-player is (an ablation).

    **Reference:** Weis et al. (2026), arXiv 2602.16301.

    **Errors:** `ValueError` for settings that leave nothing to train on.
    """

    pool: MixedPool
    make_model: Callable[[Key[Array, ""]], SequenceModel] = eqx.field(static=True)
    agent: Callable[[Any], PredictivePolicy] = eqx.field(static=True)
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    num_learners: int = eqx.field(static=True, default=2)
    num_first: int = eqx.field(static=True, default=200_000)
    num_phases: int = eqx.field(static=True, default=30)
    epochs: int = eqx.field(static=True, default=10)
    batch_size: int = eqx.field(static=True, default=256)
    uniform_first: bool = eqx.field(static=True, default=False)
    identities: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require(self.num_learners in (1, 2), f"num_learners is 1 or 2, not {self.num_learners}")
        for name in ("num_first", "num_phases", "epochs", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def starts(self) -> np.ndarray:
        """The step at which each phase begins, and the number of all steps."""
        sizes = self.num_first + self.pool.num_episodes * np.arange(self.num_phases)
        return np.concatenate([[0], np.cumsum(-(-self.epochs * sizes // self.batch_size))])

    @property
    def num_steps(self) -> int:
        """How many steps all phases have."""
        return int(self.starts[-1])

    def init(self, key: Key[Array, ""]) -> ImprovementState:
        """The first data, and models that know nothing."""
        room = self.pool.num_episodes * (self.num_phases - 1)

        def first(key: Key[Array, ""]) -> Episodes:
            found = self.pool.random_episodes(key, self.num_first, uniform=self.uniform_first)
            return jax.tree.map(lambda x: jnp.concatenate([x, jnp.zeros((room, *x.shape[1:]), x.dtype)]), found)

        keys = jax.random.split(named_key(key, "first episodes"), self.num_learners)
        models, states = self._fresh(named_key(key, "models"))
        zero = jnp.asarray(0, jnp.int32)
        count = jnp.asarray(self.num_first, jnp.int32)
        return ImprovementState(models, states, jax.vmap(first)(keys), count, zero, self._no_play())

    def __call__(
        self, key: Key[Array, ""], state: ImprovementState
    ) -> tuple[ImprovementState, dict[str, Float[Array, ""]]]:
        later = jnp.asarray(self.starts[1:-1], jnp.int32)
        state = jax.lax.cond(
            jnp.any(state.step == later), lambda state: self._next_phase(named_key(key, "phase"), state), _same, state
        )
        keys = jax.random.split(named_key(key, "batch"), self.num_learners)
        arrays, static = eqx.partition((state.models, state.optimiser_state, state.episodes), eqx.is_array)

        def update(inputs: tuple) -> tuple[PyTree, dict[str, Float[Array, ""]]]:
            key, arrays = inputs
            model, optimiser_state, episodes = eqx.combine(arrays, static)
            model, optimiser_state, info = self._update(key, model, optimiser_state, episodes, state.count)
            return eqx.filter((model, optimiser_state), eqx.is_array), info

        moved, info = jax.lax.map(update, (keys, arrays))
        models, optimiser_state = eqx.combine(moved, static[:2])
        info = {name: values.mean() for name, values in info.items()}
        new = ImprovementState(models, optimiser_state, state.episodes, state.count, state.step + 1, state.played)
        return new, {**info, **state.played}

    def agents(self, models: SequenceModel) -> tuple[MakeAgent, ...]:
        """What each learner deploys: the improved policy of its model."""

        def maker(number: int) -> MakeAgent:
            model = pick(models, number)

            def make(identity: Float[Array, "i"]) -> PredictivePolicy:
                return self.agent(IdentifiedModel(model, identity) if self.identities else model)

            return make

        return tuple(maker(number) for number in range(self.num_learners))

    def play(self, key: Key[Array, ""], models: SequenceModel) -> tuple[Episodes, dict[str, Float[Array, ""]]]:
        """A round of play with the deployed policies: what was seen, and what it was like."""
        episodes = self.pool.play(key, self.agents(models))
        return episodes, summarise_episodes(episodes)

    def _next_phase(self, key: Key[Array, ""], state: ImprovementState) -> ImprovementState:
        """Play, keep what was seen, and forget the model."""
        new, played = self.play(named_key(key, "play"), state.models)
        episodes = jax.tree.map(
            lambda all_of_them, some: jax.lax.dynamic_update_slice_in_dim(all_of_them, some, state.count, axis=1),
            state.episodes,
            new,
        )
        models, states = self._fresh(named_key(key, "models"))
        return ImprovementState(models, states, episodes, state.count + self.pool.num_episodes, state.step, played)

    def _fresh(self, key: Key[Array, ""]) -> tuple[SequenceModel, PyTree]:
        models = eqx.filter_vmap(self.make_model)(jax.random.split(key, self.num_learners))
        return models, eqx.filter_vmap(lambda model: self.optimiser.init(trainable(model)))(models)

    def _update(
        self, key: Key[Array, ""], model: SequenceModel, optimiser_state: PyTree, episodes: Episodes, count: Array
    ) -> tuple[SequenceModel, PyTree, dict[str, Float[Array, ""]]]:
        chosen = jax.random.randint(key, (self.batch_size,), 0, count)
        batch = jax.tree.map(lambda x: x[chosen], episodes)

        def loss(model: SequenceModel) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
            losses = jax.vmap(
                lambda one: model.losses(
                    one.observations, one.actions, one.rewards, one.identity if self.identities else None
                )
            )(batch)
            parts = {f"{name}_loss": value.mean() for name, value in losses._asdict().items()}
            return sum(parts.values(), jnp.zeros(())), parts

        (_, info), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(model)
        return *apply_gradients(model, self.optimiser, optimiser_state, gradient), info

    def _no_play(self) -> dict[str, Float[Array, ""]]:
        return {name: jnp.zeros(()) for name in PLAYED}


PLAYED = ("mutual_reward", "mutual_cooperation", "tabular_reward", "tabular_cooperation")


def summarise_episodes(episodes: Episodes) -> dict[str, Float[Array, ""]]:
    """Reward and share of cooperation per round with learners and with tabular players; zero where there are none."""

    def over(where: Array, values: Float[Array, "*n t"]) -> Float[Array, ""]:
        weights = jnp.where(where, 1.0, 0.0)
        return jnp.sum(weights * values.mean(axis=-1)) / jnp.maximum(jnp.sum(weights), 1.0)

    cooperation = jnp.where(episodes.actions == 0, 1.0, 0.0)
    found = {}
    for name, where in (("mutual", episodes.with_learner), ("tabular", ~episodes.with_learner)):
        found[f"{name}_reward"] = over(where, episodes.rewards)
        found[f"{name}_cooperation"] = over(where, cooperation)
    return found


def _same(state: ImprovementState) -> ImprovementState:
    return state


def paper_optimiser(learning_rate: float = 1e-4) -> optax.GradientTransformation:
    """AdamW as in the paper: weight decay 0.01, betas 0.9 and 0.98, gradients clipped to a norm of 1."""
    return optax.chain(
        optax.clip_by_global_norm(MAXIMAL_NORM), optax.adamw(learning_rate, b1=0.9, b2=0.98, weight_decay=0.01)
    )
