"""What every matrix memory is checked for: its forms against a loop, gradients, states handed over, resets."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import config

HEADS, KEY_SIZE, VALUE_SIZE = 2, 3, 4
LENGTH = 13
FORMS = [("recurrent", 1), ("parallel", 1), *[("chunk", size) for size in (1, 7, 16)]]


class Memory(NamedTuple):
    """A memory, its loop, and what its states mean: `start` draws one, `to_loop` gives the loop's own.

    `to_loop` takes NumPy and JAX arrays.
    """

    function: Callable
    loop: Callable
    start: Callable[[np.random.Generator], Any]
    to_loop: Callable[[Any], Any] = lambda state: state


def draw(length, seed=0, *, gates="head", low=0.3):
    """Inputs as float64 NumPy arrays: unit keys, gates in `[low, 1]`, strengths in `[0, 1]`."""
    random = np.random.default_rng(seed)
    query, key = random.standard_normal((2, length, HEADS, KEY_SIZE))
    gate = (length, HEADS) if gates == "head" else (length, HEADS, KEY_SIZE)
    return {
        "query": query,
        "key": key / np.linalg.norm(key, axis=-1, keepdims=True),
        "value": random.standard_normal((length, HEADS, VALUE_SIZE)),
        "log_gate": np.log(random.uniform(low, 1, gate)),
        "strength": random.uniform(0, 1, (length, HEADS)),
    }


def draw_memory(random):
    return random.standard_normal((HEADS, KEY_SIZE, VALUE_SIZE))


def to_jax(tree, dtype=None):
    return jax.tree.map(lambda x: jnp.asarray(x, dtype or jnp.result_type(float)), tree)


@contextlib.contextmanager
def unchecked_shapes():
    """As users run the package: shapes are checked by its own refusals, not by annotations."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)


def part(inputs, start, stop):
    return {name: x[start:stop] for name, x in inputs.items()}


def close(given, wanted, tolerance):
    """Equal up to a root mean square relative to the wanted array's."""
    for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(wanted), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.all(np.isfinite(a))
        error = np.sqrt(np.mean((a - b) ** 2)) if a.size else 0.0
        size = np.sqrt(np.mean(b**2)) if b.size else 0.0
        assert error <= tolerance * size, (error, size)


def run(memory, inputs, state=None, *, form="chunk", chunk_size=4):
    return jax.jit(lambda inputs, state: memory.function(**inputs, state=state, form=form, chunk_size=chunk_size))(
        inputs, state
    )


def gradients(memory, inputs, state, *, form, chunk_size):
    """Of a loss that reads all outputs and the final state."""

    def loss(inputs, state):
        outputs, final = memory.function(**inputs, state=state, form=form, chunk_size=chunk_size)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves((outputs, memory.to_loop(final))))

    return jax.jit(jax.grad(loss, argnums=(0, 1)))(inputs, state)


def check_forms(memory, inputs, tolerance, *, dtype=None, forms=FORMS, state=True):
    """Outputs and final states are the loop's, which is given the same numbers: rounded, if `dtype` is shorter."""
    inputs = jax.tree.map(lambda x: np.asarray(x, dtype).astype(np.float64), inputs)
    start = memory.start(np.random.default_rng(1)) if state else None
    outputs, final = memory.loop(**inputs, state=memory.to_loop(start) if state else None)
    for form, chunk_size in forms:
        given = run(memory, to_jax(inputs, dtype), to_jax(start, dtype), form=form, chunk_size=chunk_size)
        close(given[0], outputs, tolerance)
        close(memory.to_loop(given[1]), final, tolerance)


def check_gradients_agree(memory, inputs, tolerance, *, dtype=None, forms=FORMS[1:]):
    """All forms have the same gradients, none of them zero or not a number."""
    start = memory.start(np.random.default_rng(1))
    arguments = (memory, to_jax(inputs, dtype), to_jax(start, dtype))
    wanted = gradients(*arguments, form="recurrent", chunk_size=1)
    assert all(np.any(np.asarray(x) != 0) for x in jax.tree.leaves(wanted))
    for form, chunk_size in forms:
        close(gradients(*arguments, form=form, chunk_size=chunk_size), wanted, tolerance)


