"""CleanUp-lite: apples grow only where somebody cleans, and whoever cleans does not eat."""

import functools
import itertools
import math
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from ...core.errors import UnknownNameError, require
from ..environment import AbstractEnvironment, TimeStep
from ..spaces import Box, Discrete
from .chance import draw, one_bit, two_words, unit
from .lights import Field, both, light, place, two_actions

RIGHT, LEFT, UP, DOWN, ZAP, NOTHING = range(6)
DISTANCES = ("chebyshev", "manhattan")


_Two: TypeAlias = tuple[Int[Array, ""], Int[Array, ""]]
_Flags: TypeAlias = tuple[Bool[Array, ""], Bool[Array, ""]]


class CleanUpState(NamedTuple):
    """Cells are counted row by row from the top left; bit r of a column is its cell in row r."""

    position: _Two  # of agent 0 and of agent 1
    frozen: _Two  # for how many steps more
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
            (first, second),
            (nothing, nothing),
            jnp.sum(jnp.where(jnp.arange(len(rivers)) == chosen, rivers, 0)),
            nothing,
            nothing,
        )
        no = jnp.asarray(False)
        nobody = (no, no)
        info = _info(nobody, nobody, nobody, state)
        return TimeStep(state, self._observe(state), jnp.zeros(2, jnp.float32), no, no, info)

    def step(self, key: Key[Array, ""], state: CleanUpState, action: Int[Array, "2"]) -> TimeStep:
        """Dirt falls, apples grow; then agents collect, clean, zap and move."""
        dirt_word, apple_word = two_words(key)
        all_rows = (1 << self.height) - 1
        new_dirt, first_chance = one_bit(all_rows & ~state.dirt, self.height, self.dirt_probability, unit(dirt_word))
        dirt = state.dirt | new_dirt
        pollution = jax.lax.population_count(dirt).astype(jnp.float32)
        growth = 1.0 - jnp.minimum(1.0, pollution / self.dirt_limit)
        new_apple, second_chance = one_bit(all_rows & ~state.apple, self.height, growth, unit(apple_word))
        apple = state.apple | new_apple

        free = both(lambda i: state.frozen[i] == 0)
        row = both(lambda i: jax.lax.div(state.position[i], self.width))
        column = both(lambda i: state.position[i] - self.width * row[i])
        here = both(lambda i: jnp.where(free[i], 1 << row[i], 0))
        on_apple = both(lambda i: jnp.where(column[i] == 0, here[i] & apple, 0))
        on_dirt = both(lambda i: jnp.where(column[i] == self.width - 1, here[i] & dirt, 0))
        apple = apple & ~(on_apple[0] | on_apple[1])
        dirt = dirt & ~(on_dirt[0] | on_dirt[1])

        actions = two_actions(action)
        may_hit = free[0] & free[1] & (self._between(row, column) <= self.zap_range)
        chances = (first_chance, second_chance)
        zapped = both(lambda i: (actions[i] == ZAP) & may_hit & (chances[i] < self.hit_probability))
        hit = zapped[::-1]
        moved = both(lambda i: self._move(row[i], column[i], actions[i]))
        position = both(lambda i: jnp.where(free[i] & ~hit[i], moved[i], state.position[i]))
        frozen = both(lambda i: jnp.where(hit[i], self.frozen_steps, jnp.maximum(state.frozen[i] - 1, 0)))

        time = state.time + 1
        after = CleanUpState(position, frozen, dirt, apple, time)
        info = _info(both(lambda i: on_apple[i] != 0), both(lambda i: on_dirt[i] != 0), zapped, after)
        return TimeStep(
            after,
            self._observe(after),
            self.apple_reward * info["collected"].astype(jnp.float32),
            time >= self.num_steps,
            jnp.asarray(False),
            info,
        )

    def _between(self, row: _Two, column: _Two) -> Int[Array, ""]:
        down, right = jnp.abs(row[0] - row[1]), jnp.abs(column[0] - column[1])
        return jnp.maximum(down, right) if self.distance == "chebyshev" else down + right

    def _move(self, row: Int[Array, ""], column: Int[Array, ""], action: Int[Array, ""]) -> Int[Array, ""]:
        right = (action == RIGHT).astype(jnp.int32) - (action == LEFT).astype(jnp.int32)
        down = (action == DOWN).astype(jnp.int32) - (action == UP).astype(jnp.int32)
        row = jnp.clip(row + down, 0, self.height - 1)
        return row * self.width + jnp.clip(column + right, 0, self.width - 1)

    def _observe(self, state: CleanUpState) -> Float[Array, "2 size"]:
        size, height = self.height * self.width, self.height
        all_rows = (1 << height) - 1
        frozen = [(steps > 0).astype(jnp.int32) for steps in state.frozen]
        fields = [
            *place(state.position[0], size),
            *place(state.position[1], size),
            Field(state.apple, height),
            Field(all_rows & ~state.apple, height),
            Field(state.dirt, height),
            Field(all_rows & ~state.dirt, height),
            Field(1 + 2 * frozen[0] + 4 * frozen[1], 3),
        ]
        return light(fields, _wires(height, self.width))


def _info(collected: _Flags, cleaned: _Flags, zapped: _Flags, state: CleanUpState) -> dict[str, Array]:
    each = {"collected": collected, "cleaned": cleaned, "zapped": zapped}
    columns = {"dirt": state.dirt, "apples": state.apple}
    counts = {name: jax.lax.population_count(bits) for name, bits in columns.items()}
    return {name: jnp.stack(values).astype(jnp.int32) for name, values in each.items()} | counts


def _rivers(height: int, dirt: int) -> list[int]:
    """All ways in which the dirt can lie at the start."""
    return [sum(1 << row for row in rows) for rows in itertools.combinations(range(height), dirt)]


@functools.cache
def _wires(height: int, width: int) -> Int[np.ndarray, "2 entries"]:
    """Which bit lights each entry: places, apples and their absence, dirt and its absence, always, frozen."""
    size = height * width
    cells = np.arange(size).reshape(height, width)
    apple, no_apple, dirt, no_dirt = 2 * size + np.arange(4 * height).reshape(4, height)
    always = 2 * size + 4 * height
    grids = np.full((3, height, width), -1)  # nothing lights an apple in the river
    grids[0, :, 0], grids[1, :, -1] = apple, dirt
    grids[2] = always
    grids[2, :, 0], grids[2, :, -1] = no_apple, no_dirt
    first, second = cells.ravel(), size + cells.ravel()
    own = [first, second, grids.ravel(), [always + 1, always + 2]]
    other = [second, first, grids.ravel(), [always + 2, always + 1]]
    return np.stack([np.concatenate(own), np.concatenate(other)]).astype(np.int32)
