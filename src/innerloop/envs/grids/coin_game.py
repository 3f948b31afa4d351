"""The coin game: two players, coins of two colours, and the temptation to take the other's."""

import functools
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, UInt32

from ...core.errors import require
from ..environment import AbstractEnvironment, TimeStep
from ..spaces import Box, Discrete
from .chance import draw, two_words
from .lights import both, light, place, two_actions

_ABSENT = -1  # where a coin is that does not lie anywhere


_Two: TypeAlias = tuple[Int[Array, ""], Int[Array, ""]]


class CoinGameState(NamedTuple):
    """Cells are counted row by row; a coin that does not lie anywhere is at -1."""

    position: _Two  # of player 0 and of player 1
    coin: _Two  # of player 0's colour and of player 1's
    time: Int[Array, ""]


class CoinGame(AbstractEnvironment):
    """Whoever moves onto a coin takes it and earns 1; if it has the other's colour, the other loses 2.

    Both move at once on a grid without borders (what leaves on the right comes back on the left); they may pass each
    other and share a cell. Actions are right, left, down, up and, with `may_stay`, stay. If both reach a coin at once,
    both have taken it: of its owner's point 2 are lost.

    - `num_coins=1` is the game of the papers: one coin lies there; when it is taken, one of the other colour appears.
        The first colour is random.
    - `num_coins=2` is the variant of the JAX libraries: a coin of each colour, each replaced when it is taken.

    A coin appears on a cell that is uniform among those where no player stands (two coins may share one). At the
    start the players stand on different cells. After `num_steps` steps the episode terminates.

    Each player sees four planes, flattened (`observation.reshape(4, height, width)`): itself, the other, the coin of
    its own colour, the coin of the other's; so the two see the same game from their own sides. `info` counts
    `own_coins` and `other_coins` taken by each.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.envs import CoinGame
    >>> game = CoinGame(num_steps=16)
    >>> start = game.reset(jax.random.key(0))
    >>> after = game.step(jax.random.key(1), start.state, jnp.asarray([0, 3]))
    >>> after.observation.shape, after.reward.shape
    ((2, 36), (2,))

    ```

    **Reference:** Lerer and Peysakhovich 2017, arXiv 1707.01068; Foerster et al. 2018, arXiv 1709.04326, whose
    published code alternates the colours and keeps new coins away from the players. JaxMARL 0.2.0 (Rutherford et al.
    2023, arXiv 2311.10090) differs from `num_coins=2, may_stay=True` in three things: all places, also of new coins,
    are uniform over *all* cells; the last step of an episode earns nothing; and episodes follow each other inside
    `step`.

    **Errors:** `ValueError` for a grid without a free cell for a coin, or other numbers of coins.
    """

    coin_reward: Float[Array, ""]
    stolen_reward: Float[Array, ""]
    num_steps: int = eqx.field(static=True)
    height: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    num_coins: int = eqx.field(static=True)
    may_stay: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        num_steps: int,
        height: int = 3,
        width: int = 3,
        num_coins: int = 1,
        may_stay: bool = False,
        coin_reward: ArrayLike = 1.0,
        stolen_reward: ArrayLike = -2.0,
    ):
        """**Arguments:**

        - `num_steps`: how long an episode is.
        - `height`, `width`: of the grid.
        - `num_coins`: how many lie there, 1 or 2.
        - `may_stay`: whether there is a fifth action, which does not move.
        - `coin_reward`: for taking a coin.
        - `stolen_reward`: for the player whose coin the other takes.
        """
        require(num_steps >= 1, f"num_steps must be at least 1, not {num_steps}")
        require(
            height >= 1 and width >= 1 and 3 <= height * width <= 256,
            f"a coin game has 3 to 256 cells, not {height} x {width}",
        )
        require(num_coins in (1, 2), f"num_coins is 1 or 2, not {num_coins}")
        self.coin_reward = jnp.asarray(coin_reward, jnp.float32)
        self.stolen_reward = jnp.asarray(stolen_reward, jnp.float32)
        self.num_steps = num_steps
        self.height, self.width = height, width
        self.num_coins = num_coins
        self.may_stay = may_stay

    @property
    def num_agents(self) -> int:
        """Two."""
        return 2

    @property
    def observation_space(self) -> Box:
        """Four planes of zeros and ones: self, other, own coin, other's coin."""
        return Box(0.0, 1.0, (4 * self.height * self.width,))

    @property
    def action_space(self) -> Discrete:
        """Right, left, down, up and perhaps stay."""
        return Discrete(5 if self.may_stay else 4)

    def reset(self, key: Key[Array, ""]) -> TimeStep:
        """Players on different cells, coins on free ones."""
        word, other_word = two_words(key)
        first, word = draw(word, self.height * self.width)
        second, word = draw(word, self.height * self.width - 1)
        position = (first, second + (second >= first).astype(jnp.int32))
        coin = self._free_cells(other_word, position)
        if self.num_coins == 1:
            colour, _ = draw(word, 2)
            coin = (jnp.where(colour == 0, coin[0], _ABSENT), jnp.where(colour == 1, coin[1], _ABSENT))
        no = jnp.asarray(False)
        state = CoinGameState(position, coin, jnp.asarray(0, jnp.int32))
        info = _info(((no, no), (no, no)))
        return TimeStep(state, self._observe(state), jnp.zeros(2, jnp.float32), no, no, info)

    def step(self, key: Key[Array, ""], state: CoinGameState, action: Int[Array, "2"]) -> TimeStep:
        """Both move; who stands on a coin takes it; new coins appear."""
        moves = two_actions(action)
        position = both(lambda i: self._move(state.position[i], moves[i]))
        taken = both(lambda i: both(lambda colour: position[i] == state.coin[colour]))  # [player][colour]
        gone = both(lambda colour: taken[0][colour] | taken[1][colour])
        new, old = self._free_cells(two_words(key)[0], position), state.coin
        if self.num_coins == 1:
            other_colour = both(lambda colour: jnp.where(old[colour] == _ABSENT, new[colour], _ABSENT))
            coin = both(lambda colour: jnp.where(gone[0] | gone[1], other_colour[colour], old[colour]))
        else:
            coin = both(lambda colour: jnp.where(gone[colour], new[colour], old[colour]))
        time = state.time + 1
        after = CoinGameState(position, coin, time)
        return TimeStep(
            after,
            self._observe(after),
            jnp.stack(both(lambda i: self._reward(*taken[i], taken[1 - i][i]))),
            time >= self.num_steps,
            jnp.asarray(False),
            _info(taken),
        )

    def _reward(self, red: Bool[Array, ""], blue: Bool[Array, ""], stolen: Bool[Array, ""]) -> Float[Array, ""]:
        count = red.astype(jnp.int32) + blue.astype(jnp.int32)
        return self.coin_reward * count.astype(jnp.float32) + self.stolen_reward * stolen.astype(jnp.float32)

    def _move(self, position: Int[Array, ""], action: Int[Array, ""]) -> Int[Array, ""]:
        right = (action == 0).astype(jnp.int32) - (action == 1).astype(jnp.int32)
        down = (action == 2).astype(jnp.int32) - (action == 3).astype(jnp.int32)
        row = jax.lax.div(position, self.width)
        column = position - self.width * row
        row, column = row + down, column + right
        row = jnp.where(row < 0, self.height - 1, jnp.where(row == self.height, 0, row))
        column = jnp.where(column < 0, self.width - 1, jnp.where(column == self.width, 0, column))
        return row * self.width + column

    def _free_cells(self, word: UInt32[Array, ""], position: _Two) -> _Two:
        """Two cells uniform among those without a player: the n-th free one, found by stepping over the players."""
        low, high = jnp.minimum(*position), jnp.maximum(*position)
        apart = (low != high).astype(jnp.int32)
        free = self.height * self.width - 1 - apart
        first, word = draw(word, free)
        second, _ = draw(word, free)

        def step_over(cell: Int[Array, ""]) -> Int[Array, ""]:
            cell = cell + (cell >= low).astype(jnp.int32)
            return cell + apart * (cell >= high).astype(jnp.int32)

        return step_over(first), step_over(second)

    def _observe(self, state: CoinGameState) -> Float[Array, "2 size"]:
        size = self.height * self.width
        things = (*state.position, *state.coin)
        return light([field for thing in things for field in place(thing, size)], _wires(size))


@functools.cache
def _wires(size: int) -> Int[np.ndarray, "2 entries"]:
    """Which bit lights each entry: the places of both players and both coins follow each other."""
    things = np.arange(4 * size, dtype=np.int32).reshape(4, size)
    return np.stack([things[[0, 1, 2, 3]].ravel(), things[[1, 0, 3, 2]].ravel()])


def _info(taken: tuple[tuple[Array, Array], tuple[Array, Array]]) -> dict[str, Array]:
    (red, blue_of_other), (red_of_other, blue) = taken
    return {
        "own_coins": jnp.stack([red, blue]).astype(jnp.int32),
        "other_coins": jnp.stack([blue_of_other, red_of_other]).astype(jnp.int32),
    }
