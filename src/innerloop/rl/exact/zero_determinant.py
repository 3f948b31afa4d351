"""Zero-determinant strategies: memory-one policies that force a linear relation between both players' payoffs."""

from itertools import combinations
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core.errors import require
from ...envs.matrix_games import PRISONERS_DILEMMA
from .returns import Payoffs, action_probabilities

STAY = np.asarray([1.0, 1.0, 0.0, 0.0])  # the probabilities of cooperation of who repeats the own last action


def zero_determinant(
    chi: float, phi: float, payoffs: Payoffs = PRISONERS_DILEMMA, *, start: float = 0.0
) -> Float[Array, "5"]:
    r"""An extortionate strategy: probabilities of cooperation after the start, CC, CD, DC and DD.

    $$p - (1, 1, 0, 0) = \phi \left[ (r_X - P_X) - \chi (r_Y - P_Y) \right]$$

    with $P$ the payoffs of mutual defection. Whatever the co-player does, in the long run
    $s_X - P_X = \chi (s_Y - P_Y)$. With $\chi = 1$ and the largest $\phi$ it is tit-for-tat.

    ```python
    >>> from innerloop.rl import zero_determinant
    >>> [round(float(p), 6) for p in zero_determinant(3.0, 0.1)]
    [0.0, 0.8, 0.3, 0.5, 0.0]

    ```

    **Arguments:**

    - `chi`: the extortion factor, at least 1.
    - `phi`: how strongly it reacts, above 0; in the prisoner's dilemma (1, -1, 2, 0) at most $1/(1 + 2 \chi)$.
    - `payoffs`: of a game with two actions; see `discounted_returns`.
    - `start`: the probability of cooperation in the first step, which the relation leaves free.

    **Reference:** Press and Dyson (2012), Proceedings of the National Academy of Sciences 109.

    **Errors:** `ValueError` for numbers outside these ranges: they give no probabilities.
    """
    require(chi >= 1, f"chi must be at least 1 (1 is a fair share), not {chi:g}")
    require(0 <= start <= 1, f"start is a probability, not {start:g}")
    own, other = _above_defection(payoffs)
    direction = np.asarray(own - chi * other, float)
    # How far one may go along the direction before a probability leaves [0, 1].
    room = np.where(direction < 0, STAY, 1 - STAY)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = float(np.min(np.where(direction == 0, np.inf, room / np.abs(direction))))
    require(limit > 0, f"these payoffs have no zero-determinant strategy with chi {chi:g}")
    require(
        0 < phi <= limit * (1 + 1e-9),
        f"phi must be above 0 and, for chi {chi:g} and these payoffs, at most {limit:.6g}, not {phi:g}",
    )
    return jnp.asarray(np.concatenate([[start], np.clip(STAY + phi * direction, 0.0, 1.0)]))


class ZeroDeterminantFit(NamedTuple):
    """The zero-determinant strategy nearest to a policy."""

    chi: Float[Array, ""]
    phi: Float[Array, ""]
    loss: Float[Array, ""]  # the sum of squared differences of the four conditional probabilities


def fit_zero_determinant(policy: Float[Array, "5 *a"], payoffs: Payoffs = PRISONERS_DILEMMA) -> ZeroDeterminantFit:
    r"""The extortionate strategy whose four conditional probabilities are nearest to a policy's, by least squares.

    In $x = \phi$ and $y = \phi \chi$ the strategies are linear and the admissible ones a polygon, so the best is
    found exactly: inside, on one of its sides, or at a corner.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from innerloop.rl import fit_zero_determinant
    >>> fit = fit_zero_determinant(jax.scipy.special.logit(jnp.asarray([0.5, 0.8, 0.3, 0.5, 0.001])))
    >>> round(float(fit.chi), 2), round(float(fit.phi), 2), bool(fit.loss < 1e-5)
    (3.0, 0.1, True)

    ```

    **Arguments:**

    - `policy`: logits, as of `discounted_returns`; the start does not matter.
    - `payoffs`: the game, by default the prisoner's dilemma.

    **Returns:** a `ZeroDeterminantFit`; `chi` is huge (and `phi` 1e-9) where the best one keeps everything.
    """
    kind = policy.dtype
    target = action_probabilities(policy)[1:, 0] - jnp.asarray(STAY, kind)
    own, other = _above_defection(payoffs)
    basis = np.stack([own, -other], axis=1)  # [4, 2]: what x and y do to the probabilities
    # Lines normal . (x, y) <= bound: x >= 0, y >= x, and 0 <= STAY + basis (x, y) <= 1.
    normals = np.concatenate([[[-1.0, 0.0], [1.0, -1.0]], -basis, basis])
    bounds = np.concatenate([[0.0, 0.0], STAY, 1 - STAY])
    lines = [line for line in range(len(bounds)) if np.any(normals[line] != 0)]
    corners = []
    for pair in combinations(lines, 2):
        matrix = normals[list(pair)]
        if abs(np.linalg.det(matrix)) > 1e-9:
            corners.append(np.linalg.solve(matrix, bounds[list(pair)]))
    weights = np.linalg.inv(basis.T @ basis)
    free = jnp.asarray(weights @ basis.T, kind) @ target
    points = [free]
    for line in lines:  # the best point of a side is the free one, moved back along the metric of the loss
        move = weights @ normals[line] / (normals[line] @ weights @ normals[line])
        beyond = jnp.asarray(normals[line], kind) @ free - jnp.asarray(bounds[line], kind)
        points.append(free - jnp.asarray(move, kind) * beyond)
    candidates = jnp.concatenate([jnp.stack(points), jnp.asarray(np.stack(corners), kind)])
    excess = candidates @ jnp.asarray(normals.T, kind) - jnp.asarray(bounds, kind)[None, :]
    losses = ((candidates @ jnp.asarray(basis.T, kind) - target[None, :]) ** 2).sum(axis=1)
    losses = jnp.where((excess <= 1e-6).all(axis=1), losses, jnp.inf)
    x, y = candidates[jnp.argmin(losses)]
    phi = jnp.maximum(x, 1e-9)  # where it is zero, chi stays finite and phi * chi what it is
    chi = jnp.maximum(y / phi, 1.0)
    return ZeroDeterminantFit(chi, phi, losses.min())


def _above_defection(payoffs: Payoffs) -> tuple[np.ndarray, np.ndarray]:
    """Both players' payoffs after CC, CD, DC and DD, less those of mutual defection."""
    table = np.asarray(payoffs, float)
    require(
        table.shape in ((2, 2), (2, 2, 2)),
        f"zero-determinant strategies are for two actions, not payoffs {table.shape}",
    )
    own, other = np.broadcast_to(table, (2, 2, 2))
    own, other = own.reshape(-1), other.T.reshape(-1)
    return own - own[-1], other - other[-1]
