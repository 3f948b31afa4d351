"""Recursive least squares: its inverses, its forms, and that it is the mesa memory as long as nothing is forgotten."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memory_checks as checks
from innerloop.nn.memory.covariance import ConjugateGradients
from innerloop.nn.memory.least_squares import (
    LeastSquaresMemory,
    LeastSquaresState,
    least_squares_memory,
    recursive_least_squares,
    undo_update,
    update_inverse,
)
from innerloop.nn.memory.mesa import mesa_memory
from innerloop.nn.memory.rule import MemoryInputs
from oracles import mesa as oracle

H, K, V, T = checks.HEADS, checks.KEY_SIZE, checks.VALUE_SIZE, checks.LENGTH
REGULARISER = np.random.default_rng(7).uniform(0.3, 2.0, (H, K))


def function(*args, regulariser=None, **options):
    chosen = jnp.asarray(REGULARISER if regulariser is None else regulariser, jnp.result_type(float))
    return least_squares_memory(*args, regulariser=chosen, **options)


def start(random):
    keys = random.standard_normal((H, K, K))
    return LeastSquaresState(random.standard_normal((H, K, V)), np.linalg.inv(np.einsum("hik,hjk->hij", keys, keys)))


def loop(*args, state=None, regulariser=REGULARISER, **inputs):
    """The mesa oracle, whose memory holds the covariance and not the inverse."""
    if state is not None:
        state = (state[0], np.linalg.inv(state[1]) - np.array([np.diag(row) for row in regulariser]))
    outputs, (key_value, key_key) = oracle.mesa(*args, state=state, regulariser=regulariser, **inputs)
    return outputs, (key_value, np.linalg.inv(key_key + np.array([np.diag(row) for row in regulariser])))


MEMORY = checks.Memory(function, loop, start, tuple)


def draw(length):
    inputs = checks.draw(length)
    return {**inputs, "log_gate": np.zeros((length, H)), "strength": 0.05 + inputs["strength"]}


@pytest.mark.parametrize("length", [0, 1, T])
def test_forms_are_the_loop(length, x64):
    checks.check_forms(MEMORY, draw(length), 1e-10)


def test_float32():
    inputs = draw(70)
    del inputs["log_gate"]
    checks.check_forms(MEMORY, inputs, 1e-5, dtype=jnp.float32, forms=[("recurrent", 1), ("chunk", 32)], state=False)


def test_resets(x64):
    checks.check_resets(MEMORY, draw(T), 1e-10)


def test_vmap(x64):
    checks.check_vmap(MEMORY, draw(T), 1e-10)


def test_states_are_handed_over(x64):
    checks.check_handing_over(MEMORY, draw(T), 1e-10)


def test_gradients_agree(x64):
    inputs, state = checks.to_jax(draw(T)), checks.to_jax(start(np.random.default_rng(1)))
    del inputs["log_gate"]
    found = [
        checks.gradients(MEMORY, inputs, state, form=form, chunk_size=size)
        for form, size in [("recurrent", 1), ("chunk", 4), ("parallel", 1)]
    ]
    checks.close(found[1], found[0], 1e-10)
    checks.close(found[2], found[0], 1e-10)


def test_gradients_are_those_of_dense_inverses(x64):
    inputs = checks.to_jax({name: draw(T)[name] for name in ("query", "key", "value", "strength")})

    def dense(inputs, regulariser):
        weighted = inputs["strength"][..., None] * inputs["key"]
        covariance = jnp.cumsum(weighted[..., None] * inputs["key"][:, :, None], axis=0)
        moments = jnp.cumsum(weighted[..., None] * inputs["value"][:, :, None], axis=0)
        inverse = jnp.linalg.inv(covariance + jax.vmap(jnp.diag)(regulariser)[None])
        return jnp.einsum("thk,thkl,thlv->thv", inputs["query"], inverse, moments)

    def fast(inputs, regulariser):
        return least_squares_memory(**inputs, regulariser=regulariser, chunk_size=4)[0]

    def gradients(function):
        loss = jax.jit(jax.grad(lambda *args: jnp.sum(jnp.sin(function(*args))), argnums=(0, 1)))
        return loss(inputs, jnp.asarray(REGULARISER))

    checks.close(gradients(fast), gradients(dense), 1e-9)


@pytest.mark.parametrize("forgets", [False, True])
def test_inverses_and_the_way_back(forgets, x64):
    random = np.random.default_rng(3)
    keys, gates = random.standard_normal((9, K)), random.uniform(0.5, 1, 9) if forgets else np.ones(9)
    wanted = oracle.inverses(keys, REGULARISER[0], gates)
    one = jnp.ones(())
    found = [jnp.diag(1 / jnp.asarray(REGULARISER[0]))]
    for key, gate in zip(keys, gates, strict=True):
        found.append(update_inverse(found[-1], jnp.asarray(key), jnp.asarray(gate), one))
    np.testing.assert_allclose(found[1:], wanted, rtol=1e-10, atol=1e-12)
    inverse = found[-1]
    for step in reversed(range(9)):
        inverse = undo_update(inverse, jnp.asarray(keys[step]), jnp.asarray(gates[step]), one)
        np.testing.assert_allclose(inverse, found[step], rtol=1e-8, atol=1e-10)


def test_the_regulariser_fades_with_the_tokens(x64):
    inputs = checks.draw(T)
    outputs, _ = recursive_least_squares(**checks.to_jax(inputs), regulariser=jnp.asarray(REGULARISER))
    roots = {**inputs, "key": np.sqrt(inputs["strength"])[..., None] * inputs["key"]}
    moments = oracle.mesa(**inputs, regulariser=1.0)[1][0]
    for h in range(H):
        gates = np.exp(inputs["log_gate"][:, h])
        inverse = oracle.inverses(roots["key"][:, h], REGULARISER[h], gates)[-1]
        np.testing.assert_allclose(outputs[-1, h], inputs["query"][-1, h] @ inverse @ moments[h], rtol=1e-10)


def test_it_is_the_mesa_memory(x64):
    """Without gates and strengths, by conjugate gradients, with Lambda = 1 / lambda."""
    inputs = checks.to_jax({name: draw(T)[name] for name in ("query", "key", "value")})
    regulariser = jnp.full((H, K), 1 / 0.4)
    solver = ConjugateGradients(max_steps=50, tolerance=1e-13)
    by_steps = mesa_memory(**inputs, regulariser=regulariser, solver=solver)[0]
    for form in ("recurrent", "chunk"):
        outputs = least_squares_memory(**inputs, regulariser=regulariser, form=form, chunk_size=5)[0]
        np.testing.assert_allclose(outputs, by_steps, atol=1e-10)


def test_a_small_lambda_gives_linear_attention(x64):
    inputs = draw(T)
    plain = checks.to_jax({name: inputs[name] for name in ("query", "key", "value")})
    scores = np.einsum("thk,shk->hts", inputs["query"], inputs["key"]) * np.tri(T)
    wanted = np.einsum("hts,shv->thv", scores, inputs["value"])
    errors = []
    for small in (1e-3, 1e-4, 1e-5):
        outputs = least_squares_memory(**plain, regulariser=jnp.full((H, K), 1 / small))[0]
        errors.append(np.max(np.abs(outputs / small - wanted)))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 10, rtol=0.05)


def test_forgetting_breaks_it_and_not_conjugate_gradients():
    """In float32, along directions that no key excites any more; against a float64 solve."""
    random = np.random.default_rng(0)
    size, length = 16, 2000
    key, query, value = random.standard_normal((3, length, 1, size))
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    key[200:, :, size // 2 :] = 0
    inputs = dict(query=query, key=key, value=value, log_gate=np.full((length, 1), np.log(0.9)))
    wanted = oracle.mesa(**inputs)[0]
    single = checks.to_jax(inputs, jnp.float32)
    by_steps = jax.jit(lambda inputs: mesa_memory(**inputs)[0])(single)
    recursive = jax.jit(lambda inputs: recursive_least_squares(**inputs)[0])(single)

    def error(outputs):
        return np.linalg.norm(outputs[-500:] - wanted[-500:]) / np.linalg.norm(wanted[-500:])

    assert error(by_steps) < 1e-5
    assert not error(recursive) < 100 * error(by_steps)


def test_the_rule():
    inputs = MemoryInputs(**checks.to_jax({name: x for name, x in draw(T).items() if name != "log_gate"}, jnp.float32))
    rule = LeastSquaresMemory(H, K, regulariser=0.5, chunk_size=4)
    np.testing.assert_allclose(rule.regulariser, 0.5, rtol=1e-6)
    state = rule.init_state(H, K, V, jnp.dtype(jnp.float32))
    np.testing.assert_allclose(state.inverse, np.broadcast_to(2 * np.eye(K), (H, K, K)), rtol=1e-6)
    for form in ("recurrent", "chunk", "parallel"):
        checks.close(rule(inputs, state, form=form), rule(inputs), 1e-5)


def test_slow_forgetting_is_refused():
    inputs = checks.to_jax(checks.draw(3), jnp.float32)
    with pytest.raises(Exception, match="mesa_memory forgets slowly"):
        eqx.filter_jit(functools.partial(least_squares_memory))(**inputs)
    with pytest.raises(ValueError, match="must be above its lower bound"):
        LeastSquaresMemory(H, K, regulariser=0.0)
    # The shape checker of the test run refuses these as well, with another exception.
    with pytest.raises(Exception, match=r"regulariser"):
        recursive_least_squares(**inputs, regulariser=jnp.ones((H, K + 1)))
    with pytest.raises(ValueError, match=r"not \(3, 3\)"):
        LeastSquaresMemory(H, K).init_state(3, K, V, jnp.dtype(jnp.float32))
