"""The delta rule: against a loop, in all forms, and where it must equal simpler memories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memory_checks as checks
from innerloop.nn.memory.delta import DeltaMemory, delta_memory, invert_unit_lower, solve_unit_lower
from innerloop.nn.memory.rule import MemoryInputs
from oracles import memory as oracle

DELTA = checks.Memory(delta_memory, oracle.delta, checks.draw_memory)


@pytest.mark.parametrize("length", [0, 1, checks.LENGTH])
def test_forms_are_the_loop(length, x64):
    checks.check_forms(DELTA, checks.draw(length), 1e-10)


@pytest.mark.parametrize("absent", [["log_gate"], ["strength"], ["log_gate", "strength"]])
def test_absent_gates_and_strengths_are_ones(absent, x64):
    inputs = {name: x for name, x in checks.draw(checks.LENGTH).items() if name not in absent}
    checks.check_forms(DELTA, inputs, 1e-10, forms=[("recurrent", 1), ("chunk", 4)], state=False)


@pytest.mark.parametrize("low", [0.01, 0.9])
def test_float32(low):
    checks.check_forms(
        DELTA, checks.draw(70, low=low), 1e-5, dtype=jnp.float32, forms=[("recurrent", 1), ("chunk", 64)]
    )


def test_gradients_agree(x64):
    checks.check_gradients_agree(DELTA, checks.draw(checks.LENGTH), 1e-10)


def test_gradients_agree_in_float32():
    inputs = checks.draw(checks.LENGTH, low=0.01)
    checks.check_gradients_agree(DELTA, inputs, 1e-5, dtype=jnp.float32, forms=[("chunk", 7)])


def test_gradients_are_finite_differences_of_the_loop(x64):
    checks.check_gradients_of_the_loop(DELTA, checks.draw(6))


def test_states_are_handed_over(x64):
    checks.check_handing_over(DELTA, checks.draw(checks.LENGTH), 1e-12)


def test_resets(x64):
    checks.check_resets(DELTA, checks.draw(checks.LENGTH), 1e-10)


def test_vmap(x64):
    checks.check_vmap(DELTA, checks.draw(checks.LENGTH), 1e-12)


@settings(derandomize=True, deadline=None, max_examples=6)
@given(length=st.integers(0, 12), chunk_size=st.integers(1, 14), seed=st.integers(0, 3))
def test_chunk_size_changes_nothing(length, chunk_size, seed):
    inputs = checks.to_jax(checks.draw(length, seed=seed))
    checks.close(checks.run(DELTA, inputs, chunk_size=chunk_size), checks.run(DELTA, inputs, form="recurrent"), 1e-5)


def test_a_gate_of_one_is_no_gate(x64):
    inputs = checks.draw(checks.LENGTH)
    gated = checks.run(DELTA, checks.to_jax({**inputs, "log_gate": np.zeros((checks.LENGTH, checks.HEADS))}))
    del inputs["log_gate"]
    checks.close(gated, checks.run(DELTA, checks.to_jax(inputs)), 1e-12)


def test_orthonormal_keys_are_linear_attention(x64):
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    key = np.repeat(basis[:, None], 2, axis=1)
    query, value = np.random.default_rng(1).standard_normal((2, 6, 2, 6))
    wanted = oracle.additive(query, key, value)
    for form in ("recurrent", "chunk"):
        inputs = checks.to_jax({"query": query, "key": key, "value": value})
        checks.close(checks.run(DELTA, inputs, form=form), wanted, 1e-12)


def test_a_repeated_key_recalls_its_last_value():
    """Exactly, and over a chunk of 64 equal keys, where powers of the overlaps would exceed float32's digits."""
    length = 128
    key = np.zeros((length, 1, 4))
    key[:, 0, 1] = 1.0
    value = np.random.default_rng(0).standard_normal((length, 1, 3))
    inputs = checks.to_jax({"query": key, "key": key, "value": value}, jnp.float32)
    for form in ("recurrent", "chunk", "parallel"):
        outputs, memory = checks.run(DELTA, inputs, form=form, chunk_size=64)
        checks.close((outputs, memory[0, 1]), (value, value[-1, 0]), 1e-5)


def test_similar_keys_keep_float32_digits():
    random = np.random.default_rng(0)
    inputs = checks.draw(64, low=0.99)
    inputs["key"] = np.ones_like(inputs["key"]) + 0.1 * random.standard_normal(inputs["key"].shape)
    inputs["key"] /= np.linalg.norm(inputs["key"], axis=-1, keepdims=True)
    inputs["strength"] = np.ones_like(inputs["strength"])
    checks.check_forms(DELTA, inputs, 1e-5, dtype=jnp.float32, forms=[("recurrent", 1), ("chunk", 64)])


@pytest.mark.parametrize("size", [1, 5, 8])
def test_solving_is_solving(size, x64):
    lower = np.tril(np.random.default_rng(0).standard_normal((3, size, size)), -1)
    sides = np.random.default_rng(1).standard_normal((3, size, 2))
    full = jnp.asarray(np.eye(size) + lower)
    product = jax.jit(lambda lower: invert_unit_lower(lower) @ full)(jnp.asarray(lower))
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(size), full.shape), atol=1e-12)

    def ours(lower, sides):
        return solve_unit_lower(lower, sides)

    def dense(lower, sides):
        return jnp.linalg.solve(jnp.eye(size)[None] + lower, sides)

    arguments = jnp.asarray(lower), jnp.asarray(sides)
    checks.close(jax.jit(ours)(*arguments), dense(*arguments), 1e-12)
    found, wanted = (
        jax.grad(lambda a, b, f=f: jnp.sum(jnp.sin(f(jnp.tril(a, -1), b))), (0, 1))(*arguments) for f in (ours, dense)
    )
    checks.close(found, wanted, 1e-10)


def test_second_derivatives_exist(x64):
    """The solve of a chunk is differentiable in both modes, any number of times."""
    inputs = checks.to_jax(checks.draw(5))

    def loss(key, chunk):
        form = "chunk" if chunk else "recurrent"
        return jnp.sum(jnp.sin(delta_memory(**{**inputs, "key": key}, form=form, chunk_size=4)[0]))

    def product(chunk):
        gradient = jax.grad(lambda key: loss(key, chunk))
        return jax.jit(lambda key: jax.jvp(gradient, (key,), (jnp.cos(key),))[1])(inputs["key"])

    checks.close(product(True), product(False), 1e-10)


def test_rule_and_refusals():
    inputs = checks.to_jax(checks.draw(5), jnp.float32)
    rule = DeltaMemory(chunk_size=2)
    empty = rule.init_state(checks.HEADS, checks.KEY_SIZE, checks.VALUE_SIZE, jnp.dtype("float32"))
    checks.close(rule(MemoryInputs(**inputs)), rule(MemoryInputs(**inputs), empty), 1e-7)
    checks.close(rule(MemoryInputs(**inputs)), delta_memory(**inputs, chunk_size=2), 1e-7)
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        DeltaMemory(chunk_size=0)
    with checks.unchecked_shapes(), pytest.raises(ValueError, match=r"memory of shape \(2, 3, 4\)"):
        rule(MemoryInputs(**inputs), empty[:, :2])
    with pytest.raises(ValueError, match="log_gate has shape"):
        rule(MemoryInputs(**{**inputs, "log_gate": inputs["key"]}))
