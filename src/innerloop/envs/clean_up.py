"""CleanUp-lite: apples grow only where somebody cleans, and whoever cleans does not eat."""

import functools
import itertools
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from ..core.errors import UnknownNameError, require
from .chance import draw, one_bit, two_words, unit
from .environment import AbstractEnvironment, TimeStep
from .spaces import Box, Discrete

RIGHT, LEFT, UP, DOWN, ZAP, NOTHING = range(6)
DISTANCES = ("chebyshev", "manhattan")


class CleanUpState(NamedTuple):
    """Cells are counted row by row from the top left; bit r of a column is its cell in row r."""

    position: Int[Array, "2"]
    frozen: Int[Array, "2"]  # for how many steps more
    dirt: Int[Array, ""]  # bits: in the river, the rightmost column
    apple: Int[Array, ""]  # bits: in the orchard, the leftmost column
    time: Int[Array, ""]


class CleanUp(AbstractEnvironment):
    r"""A river that gets dirty, an orchard that bears the less the dirtier it is, and two who can zap each other.

    In each step, in this order:

    1. If a river cell is clean, with probability 0.35 dirt falls on one of the clean cells.
    2. If an orchard cell is empty, with probability $1 - \min(1, P/3)$ an apple grows on one of the empty cells;
        $P$ is the number of dirty cells.
    3. An agent on an apple collects it and earns 1.
    4. An agent on dirt cleans it.
    5. An agent that zaps the other, at most two cells away, hits with probability 0.9: the other is frozen for the
        next five steps. Who is frozen cannot be hit.
    6. Agents move. Walls block; cells can be shared.

    Frozen agents do nothing of 3 to 6, and who is hit in 5 does not move in 6 any more. Both act at once: two on one
    apple both earn it, two on one patch both clean it, and two who zap can freeze each other. An episode starts at
    random places with three dirty cells and no apple, so that nothing grows until somebody cleans, and terminates
    after `num_steps` steps.

    An agent sees a vector: its own place one-hot over the grid, the other's, then apple, dirt and empty, each over the
    grid, and whether it and the other are frozen. Both see the same world from their own sides. `info` has what each
    `collected`, `cleaned` and `zapped` (hits), and how much `dirt` and how many `apples` there are after the step.

    The paper leaves open which of "5 x 4" is the height, the distance and who gets what when agents share a cell;
    what is above is a choice, and the first two are options.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.envs import CleanUp
    >>> world = CleanUp()
    >>> start = world.reset(jax.random.key(0))
    >>> start.observation.shape, int(start.info["dirt"]), int(start.info["apples"])
    ((2, 102), 3, 0)

    ```

    **Reference:** Meulemans et al. 2024, *Multi-agent cooperation through learning-aware policy gradients*,
    arXiv 2410.18636, appendix B.1.2; after the CleanUp game of Hughes et al. 2018, arXiv 1803.08884.

    **Errors:** `ValueError` for grids, dirt and ranges that cannot be; `UnknownNameError` for an unknown distance.
    """

    dirt_probability: Float[Array, ""]
    dirt_limit: Float[Array, ""]
    hit_probability: Float[Array, ""]
    apple_reward: Float[Array, ""]
    num_steps: int = eqx.field(static=True)
    height: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    initial_dirt: int = eqx.field(static=True)
    frozen_steps: int = eqx.field(static=True)
    zap_range: int = eqx.field(static=True)
    distance: str = eqx.field(static=True)

    def __init__(
        self,
        *,
        num_steps: int = 64,
        height: int = 5,
        width: int = 4,
        dirt_probability: ArrayLike = 0.35,
        dirt_limit: ArrayLike = 3.0,
        hit_probability: ArrayLike = 0.9,
        apple_reward: ArrayLike = 1.0,
        initial_dirt: int = 3,
        frozen_steps: int = 5,
        zap_range: int = 2,
        distance: str = "chebyshev",
    ):
        """**Arguments:**

        - `num_steps`: how long an episode is.
        - `height`, `width`: of the grid; the leftmost column is the orchard, the rightmost one the river.
        - `dirt_probability`: with which dirt falls in a step.
        - `dirt_limit`: with how many dirty cells nothing grows any more.
        - `hit_probability`: with which a zap within range hits.
        - `apple_reward`: for an apple.
        - `initial_dirt`: how many river cells are dirty at the start.
        - `frozen_steps`: for how many steps a hit freezes.
        - `zap_range`: how far a zap reaches.
        - `distance`: `"chebyshev"`, the larger of the two coordinates' differences, or `"manhattan"`, their sum.
        """
        require(num_steps >= 1, f"num_steps must be at least 1, not {num_steps}")
        require(
            1 <= height <= 30 and width >= 2 and height * width <= 256,
            f"CleanUp has 1 to 30 rows, at least two columns (orchard and river) and at most 256 cells: "
            f"not {height} x {width}",
        )
        require(0 <= initial_dirt <= height, f"a river of {height} cells cannot have {initial_dirt} dirty ones")
        require(
            math.comb(height, initial_dirt) <= 2**16,
            f"{initial_dirt} dirty cells of {height} can lie in {math.comb(height, initial_dirt)} ways: at most 65536",
        )
        require(frozen_steps >= 0 and zap_range >= 0, "frozen_steps and zap_range cannot be negative")
        if distance not in DISTANCES:
            raise UnknownNameError("distance", distance, DISTANCES)
        self.dirt_probability = jnp.asarray(dirt_probability, jnp.float32)
        self.dirt_limit = jnp.asarray(dirt_limit, jnp.float32)
        self.hit_probability = jnp.asarray(hit_probability, jnp.float32)
        self.apple_reward = jnp.asarray(apple_reward, jnp.float32)
        self.num_steps, self.height, self.width = num_steps, height, width
        self.initial_dirt, self.frozen_steps = initial_dirt, frozen_steps
        self.zap_range, self.distance = zap_range, distance

    @property
    def num_agents(self) -> int:
        """Two."""
        return 2

    @property
    def observation_space(self) -> Box:
        """Places and contents of the cells one-hot, and two flags."""
        return Box(0.0, 1.0, (5 * self.height * self.width + 2,))

    @property
    def action_space(self) -> Discrete:
        """Right, left, up, down, zap, nothing."""
        return Discrete(6)

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """Agents anywhere, some dirt, no apples."""
        word, other_word = two_words(key)
        first, word = draw(word, self.height * self.width)
        second, _ = draw(word, self.height * self.width)
        rivers = jnp.asarray(_rivers(self.height, self.initial_dirt), jnp.int32)
        chosen = draw(other_word, len(rivers))[0]
        nothing = jnp.asarray(0, jnp.int32)
        state = CleanUpState(
            jnp.stack([first, second]),
            jnp.zeros(2, jnp.int32),
            jnp.sum(jnp.where(jnp.arange(len(rivers)) == chosen, rivers, 0)),
            nothing,
            nothing,
        )
        no, nobody = jnp.asarray(False), jnp.zeros(2, bool)
        info = _info(nobody, nobody, nobody, state)
        return TimeStep(state, self._observe(state), jnp.zeros(2, jnp.float32), no, no, info)

    def step(self, key: Key[Array, ""], state: CleanUpState, action: Int[Array, "2"]) -> TimeStep:
        """Dirt falls, apples grow; then agents collect, clean, zap and move."""
        chance = unit(two_words(key))
        free = state.frozen == 0
        row, column = state.position // self.width, state.position % self.width

        all_rows = (1 << self.height) - 1
        clean = all_rows & ~state.dirt
        new_dirt, first_chance = one_bit(clean, self.height, self.dirt_probability, chance[0])
        dirt = state.dirt | new_dirt
        pollution = jax.lax.population_count(dirt).astype(jnp.float32)
        growth = 1.0 - jnp.minimum(1.0, pollution / self.dirt_limit)
        new_apple, second_chance = one_bit(all_rows & ~state.apple, self.height, growth, chance[1])
        apple = state.apple | new_apple

        cell = 1 << row
        collected = free & (column == 0) & ((apple & cell) != 0)
        cleaned = free & (column == self.width - 1) & ((dirt & cell) != 0)
        apple = apple & ~_either(jnp.where(collected, cell, 0))
        dirt = dirt & ~_either(jnp.where(cleaned, cell, 0))

        in_range = self._between(row, column) <= self.zap_range
        lucky = jnp.stack([first_chance, second_chance]) < self.hit_probability
        zapped = (action == ZAP) & free & free[::-1] & in_range & lucky
        hit = zapped[::-1]
        frozen = jnp.where(hit, self.frozen_steps, jnp.maximum(state.frozen - 1, 0))

        position = jnp.where(free & ~hit, self._move(row, column, action), state.position)
        time = state.time + 1
        after = CleanUpState(position, frozen, dirt, apple, time)
        return TimeStep(
            after,
            self._observe(after),
            self.apple_reward * collected.astype(jnp.float32),
            time >= self.num_steps,
            jnp.asarray(False),
            _info(collected, cleaned, zapped, after),
        )

    def _between(self, row: Int[Array, "2"], column: Int[Array, "2"]) -> Int[Array, ""]:
        down, right = jnp.abs(row[0] - row[1]), jnp.abs(column[0] - column[1])
        return jnp.maximum(down, right) if self.distance == "chebyshev" else down + right

    def _move(self, row: Int[Array, "2"], column: Int[Array, "2"], action: Int[Array, "2"]) -> Int[Array, "2"]:
        right = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
        down = (action == DOWN).astype(jnp.int32) - (action == UP).astype(jnp.int32)
        row = jnp.clip(row + down, 0, self.height - 1)
        return row * self.width + jnp.clip(column + right, 0, self.width - 1)

    def _observe(self, state: CleanUpState) -> Float[Array, "2 size"]:
        own, other, apple, not_apple, dirt, not_dirt, rest = _view(self.height, self.width)
        frozen = (state.frozen > 0).astype(jnp.int32)
        flags = (1 + 2 * frozen + 4 * frozen[::-1])[:, None]
        columns = ((state.apple ^ not_apple) & apple) | ((state.dirt ^ not_dirt) & dirt)
        seen = (flags & rest[None, :]) | columns[None, :]
        places = (state.position[:, None] == own[None, :]) | (state.position[::-1][:, None] == other[None, :])
        return jnp.where(places | (seen != 0), jnp.float32(1.0), jnp.float32(0.0))


