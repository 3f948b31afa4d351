"""Conjugate gradients for many symmetric positive definite systems at once."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core.errors import require


class SolveInfo(NamedTuple):
    """What a solver reports of each system.

    - `iterations`: steps taken.
    - `residual`: the norm of $b - Ax$, computed anew from the solution and not carried along.
    - `converged`: whether that norm is as small as was asked for.
    """

    iterations: Int[Array, "*n"]
    residual: Float[Array, "*n"]
    converged: Bool[Array, "*n"]


def conjugate_gradients(
    operator: Callable[[Float[Array, "*n k"]], Float[Array, "*n k"]],
    right_hand_side: Float[Array, "*n k"],
    *,
    start: Float[Array, "*n k"] | None = None,
    max_steps: int | Int[Array, ""],
    tolerance: float | Float[Array, ""] | None = None,
    guard: float | None = None,
) -> tuple[Float[Array, "*n k"], SolveInfo]:
    r"""Solve $A_i x_i = b_i$ for symmetric positive definite $A_i$, all systems side by side.

    Each system stops on its own, when $\|r\| \le \epsilon \|r_0\|$ with $r_0$ the residual of the start, and is
    from then on left exactly as it is. With a tolerance the loop ends when all systems have; without one it
    takes `max_steps` steps, whose number does not depend on the numbers. The error in the norm of $A$ falls to
    $\epsilon$ within $\tfrac12 \sqrt{\kappa} \ln(2 / \epsilon)$ steps, $\kappa$ the condition number.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.solve.conjugate_gradients import conjugate_gradients
    >>> matrices = jnp.array([[[2.0, 1.0], [1.0, 3.0]], [[1.0, 0.0], [0.0, 1.0]]])
    >>> operator = lambda x: jnp.einsum("nij,nj->ni", matrices, x)
    >>> solution, info = conjugate_gradients(operator, jnp.ones((2, 2)), max_steps=5, tolerance=1e-5)
    >>> info.iterations.tolist(), info.converged.tolist()
    ([2, 1], [True, True])

    ```

    **Arguments:**

    - `operator`: multiplies each vector with its matrix.
    - `right_hand_side`: of all systems, along any leading axes.
    - `start`: where to begin; zero by default.
    - `max_steps`: the most steps any system takes.
    - `tolerance`: $\epsilon$.
    - `guard`: a residual that has fallen by this factor counts as zero even without a tolerance; by default the
        square of the machine precision, far below what further steps could change in the solution.

    **Returns:** the solutions and, per system, steps, residual and whether it converged: to `tolerance` (or the
    square root of the machine precision without one) times the first residual, or to a few roundings of
    the right-hand side. A system that is not positive definite, or not finite, has not converged.

    **Reference:** Hestenes and Stiefel (1952); von Oswald et al. (2025), arXiv 2506.05233, algorithm 1.

    **Errors:** `ValueError` for a negative `max_steps` or a tolerance below zero.
    """
    if isinstance(max_steps, int):
        require(max_steps >= 0, f"max_steps must be at least 0, not {max_steps}")
    if isinstance(tolerance, float | int):
        require(tolerance >= 0, f"tolerance must be at least 0, not {tolerance}")
    dtype = right_hand_side.dtype
    precision = float(jnp.finfo(dtype).eps)
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    # Scaled to one by a power of two, so that no square over- or underflows and nothing is rounded.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(right_hand_side), axis=-1, initial=0.0))
    scale = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1] - 1)[..., None]
    target = right_hand_side / scale

    if start is None:
        solution, residual = jnp.zeros_like(target), target
    else:
        solution = start / scale
        residual = target - operator(solution)
    first = _dot(residual, residual)
    least = precision**2 if guard is None else guard
    factor = jnp.asarray(least if tolerance is None else tolerance, dtype)
    stop = jnp.square(jnp.maximum(factor, jnp.asarray(least, dtype))) * first

    def advance(carry):
        solution, residual, direction, squared, steps = carry
        product = operator(direction)
        curvature = _dot(direction, product)
        active = (squared > stop) & (curvature > 0)
        length = jnp.where(active, squared / jnp.where(active, curvature, one), zero)[..., None]
        solution = solution + length * direction
        residual = residual - length * product
        renewed = _dot(residual, residual)
        share = jnp.where(active, renewed / jnp.where(active, squared, one), zero)[..., None]
        # A system without curvature is given up: with nothing left to do, it keeps no loop waiting.
        left = jnp.where(active, renewed, jnp.where(squared > stop, stop, squared))
        return solution, residual, residual + share * direction, left, steps + active.astype(jnp.int32)

    carry = (solution, residual, residual, first, jnp.zeros(first.shape, jnp.int32))
    if tolerance is None:
        carry = jax.lax.fori_loop(0, max_steps, lambda _, carry: advance(carry), carry)
    else:
        carry = jax.lax.while_loop(
            lambda numbered: (numbered[0] < max_steps) & jnp.any(numbered[1][3] > stop),
            lambda numbered: (numbered[0] + 1, advance(numbered[1])),
            (0, carry),
        )[1]
    solution, steps = carry[0], carry[4]
    missing = target - operator(solution)
    left = jnp.sqrt(_dot(missing, missing))
    wanted = jnp.asarray(precision**0.5 if tolerance is None else tolerance, dtype) * jnp.sqrt(first)
    rounding = 16 * precision * jnp.sqrt(_dot(target, target))
    return scale * solution, SolveInfo(steps, scale[..., 0] * left, left <= jnp.maximum(wanted, rounding))


def _dot(a: Float[Array, "*n k"], b: Float[Array, "*n k"]) -> Float[Array, "*n"]:
    return jnp.sum(a * b, axis=-1)
