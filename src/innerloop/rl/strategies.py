"""Fixed memory-one strategies of iterated games with two actions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from ..core.errors import require
from ..envs.agent import AbstractAgent
from ..envs.matrix_games import PRISONERS_DILEMMA
from .exact.returns import Payoffs
from .exact.zero_determinant import zero_determinant

OBSERVATIONS = ("start", "CC", "CD", "DC", "DD")


class MemoryOne(AbstractAgent):
    """An agent who knows the last joint action and cooperates with a fixed probability after each.

    It learns nothing and remembers nothing. The named strategies of the literature are its constructors.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=4)
    >>> agents = (il.MemoryOne.tit_for_tat(), il.MemoryOne.always_defect())
    >>> trajectory, _ = il.rollout(game, agents, jax.random.key(0), 4)
    >>> trajectory.action[:, 0].tolist()
    [0, 1, 1, 1]

    ```

    **Arguments:** `cooperation`: the probabilities of action 0 at the start and after CC, CD, DC and DD, the own
    action first; these are the observations of `IteratedMatrixGame`.

    **Errors:** `ValueError` for another number of probabilities, and for numbers that are none.
    """

    cooperation: Float[Array, "5"]

    def __init__(self, cooperation: Float[Array, "5"] | np.ndarray | list[float] | tuple[float, ...]):
        """**Arguments:** `cooperation`: the five probabilities."""
        given = jnp.asarray(cooperation)
        table = given if jnp.issubdtype(given.dtype, jnp.inexact) else given.astype(jnp.float32)
        require(
            table.shape == (5,),
            f"a memory-one strategy has five probabilities ({', '.join(OBSERVATIONS)}), not an array of {table.shape}",
        )
        if not isinstance(table, Tracer):
            values = np.asarray(table)
            require(bool(np.all((values >= 0) & (values <= 1))), f"probabilities lie in [0, 1], not {values.tolist()}")
        self.cooperation = table

    @classmethod
    def always_cooperate(cls) -> "MemoryOne":
        """Cooperation whatever happens."""
        return cls([1.0, 1.0, 1.0, 1.0, 1.0])

    @classmethod
    def always_defect(cls) -> "MemoryOne":
        """Defection whatever happens."""
        return cls([0.0, 0.0, 0.0, 0.0, 0.0])

    @classmethod
    def tit_for_tat(cls) -> "MemoryOne":
        """Cooperation first, then what the co-player did last."""
        return cls([1.0, 1.0, 0.0, 1.0, 0.0])

    @classmethod
    def win_stay_lose_shift(cls) -> "MemoryOne":
        """Cooperation first; then the own last action again if the co-player cooperated, the other one if not."""
        return cls([1.0, 1.0, 0.0, 0.0, 1.0])

    @classmethod
    def grim(cls) -> "MemoryOne":
        """Cooperation until somebody defects, then defection for ever.

        One step of memory is enough for that exactly: who has cooperated himself has seen no defection before.
        """
        return cls([1.0, 1.0, 0.0, 0.0, 0.0])

    @classmethod
    def zero_determinant(
        cls, chi: float, phi: float, payoffs: Payoffs = PRISONERS_DILEMMA, *, start: float = 0.0
    ) -> "MemoryOne":
        """An extortionate strategy; see the function `zero_determinant`."""
        return cls(zero_determinant(chi, phi, payoffs, start=start))

    @classmethod
    def random(cls, key: Key[Array, ""]) -> "MemoryOne":
        """Probabilities drawn uniformly."""
        return cls(jax.random.uniform(key, (5,)))

    @classmethod
    def from_logits(cls, logits: Float[Array, "5"]) -> "MemoryOne":
        """The strategy of a policy that is given by its logits of cooperation."""
        return cls(jax.nn.sigmoid(logits))

    def logits(self, *, least: float = 1e-4) -> Float[Array, "5"]:
        """Logits of cooperation for `discounted_returns`, of probabilities clipped to `[least, 1 - least]`."""
        require(0 < least < 0.5, f"least lies between 0 and 0.5, not at {least:g}")
        return jax.scipy.special.logit(jnp.clip(self.cooperation, least, 1 - least))

    def init_memory(self) -> None:
        """There is nothing to remember."""
        return None

    def act(self, key: Key[Array, ""], memory: None, observation: Int[Array, ""]) -> tuple[None, Int[Array, ""]]:
        """Cooperate (action 0) with the probability of this observation."""
        cooperates = jax.random.bernoulli(key, self.cooperation[observation])
        return None, jnp.where(cooperates, 0, 1).astype(jnp.int32)