def check_gradients_of_the_loop(memory, inputs):
    """The gradient along a random direction of each input is the loop's finite difference (in float64)."""
    start = memory.start(np.random.default_rng(1))
    given = gradients(memory, to_jax(inputs), to_jax(start), form="chunk", chunk_size=4)
    leaves, structure = jax.tree.flatten((inputs, start))

    def loss(leaves):
        inputs, state = jax.tree.unflatten(structure, leaves)
        result = memory.loop(**inputs, state=memory.to_loop(state))
        return sum(np.sum(np.sin(x)) for x in jax.tree.leaves(result))

    for i, (leaf, gradient) in enumerate(zip(leaves, jax.tree.leaves(given), strict=True)):
        direction = np.random.default_rng(2).standard_normal(leaf.shape)
        ends = [loss([*leaves[:i], leaf + step * direction, *leaves[i + 1 :]]) for step in (1e-5, -1e-5)]
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(np.asarray(gradient) * direction), slope, rtol=1e-6, atol=1e-8)


def check_handing_over(memory, inputs, tolerance):
    """Two calls, cut anywhere, are one call; token by token too."""
    inputs, start = to_jax(inputs), to_jax(memory.start(np.random.default_rng(1)))
    whole = run(memory, inputs, start)
    for cut in (0, 1, 6, LENGTH):
        first, state = run(memory, part(inputs, 0, cut), start)
        rest, state = run(memory, part(inputs, cut, LENGTH), state, form="recurrent")
        close((jnp.concatenate([first, rest]), state), whole, tolerance)
    outputs, state = [], start
    for t in range(LENGTH):
        output, state = run(memory, part(inputs, t, t + 1), state, form="recurrent")
        outputs.append(output)
    close((jnp.concatenate(outputs), state), whole, tolerance)


def check_resets(memory, inputs, tolerance):
    """A log gate of minus infinity begins a new segment, in all forms and their gradients."""
    marked = {**inputs, "log_gate": np.array(inputs["log_gate"])}
    marked["log_gate"][[5, 6, 10]] = -np.inf
    cuts = [0, 5, 6, 10, LENGTH]
    start = memory.start(np.random.default_rng(1))
    pieces, state = [], memory.to_loop(start)
    for begin, end in itertools.pairwise(cuts):
        outputs, final = memory.loop(**part(inputs, begin, end), state=state)
        pieces.append(outputs)
        state = None
    for form, chunk_size in [("recurrent", 1), ("chunk", 4), ("parallel", 1)]:
        given = run(memory, to_jax(marked), to_jax(start), form=form, chunk_size=chunk_size)
        close(given[0], np.concatenate(pieces), tolerance)
        close(memory.to_loop(given[1]), final, tolerance)
    wanted = gradients(memory, to_jax(marked), to_jax(start), form="recurrent", chunk_size=1)
    for chunk_size in (4, LENGTH):
        found = gradients(memory, to_jax(marked), to_jax(start), form="chunk", chunk_size=chunk_size)
        close(found, wanted, tolerance)
    np.testing.assert_array_equal(wanted[0]["log_gate"][jnp.asarray([5, 6, 10])], 0)


def check_vmap(memory, inputs, tolerance):
    """A batch is its sequences, one by one."""
    batch = [to_jax(inputs), to_jax({**inputs, "value": -2 * inputs["value"]})]
    starts = [to_jax(memory.start(np.random.default_rng(seed))) for seed in (1, 2)]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *batch), jax.tree.map(lambda *x: jnp.stack(x), *starts)
    for form in ("recurrent", "chunk"):

        def function(inputs, state, form=form):
            return memory.function(**inputs, state=state, form=form, chunk_size=4)

        given = jax.jit(jax.vmap(function))(*stack)
        wanted = [run(memory, inputs, start, form=form) for inputs, start in zip(batch, starts, strict=True)]
        close(given, jax.tree.map(lambda *x: jnp.stack(x), *wanted), tolerance)