def _info(
    collected: Bool[Array, "2"], cleaned: Bool[Array, "2"], zapped: Bool[Array, "2"], state: CleanUpState
) -> dict[str, Array]:
    each = {"collected": collected, "cleaned": cleaned, "zapped": zapped}
    columns = {"dirt": state.dirt, "apples": state.apple}
    counts = {name: jax.lax.population_count(bits) for name, bits in columns.items()}
    return {name: value.astype(jnp.int32) for name, value in each.items()} | counts


def _either(cells: Int[Array, "2"]) -> Int[Array, ""]:
    return cells[0] | cells[1]


def _rivers(height: int, dirt: int) -> list[int]:
    """All ways in which the dirt can lie at the start."""
    return [sum(1 << row for row in rows) for rows in itertools.combinations(range(height), dirt)]


@functools.cache
def _view(height: int, width: int) -> tuple[np.ndarray, ...]:
    """What lights each entry of the observation, so that all entries are computed alike.

    The own and the other's place; bits of the orchard and of the river, with those bits to turn over before, for an
    empty cell; bits of what remains: 1 always, 2 the own frozen flag, 4 the other's.
    """
    cells = np.arange(height * width, dtype=np.int32).reshape(height, width)
    size = cells.size
    own, other = (np.full(5 * size + 2, -1, np.int32) for _ in range(2))
    apple, not_apple, dirt, not_dirt, rest = (np.zeros(5 * size + 2, np.int32) for _ in range(5))
    own[:size] = other[size : 2 * size] = cells.ravel()
    bits = 1 << np.arange(height, dtype=np.int32)
    empty = 4 * size + cells
    apple[2 * size + cells[:, 0]] = apple[empty[:, 0]] = not_apple[empty[:, 0]] = bits
    dirt[3 * size + cells[:, -1]] = dirt[empty[:, -1]] = not_dirt[empty[:, -1]] = bits
    rest[empty[:, 1:-1]] = 1
    rest[-2:] = 2, 4
    return own, other, apple, not_apple, dirt, not_dirt, rest
