"""The regularised key covariances that a mesa memory inverts, and who inverts them."""

import abc
from typing import TYPE_CHECKING, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core.errors import UnknownNameError, require
from ...solve.conjugate_gradients import SolveInfo, conjugate_gradients

if TYPE_CHECKING:
    Start = Literal["jacobi", "zero"]
else:
    Start = str

# Graphics cards multiply float32 with fewer digits unless told otherwise; conjugate gradients need them all.
_PRECISION = jax.lax.Precision.HIGHEST


def initial_regulariser(num_heads: int, key_size: int, regulariser: float, lower: float) -> Float[Array, "h k"]:
    r"""The $\tilde\lambda$ with which $\text{lower} + \operatorname{softplus}(\tilde\lambda)$ is the regulariser.

    **Errors:** `ValueError` for sizes below one, a negative bound, or a regulariser not above it.
    """
    require(num_heads >= 1, f"num_heads must be at least 1, not {num_heads}")
    require(key_size >= 1, f"key_size must be at least 1, not {key_size}")
    require(lower >= 0, f"the regulariser is positive: its lower bound must be at least 0, not {lower}")
    require(regulariser > lower, f"the regulariser must be above its lower bound {lower}, not {regulariser}")
    above = jnp.asarray(regulariser - lower, float)
    return jnp.full((num_heads, key_size), above + jnp.log(-jnp.expm1(-above)))


class AbstractCovariance(eqx.Module):
    r"""One symmetric positive definite matrix $H_t + \Lambda$ per token, which need not be written down."""

    @abc.abstractmethod
    def __call__(self, vectors: Float[Array, "*n k"]) -> Float[Array, "*n k"]:
        """Multiply each token's vector, as a row, with its matrix."""

    @abc.abstractmethod
    def diagonal(self) -> Float[Array, "*n k"]:
        """The diagonals of all matrices."""

    @abc.abstractmethod
    def matrices(self) -> Float[Array, "*n k k"]:
        """All matrices, written down."""


class DenseCovariance(AbstractCovariance):
    """Matrices given one by one, the regulariser on their diagonals included."""

    dense: Float[Array, "*n k k"]

    def __call__(self, vectors: Float[Array, "*n k"]) -> Float[Array, "*n k"]:
        """Multiply each token's vector, as a row, with its matrix."""
        return jnp.einsum("...k,...kl->...l", vectors, self.dense, precision=_PRECISION)

    def diagonal(self) -> Float[Array, "*n k"]:
        """The diagonals of all matrices."""
        return jnp.diagonal(self.dense, axis1=-2, axis2=-1)

    def matrices(self) -> Float[Array, "*n k k"]:
        """All matrices, written down."""
        return self.dense


class BlockCovariance(AbstractCovariance):
    r"""The matrices of tokens in blocks, as the memory before a block and the keys inside it.

    $$p_j^\top (H_j + \Lambda) = b_j p_j^\top M + \sum_{i \le j} D_{ji} (p_j^\top k_i) k_i^\top + p_j^\top \Lambda$$

    **Arguments:**

    - `key`: the keys of each block.
    - `weight`: $D$, what token $j$ still sees of token $i$, times the strength with which $i$ was written.
    - `kept`: $b$, what token $j$ still sees of the memory before the block.
    - `memory`: $M$, that memory; `None` is an empty one.
    - `regulariser`: the diagonal of $\Lambda$, per head.
    """

    key: Float[Array, "n h c k"]
    # Written out once, or each step of a solver multiplies with the columns of an array stored by rows: on a CPU
    # at half the speed.
    transposed_key: Float[Array, "n h k c"]
    weight: Float[Array, "n h c c"]
    kept: Float[Array, "n h c"]
    memory: Float[Array, "n h k k"] | None
    regulariser: Float[Array, "h k"]

    def __init__(
        self,
        key: Float[Array, "n h c k"],
        weight: Float[Array, "n h c c"],
        kept: Float[Array, "n h c"],
        memory: Float[Array, "n h k k"] | None,
        regulariser: Float[Array, "h k"],
    ):
        self.key, self.transposed_key, self.weight = key, jnp.swapaxes(key, -1, -2), weight
        self.kept, self.memory, self.regulariser = kept, memory, regulariser

    def __call__(self, vectors: Float[Array, "n h c k"]) -> Float[Array, "n h c k"]:
        """Multiply each token's vector, as a row, with its matrix."""
        seen = read_blocks(vectors, self.transposed_key, self.weight, self.key, self.kept, self.memory)
        return seen + self.regulariser[None, :, None] * vectors

    def diagonal(self) -> Float[Array, "n h c k"]:
        """The diagonals of all matrices."""
        inside = jnp.einsum("nhji,nhik->nhjk", self.weight, jnp.square(self.key), precision=_PRECISION)
        if self.memory is not None:
            before = jnp.diagonal(self.memory, axis1=-2, axis2=-1)
            inside = inside + self.kept[..., None] * before[:, :, None]
        return inside + self.regulariser[None, :, None]

    def matrices(self) -> Float[Array, "n h c k k"]:
        """All matrices, written down: memory grows with the square of the key size per token."""
        dense = jnp.einsum("nhji,nhik,nhil->nhjkl", self.weight, self.key, self.key, precision=_PRECISION)
        if self.memory is not None:
            dense = dense + self.kept[..., None, None] * self.memory[:, :, None]
        identity = jnp.eye(self.key.shape[-1], dtype=self.key.dtype)
        return dense + (self.regulariser[:, :, None] * identity[None])[None, :, None]


