"""How a gradient is balanced between the current inner episode and later ones, for each estimator and batch size."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from ....core.rng import named_key
from ....envs.matrix_games import PRISONERS_DILEMMA, IteratedMatrixGame
from ....lab.cells import Cells
from ....rl.gradient.losses import normalise_advantages
from ....rl.gradient.shaping import ShapingEstimator
from ....rl.learning_aware import LearningAwareUpdate, Lesson, MetaEpisode, MetaTrajectory, NaiveReinforce
from ....rl.policy import TabularPolicy
from ..configuration import Config
from .shaping import ESTIMATORS, beginnings

NAMES = ("coala", "m-fos", "unaware")


def measure_balance(config: Config, cells: Cells) -> None:
    """Lengths of both parts of the expected gradient at a random tabular policy. Claim 6."""
    settings = config.sampled.balance
    found = []
    for batch_size in settings.batch_sizes:
        one = partial(_lengths, config, batch_size)
        found.append(np.asarray(jax.jit(lambda keys, one=one: jax.lax.map(one, keys))(cells.keys("balance"))))
    lengths = np.stack(found, axis=2)  # [seeds, estimators, batch sizes, current and future]
    ratios = lengths[..., 1] / lengths[..., 0]
    x = np.log(settings.batch_sizes)
    numbers = {}
    for i, name in enumerate(NAMES):
        numbers[f"{name}/slope"] = np.asarray([np.polyfit(x, np.log(row), 1)[0] for row in ratios[:, i]])
        numbers[f"{name}/spread"] = ratios[:, i].max(axis=1) / ratios[:, i].min(axis=1)
    cells.record(numbers)
    cells.save(lengths=lengths)


def _lengths(config: Config, batch_size: int, key: Key[Array, ""]) -> Float[Array, "e 2"]:
    game, settings = config.sampled.game, config.sampled.balance
    episode = MetaEpisode(
        IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=game.steps),
        NaiveReinforce(learning_rate=settings.naive_rate / 2, normalise=False),
        batch_size=batch_size,
        num_episodes=game.episodes,
    )
    # The same agent and the same beginning of the learner at every batch size.
    agent, naive = (jax.tree.map(lambda x: x[0], beginnings(game, named_key(key, who), 1)) for who in ("ego", "naive"))
    count = settings.copies // (batch_size * settings.parts)

    def part(key: Key[Array, ""]) -> Float[Array, "e 2 s"]:
        keys = jax.random.split(key, count)
        played = jax.vmap(lambda one: episode.against_learner(one, agent, naive)[0])(keys)
        return jnp.stack([_parts(agent, played, game.steps, ESTIMATORS[name]) for name in NAMES])

    number = settings.parts * max(1, batch_size // 8)
    gradients = jax.lax.map(part, jax.random.split(named_key(key, "play", batch_size), number))
    # The squared length of the mean, less what the noise of the parts adds to it; none where noise is all there is.
    squares = (jnp.sum(gradients, 0) ** 2 - jnp.sum(gradients**2, 0)) / (number * (number - 1))
    return jnp.sqrt(jnp.sum(squares, -1))


def _parts(
    agent: TabularPolicy, played: MetaTrajectory, inner_length: int, estimator: ShapingEstimator
) -> Float[Array, "2 s"]:
    """The gradient from the rewards of the current episode and that from all later ones, on logits of cooperation."""
    update = LearningAwareUpdate(
        optax.identity(), inner_length, estimator, centre=False, value_coefficient=0.0, num_epochs=1, num_minibatches=1
    )
    learns = jnp.ones(played.value.shape[0], bool)
    lesson = update.prepare(played, learns)
    # Episode by episode nothing comes later.
    alone = jax.vmap(lambda one: update.prepare(one, learns).advantage, in_axes=2, out_axes=2)
    split = jax.tree.map(lambda x: x.reshape(*x.shape[:2], -1, inner_length, *x.shape[3:]), played)
    current = alone(split).reshape(lesson.advantage.shape)
    centre = jax.vmap(lambda step: normalise_advantages(step, scale=False), in_axes=2, out_axes=2)

    def gradient(advantage: Float[Array, "n b l"]) -> Float[Array, "s"]:
        part = Lesson(played, centre(advantage), lesson.target)
        gradients: Any = update.gradients(agent, part)[0]
        return gradients.logits[:, 0]

    return jnp.stack([gradient(current), gradient(lesson.advantage - current)])
