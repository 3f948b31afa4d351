"""Two claims about memories that nothing is trained for: how much they recall, and whether they stay stable."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ...core.rng import named_key
from ...lab.cells import Cells
from ...nn.memory.additive import additive_memory
from ...nn.memory.covariance import AbstractSolver, DirectSolve
from ...nn.memory.delta import delta_memory
from ...nn.memory.least_squares import recursive_least_squares
from ...nn.memory.mesa import ConjugateGradients, mesa_memory
from .configuration import Config
from .layers import solver_of

CHANNELS = 32
PAIRS = (4, 8, 16, 24, 32, 48, 64)
MEMORIES = ("gla", "delta", "mesa", "mesa-no-steps", "mesa-exact")
REGULARISER = 0.25
TINY = 1e-13  # stands for the limit of zero: about as little as a factorisation in float64 bears
GATES = (1.0, 0.99, 0.9)
WINDOW = 50  # tokens behind one error
LARGEST = 1e30


def measure_recall(config: Config, cells: Cells) -> None:
    """Store pairs of random unit keys and values, read all keys, and compare.

    The error is the squared distance from the values over their squared size.
    """
    with jax.enable_x64(True):  # a regulariser next to zero needs the digits
        keys = [jax.random.split(named_key(seed, "recall"), config.draws) for seed in cells.seeds]
        table = np.stack([np.asarray(_recall_errors(key, jnp.asarray(PAIRS))).mean(axis=0) for key in keys])
    cells.save(recall_errors=np.moveaxis(table, 1, 2))
    for row, memory in enumerate(MEMORIES):
        cells.record({f"error/{memory}/{pairs}": table[:, column, row] for column, pairs in enumerate(PAIRS)})


@jax.jit
def _recall_errors(keys: Key[Array, "draws"], pairs: Int[Array, "n"]) -> Float[Array, "draws n memories"]:
    return jax.lax.map(lambda key: jax.lax.map(lambda number: _errors_of_a_draw(key, number), pairs), keys)


def _errors_of_a_draw(key: Key[Array, ""], pairs: Int[Array, ""]) -> Float[Array, "memories"]:
    """The errors of all memories for one set of pairs. All are written with strength one and forget nothing.

    There are always as many tokens, so that one program serves all numbers of pairs; those beyond have strength zero,
    and so have those that follow and ask for the keys.
    """
    count = PAIRS[-1]
    first, second = jax.random.split(key)
    keys = jax.random.normal(first, (count, 1, CHANNELS))
    keys = keys / jnp.linalg.norm(keys, axis=-1, keepdims=True)
    values = jax.random.normal(second, (count, 1, CHANNELS))
    there = (jnp.arange(count) < pairs).astype(keys.dtype)
    twice, values_then_nothing = jnp.concatenate([keys, keys]), jnp.concatenate([values, jnp.zeros_like(values)])
    tokens = (twice, twice, values_then_nothing, None, jnp.concatenate([there, jnp.zeros(count)])[:, None])

    def mesa(regulariser: float, solver: AbstractSolver) -> Float[Array, "t 1 v"]:
        return mesa_memory(*tokens, jnp.full((1, CHANNELS), regulariser), form="parallel", solver=solver)[0]

    outputs = (
        additive_memory(*tokens, form="parallel")[0],
        delta_memory(*tokens, form="parallel")[0],
        mesa(REGULARISER, ConjugateGradients(max_steps=60, tolerance=1e-10)),
        mesa(REGULARISER, solver_of(0)),
        mesa(TINY, DirectSolve()),
    )
    weight = there[:, None, None]
    size = jnp.sum(weight * values**2)
    return jnp.stack([jnp.sum(weight * (output[count:] - values) ** 2) / size for output in outputs])


def measure_stability(config: Config, cells: Cells) -> None:
    """The error of recursive least squares and of conjugate gradients in float32, each against its own exact solution.

    Keys are random unit vectors. Errors are relative root mean squares over windows of tokens; what is not finite
    or beyond counts as `LARGEST`.
    """
    found = [_stability(seed, config.stability_length) for seed in cells.seeds]
    cells.save(least_squares_errors=np.stack([one for one, _ in found]), solver_errors=np.stack([o for _, o in found]))
    for row, gate in enumerate(GATES):
        cells.record(
            {
                f"least_squares_error/{gate:g}": np.stack([one[row, -1] for one, _ in found]),
                f"solver_error/{gate:g}": np.stack([one[row, -1] for _, one in found]),
            }
        )


def _stability(seed: int, length: int) -> tuple[Float[np.ndarray, "gates w"], Float[np.ndarray, "gates w"]]:
    rng = np.random.default_rng(seed)
    query, key, value = rng.normal(size=(3, length, CHANNELS))
    query, key = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (query, key))
    arrays = [jnp.asarray(part[:, None], jnp.float32) for part in (query, key, value)]
    errors = []
    for gate in GATES:
        log_gate = jnp.full((length, 1), np.log(gate), jnp.float32)
        errors.append(
            (
                _errors(_least_squares(*arrays, log_gate), _exact(query, key, value, gate, fades=True)),
                _errors(_conjugate_gradients(*arrays, log_gate), _exact(query, key, value, gate, fades=False)),
            )
        )
    first, second = zip(*errors, strict=True)
    return np.stack(first), np.stack(second)


@jax.jit
def _least_squares(*tokens: Float[Array, "t ..."]) -> Float[Array, "t v"]:
    return recursive_least_squares(*tokens)[0][:, 0]


@jax.jit
def _conjugate_gradients(*tokens: Float[Array, "t ..."]) -> Float[Array, "t v"]:
    return mesa_memory(*tokens, solver=ConjugateGradients(max_steps=2 * CHANNELS, tolerance=1e-7))[0][:, 0]


def _exact(
    query: Float[np.ndarray, "t k"],
    key: Float[np.ndarray, "t k"],
    value: Float[np.ndarray, "t v"],
    gate: float,
    *,
    fades: bool,
) -> Float[np.ndarray, "t v"]:
    """Ridge regression in float64; the regulariser `fades` as that of recursive least squares does, or stays."""
    covariance, memory, regulariser = np.zeros((CHANNELS,) * 2), np.zeros((CHANNELS,) * 2), np.eye(CHANNELS)
    outputs = np.empty_like(value)
    for token, (q, k, v) in enumerate(zip(query, key, value, strict=True)):
        covariance = gate * covariance + np.outer(k, k)
        memory = gate * memory + np.outer(k, v)
        regulariser = gate * regulariser if fades else regulariser
        outputs[token] = np.linalg.solve(covariance + regulariser, q) @ memory
    return outputs


def _errors(outputs: Array, exact: Float[np.ndarray, "t v"]) -> Float[np.ndarray, "w"]:
    """The relative root mean square error in each window."""
    count = max(1, len(exact) // WINDOW)
    parts = zip(np.array_split(np.asarray(outputs, float), count), np.array_split(exact, count), strict=True)
    with np.errstate(all="ignore"):
        errors = np.asarray([np.linalg.norm(one - other) / np.linalg.norm(other) for one, other in parts])
    return np.where(np.isfinite(errors), np.minimum(errors, LARGEST), LARGEST)
