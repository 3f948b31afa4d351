"""Shaping by evolution: the return of whole meta-episodes as the fitness of a policy, without any gradient of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree

from ...core.errors import require
from ...core.optimise import apply_gradients
from ...core.rng import named_key
from ...core.tree import pick, trainable
from ..gradient.returns import Scalar
from ..policy import AbstractPolicy
from .meta_episode import MetaEpisode
from .pool import count_stacked

Info = dict[str, Float[Array, ""]]


class Evolving(eqx.Module):
    """What evolution carries: the mean of the search distribution, its optimiser, and where learners begin."""

    policy: AbstractPolicy
    optimiser_state: PyTree
    naive: AbstractPolicy  # [j ...]


class EvolutionStrategy(eqx.Module):
    r"""A training step `(key, evolving) -> (evolving, info)` for `fit`: one generation against naive learners.

    Candidates $\phi \pm \sigma\epsilon_i$ play the same co-players; their mean rewards over the meta-episode are
    replaced by their ranks $u \in [-\frac12, \frac12]$, and Optax follows

    $$\frac{1}{2k\sigma} \sum_{i=1}^{k} (u_i^+ - u_i^-)\,\epsilon_i.$$

    With a policy that remembers the whole meta-episode this is the shaper of Khan et al.; nothing is assumed about
    how actions move the co-player.

    ```python
    >>> import jax, optax
    >>> import innerloop as il
    >>> game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=5)
    >>> episode = il.MetaEpisode(game, il.NaiveReinforce(), batch_size=4, num_episodes=3)
    >>> step = il.EvolutionStrategy(episode, optax.adam(0.05), num_pairs=4, num_opponents=2)
    >>> agent = il.TabularPolicy.uniform(5, 2)
    >>> result = il.fit(step, step.init(agent, il.stack_policies([agent])), steps=2)
    >>> result.history("train", "reward_against_learners").shape
    (2,)

    ```

    **Arguments:**

    - `episode`: the game and how naive learners learn.
    - `optimiser`: of the mean.
    - `num_pairs`: half the number of candidates.
    - `num_opponents`: how many co-players each candidate meets.
    - `deviation`: $\sigma$.

    **Reference:** Khan et al. (2024), arXiv 2312.12568 (the shaper); Salimans et al. (2017), arXiv 1703.03864 (mirrored
    candidates and ranks).
    """

    episode: MetaEpisode
    optimiser: optax.GradientTransformation = eqx.field(static=True)
    num_pairs: int = eqx.field(static=True)
    num_opponents: int = eqx.field(static=True)
    deviation: Scalar = 0.1

    def __check_init__(self):
        for name in ("num_pairs", "num_opponents"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")

    def init(self, policy: AbstractPolicy, naive: AbstractPolicy) -> Evolving:
        """The state before the first generation; `naive` are stacked policies with which learners begin."""
        return Evolving(policy, self.optimiser.init(trainable(policy)), naive)

    def __call__(self, key: Key[Array, ""], evolving: Evolving) -> tuple[Evolving, Info]:
        mean, rest = eqx.partition(evolving.policy, eqx.is_inexact_array)
        noise = _normal_like(named_key(key, "noise"), mean, self.num_pairs)
        mirrored = jax.tree.map(lambda x: jnp.concatenate([x, -x]), noise)
        candidates = jax.tree.map(lambda x, e: x[None] + self.deviation * e, mean, mirrored)
        drawn = jax.random.randint(named_key(key, "learners"), (self.num_opponents,), 0, count_stacked(evolving.naive))
        learners = pick(evolving.naive, drawn)
        keys = jax.random.split(named_key(key, "play"), self.num_opponents)

        def rewards(candidate: PyTree) -> tuple[Float[Array, ""], Float[Array, ""]]:
            ego = eqx.combine(candidate, rest)
            played = eqx.filter_vmap(lambda key, naive: self.episode.against_learner(key, ego, naive)[0])(
                keys, learners
            )
            return jnp.mean(played.ego.reward), jnp.mean(played.other.reward)

        own, others = jax.vmap(rewards)(candidates)
        ranks = centred_ranks(own)
        difference = ranks[: self.num_pairs] - ranks[self.num_pairs :]
        scale = 1 / (2 * self.num_pairs * self.deviation)
        gradients = jax.tree.map(lambda e: -scale * jnp.tensordot(difference, e, axes=1), noise)
        policy, state = apply_gradients(evolving.policy, self.optimiser, evolving.optimiser_state, gradients)
        info = dict(
            reward_against_learners=jnp.mean(own),
            reward_of_learners=jnp.mean(others),
            best_reward=jnp.max(own),
            update_norm=optax.tree.norm(gradients),
        )
        return Evolving(policy, state, evolving.naive), info


def centred_ranks(values: Float[Array, "k"]) -> Float[Array, "k"]:
    r"""Ranks spread evenly from $-\frac12$ (the worst) to $\frac12$ (the best).

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.rl import centred_ranks
    >>> centred_ranks(jnp.asarray([3.0, -7.0, 100.0])).tolist()
    [0.0, -0.5, 0.5]

    ```
    """
    ranks = jnp.argsort(jnp.argsort(values)).astype(values.dtype)
    return ranks / max(values.shape[0] - 1, 1) - 0.5


def _normal_like(key: Key[Array, ""], tree: PyTree, count: int) -> PyTree:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(one, (count, *leaf.shape), leaf.dtype) for one, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)
