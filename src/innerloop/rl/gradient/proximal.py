"""Proximal policy optimisation (PPO): several passes over each batch of experience."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...envs.environment import AbstractEnvironment
from ..policy import AbstractPolicy
from .experience import (
    Batch,
    Learner,
    check_worlds,
    collect,
    make_batch,
    said,
    start_learner,
    summarise,
)
from .losses import normalise_advantages, proximal_loss
from .returns import Scalar


class ProximalPolicyOptimisation(eqx.Module):
    r"""A training step `(key, learner) -> (learner, info)` for `fit`: act, then several passes over what happened.

    For any world of one agent and any policy; worlds and truncation as in `AdvantageActorCritic`. Minibatches are
    single moments for policies that remember nothing, and whole trajectories of some of the worlds for those that
    do: a stored memory in the middle of a trajectory would be that of an older policy.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3))
    >>> step = il.ProximalPolicyOptimisation(il.DelayedCue(delay=0), optimiser, num_worlds=8, num_steps=6)
    >>> policy = il.PerceptronPolicy.random(4, 2, key=jax.random.key(0))
    >>> result = il.fit(step, step.init(jax.random.key(1), policy), steps=3)
    >>> result.history("train", "episode_return").shape
    (3,)

    ```

    **Reference:** Schulman et al. (2017), arXiv 1707.06347.

    **Errors:** `ValueError` for a world of several agents, or if a batch is not a whole number of minibatches.
    """

    environment: AbstractEnvironment
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    num_worlds: int = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_epochs: int = eqx.field(static=True, default=4)
    num_minibatches: int = eqx.field(static=True, default=4)
    discount: Scalar = 0.99
    trace_decay: Scalar = 0.95
    clip: Scalar = 0.2
    value_clip: Scalar | None = 0.2
    value_coefficient: Scalar = 0.5
    entropy_coefficient: Scalar = 0.0
    normalise: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_worlds(self.environment, self.num_worlds, self.num_steps)
        for name in ("num_epochs", "num_minibatches"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")

    def init(self, key: Key[Array, ""], policy: AbstractPolicy) -> Learner:
        """The state at the start of training `policy`."""
        learner = start_learner(self.environment, policy, self.optimiser, key, self.num_worlds)
        remembers = bool(jax.tree.leaves(learner.worlds.memories))
        size = self.num_worlds if remembers else self.num_worlds * self.num_steps
        require(
            size % self.num_minibatches == 0,
            f"{size} {'worlds' if remembers else 'moments'} do not make {self.num_minibatches} minibatches of one size",
        )
        return learner

    def __call__(self, key: Key[Array, ""], learner: Learner) -> tuple[Learner, dict[str, Float[Array, ""]]]:
        experience, worlds, episodes = collect(
            self.environment, learner.policy, learner.worlds, learner.episodes, named_key(key, "act"), self.num_steps
        )
        memory = learner.worlds.memories[0]
        batch = make_batch(experience, memory, discount=self.discount, trace_decay=self.trace_decay)
        if self.normalise:
            batch = batch._replace(advantage=normalise_advantages(batch.advantage))
        arrays, static = eqx.partition((learner.policy, learner.optimiser_state), eqx.is_array)

        def improve(arrays: PyTree, minibatch: Batch) -> tuple[PyTree, dict[str, Float[Array, ""]]]:
            policy, optimiser_state = eqx.combine(arrays, static)
            gradients, info = eqx.filter_grad(self._loss, has_aux=True)(policy, minibatch)
            trained = apply_gradients(policy, self.optimiser, optimiser_state, gradients)
            return eqx.filter(trained, eqx.is_array), {**info, "update_norm": optax.tree.norm(gradients)}

        def epoch(arrays: PyTree, key: Key[Array, ""]) -> tuple[PyTree, dict[str, Array]]:
            order = shuffled(key, batch.action.shape[0]).reshape(self.num_minibatches, -1)
            return jax.lax.scan(lambda arrays, rows: improve(arrays, _rows(batch, rows)), arrays, order)

        arrays, infos = jax.lax.scan(epoch, arrays, jax.random.split(named_key(key, "shuffle"), self.num_epochs))
        policy, optimiser_state = eqx.combine(arrays, static)
        info = {**jax.tree.map(jnp.mean, infos), **summarise(experience, episodes)}
        return Learner(policy, optimiser_state, worlds, episodes), info

    def _loss(self, policy: AbstractPolicy, batch: Batch) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        return proximal_loss(
            said(policy, batch),
            batch.action,
            batch.advantage,
            batch.target,
            batch.log_probability,
            batch.value,
            clip=self.clip,
            value_clip=self.value_clip,
            value_coefficient=self.value_coefficient,
            entropy_coefficient=self.entropy_coefficient,
        )


def shuffled(key: Key[Array, ""], size: int) -> Int[Array, "size"]:
    """The numbers below `size` in a random order, for cutting into minibatches.

    Each number is the low bits of a random word, and the words are sorted: on a CPU ten times as fast as
    `jax.random.permutation`, which sorts pairs. Words with equal random bits keep their order, but they are
    neighbours: who is in one minibatch with whom is as random.
    """
    low = jnp.asarray((1 << (size - 1).bit_length()) - 1, jnp.uint32)
    words = (jax.random.bits(key, (size,), jnp.uint32) & ~low) | jnp.arange(size, dtype=jnp.uint32)
    return (jnp.sort(words) & low).astype(jnp.int32)


def _rows(batch: Batch, rows: Array) -> Batch:
    return jax.tree.map(lambda x: x[rows], batch)