def read_blocks(
    query: Float[Array, "n h c k"],
    transposed_key: Float[Array, "n h k c"],
    weight: Float[Array, "n h c c"],
    value: Float[Array, "n h c v"],
    kept: Float[Array, "n h c"],
    memory: Float[Array, "n h k v"] | None,
) -> Float[Array, "n h c v"]:
    """What queries read: from the tokens of their block, weighted, and from the memory before it, as far as kept."""
    scores = weight * jnp.einsum("nhjk,nhki->nhji", query, transposed_key, precision=_PRECISION)
    inside = jnp.einsum("nhji,nhiv->nhjv", scores, value, precision=_PRECISION)
    if memory is None:
        return inside
    before = jnp.einsum("nhjk,nhkv->nhjv", query, memory, precision=_PRECISION)
    return inside + kept[..., None] * before


class AbstractSolver(eqx.Module):
    """Who solves the systems of a mesa memory, without saying how they are differentiated."""

    @abc.abstractmethod
    def __call__(
        self, covariance: AbstractCovariance, right_hand_side: Float[Array, "*n k"]
    ) -> tuple[Float[Array, "*n k"], SolveInfo]:
        """The solutions of all systems, and how they were reached."""


class ConjugateGradients(AbstractSolver):
    """Conjugate gradients, whose cost per step is that of linear attention.

    ```python
    >>> from innerloop.nn.memory.covariance import ConjugateGradients
    >>> at_test_time = ConjugateGradients(max_steps=100, tolerance=1e-4)

    ```

    **Arguments:**

    - `max_steps`: the most steps; 30 in the paper.
    - `tolerance`: stop a token when its residual has fallen by this factor, and all when the last one has.
        `None` takes `max_steps` steps always. Below 15 steps without a tolerance, gradients are only as good
        as the solutions.
    - `start`: `"jacobi"` divides by the diagonal, `"zero"` begins with nothing.

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233, algorithm 1.

    **Errors:** `ValueError` for fewer than one step or a negative tolerance; `UnknownNameError` for another start.
    """

    max_steps: int = eqx.field(static=True, default=30)
    tolerance: float | Float[Array, ""] | None = 1e-6
    start: Start = eqx.field(static=True, default="jacobi")

    def __check_init__(self):
        require(self.max_steps >= 1, f"max_steps must be at least 1, not {self.max_steps}")
        if isinstance(self.tolerance, float | int):
            require(self.tolerance >= 0, f"tolerance must be at least 0, not {self.tolerance}")
        if self.start not in ("jacobi", "zero"):
            raise UnknownNameError("start", self.start, ("jacobi", "zero"))

    def __call__(
        self, covariance: AbstractCovariance, right_hand_side: Float[Array, "*n k"]
    ) -> tuple[Float[Array, "*n k"], SolveInfo]:
        """The solutions of all systems, and how they were reached."""
        start = right_hand_side / covariance.diagonal() if self.start == "jacobi" else None
        return conjugate_gradients(
            covariance, right_hand_side, start=start, max_steps=self.max_steps, tolerance=self.tolerance
        )


class DirectSolve(AbstractSolver):
    """A Cholesky factorisation per token: exact, with memory of the square of the key size per token."""

    def __call__(
        self, covariance: AbstractCovariance, right_hand_side: Float[Array, "*n k"]
    ) -> tuple[Float[Array, "*n k"], SolveInfo]:
        """The solutions of all systems; no steps are counted."""
        factors = jnp.linalg.cholesky(covariance.matrices())
        solution = jax.scipy.linalg.cho_solve((factors, True), right_hand_side[..., None])[..., 0]
        residual = jnp.linalg.norm(right_hand_side - covariance(solution), axis=-1)
        allowed = jnp.finfo(residual.dtype).eps ** 0.5 * jnp.linalg.norm(right_hand_side, axis=-1)
        return solution, SolveInfo(jnp.zeros(residual.shape, jnp.int32), residual, residual <= allowed)


def solve(
    covariance: AbstractCovariance, right_hand_side: Float[Array, "*n k"], solver: AbstractSolver
) -> tuple[Float[Array, "*n k"], SolveInfo]:
    r"""Solve $(H_t + \Lambda) x_t = b_t$, differentiated as the solution of the equation.

    The gradient is one more solve with the same matrices, not a walk back through the solver's steps.
    """
    fixed = jax.lax.stop_gradient(covariance)
    return jax.lax.custom_linear_solve(
        covariance, right_hand_side, lambda _, b: solver(fixed, b), symmetric=True, has_aux=True
    )
