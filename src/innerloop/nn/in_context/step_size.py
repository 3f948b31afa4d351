"""The best step size: in closed form for one setting, by search for any."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import require

Candidate = TypeVar("Candidate")


class OptimalStep(NamedTuple):
    """The best step size of one step of gradient descent, and the query loss it reaches."""

    learning_rate: Float[Array, ""]
    loss: Float[Array, ""]


def optimal_learning_rate(dim: int, num_context: int, input_range: float | Float[Array, ""] = 1.0) -> OptimalStep:
    r"""The best size of one step from zero weights, for uniform inputs and noiseless standard normal weights.

    With $C = \frac1N \sum_j x_j x_j^\top$, and per coordinate variance $\sigma^2 = r^2/12$ and fourth moment
    $m_4 = r^4/80$,

    $$E \,\mathrm{tr}\, C^2 = \tfrac1N \bigl[d m_4 + d(d-1)\sigma^4 + (N-1) d \sigma^4\bigr], \quad
      \eta^* = \frac{d \sigma^2}{E\,\mathrm{tr}\,C^2}, \quad
      L^* = \tfrac12 \sigma^2 \Bigl(d - \frac{(d\sigma^2)^2}{E\,\mathrm{tr}\,C^2}\Bigr)$$

    ```python
    >>> from innerloop.nn import optimal_learning_rate
    >>> best = optimal_learning_rate(dim=10, num_context=10)
    >>> round(float(best.learning_rate), 3), round(float(best.loss), 4)
    (6.061, 0.2062)

    ```

    **Errors:** `ValueError` for sizes below one.
    """
    require(dim >= 1 and num_context >= 1, f"dim and num_context must be at least 1, not {dim} and {num_context}")
    variance = jnp.asarray(input_range, float) ** 2 / 12.0
    fourth_moment = jnp.asarray(input_range, float) ** 4 / 80.0
    trace = (dim * fourth_moment + dim * (dim + num_context - 2) * variance**2) / num_context
    return OptimalStep(
        learning_rate=dim * variance / trace, loss=0.5 * variance * (dim - (dim * variance) ** 2 / trace)
    )


class LineSearch(NamedTuple):
    """The best candidate, its loss, and the losses of all candidates (infinite where not finite)."""

    best: object
    loss: Float[Array, ""]
    losses: Float[Array, "c"]


def line_search(loss: Callable[[Candidate], Float[Array, ""]], candidates: Candidate) -> LineSearch:
    """Evaluate every candidate and keep the best; those with a loss that is not finite are rejected.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn import line_search
    >>> found = line_search(lambda rate: (jnp.log(rate) - 1.0) ** 2, jnp.geomspace(0.1, 25.0, 100))
    >>> round(float(found.best), 1)
    2.7

    ```

    **Arguments:**

    - `loss`: `candidate -> scalar`; it is compiled once and run on one candidate after the other.
    - `candidates`: an array, or a pytree of arrays, with a leading axis over candidates, such as
      `jnp.geomspace(...)` or `candidate_grid(...)`.

    **Errors:** a run-time error if no candidate has a finite loss.
    """
    return _line_search(loss, candidates)


@eqx.filter_jit
def _line_search(loss, candidates) -> LineSearch:
    # One after the other, not vmapped: a candidate is usually evaluated on many tasks at once already.
    losses = jax.lax.map(loss, candidates)
    losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    losses = eqx.error_if(losses, ~jnp.any(jnp.isfinite(losses)), "no candidate of the line search has a finite loss")
    winner = jnp.argmin(losses)
    return LineSearch(jax.tree.map(lambda values: values[winner], candidates), losses[winner], losses)


def candidate_grid(*axes: Float[Array, "_"]) -> tuple[Float[Array, "c"], ...]:
    """All combinations of the values of several axes, as one flat array per axis.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn import candidate_grid
    >>> [values.tolist() for values in candidate_grid(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))]
    [[1.0, 1.0, 2.0, 2.0], [3.0, 4.0, 3.0, 4.0]]

    ```
    """
    return tuple(jnp.ravel(values) for values in jnp.meshgrid(*axes, indexing="ij"))
