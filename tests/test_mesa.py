"""The mesa memory: against dense solves, in all forms, and where regression has a closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import memory_checks as checks
from innerloop.core.errors import UnknownNameError
from innerloop.nn.memory.covariance import BlockCovariance, ConjugateGradients, DirectSolve
from innerloop.nn.memory.delta import DeltaMemory
from innerloop.nn.memory.mesa import MesaMemory, MesaState, limit_forget_gate, mesa_memory
from innerloop.nn.memory.rule import MemoryInputs
from oracles import memory as additive_oracle
from oracles import mesa as oracle

H, K, V, T = checks.HEADS, checks.KEY_SIZE, checks.VALUE_SIZE, checks.LENGTH
REGULARISER = np.random.default_rng(7).uniform(0.3, 2.0, (H, K))
TIGHT = ConjugateGradients(max_steps=60, tolerance=1e-13)


def memory(solver):
    """The memory as the shared checks want it: with this solver, and without what the solver reports."""

    def function(*args, regulariser=None, **options):
        chosen = jnp.asarray(REGULARISER if regulariser is None else regulariser, jnp.result_type(float))
        return mesa_memory(*args, regulariser=chosen, solver=solver, **options)[:2]

    def start(random):
        keys = random.standard_normal((H, K, K))
        return MesaState(random.standard_normal((H, K, V)), np.einsum("hik,hjk->hij", keys, keys))

    return checks.Memory(function, functools.partial(oracle.mesa, regulariser=REGULARISER), start, tuple)


TIGHTLY, DIRECTLY, BY_DEFAULT = memory(TIGHT), memory(DirectSolve()), memory(None)


@pytest.mark.parametrize("length", [0, 1, T])
@pytest.mark.parametrize("solved", [TIGHTLY, DIRECTLY], ids=["cg", "direct"])
def test_forms_are_the_loop(length, solved, x64):
    checks.check_forms(solved, checks.draw(length), 1e-10)


@pytest.mark.parametrize("start", ["jacobi", "zero"])
def test_absent_gates_and_strengths_are_ones(start, x64):
    inputs = {name: x for name, x in checks.draw(T).items() if name not in ("log_gate", "strength")}
    solved = memory(ConjugateGradients(max_steps=60, tolerance=1e-13, start=start))
    checks.check_forms(solved, inputs, 1e-10, forms=[("recurrent", 1), ("parallel", 1), ("chunk", 4)], state=False)


@pytest.mark.parametrize("low", [0.01, 0.9])
def test_float32(low):
    inputs = checks.draw(70, low=low)
    checks.check_forms(BY_DEFAULT, inputs, 1e-5, dtype=jnp.float32, forms=[("recurrent", 1), ("chunk", 32)])


@pytest.mark.parametrize("solved", [TIGHTLY, DIRECTLY], ids=["cg", "direct"])
def test_gradients_agree(solved, x64):
    checks.check_gradients_agree(solved, checks.draw(T), 1e-10, forms=[("parallel", 1), ("chunk", 7)])


def test_gradients_agree_in_float32():
    inputs = checks.draw(T, low=0.01)
    checks.check_gradients_agree(BY_DEFAULT, inputs, 1e-5, dtype=jnp.float32, forms=[("chunk", 7)])


def test_gradients_are_finite_differences_of_the_loop(x64):
    checks.check_gradients_of_the_loop(TIGHTLY, checks.draw(6))


def test_states_are_handed_over(x64):
    checks.check_handing_over(TIGHTLY, checks.draw(T), 1e-10)


def test_resets(x64):
    checks.check_resets(TIGHTLY, checks.draw(T), 1e-10)


def test_vmap(x64):
    checks.check_vmap(TIGHTLY, checks.draw(T), 1e-10)


def test_the_covariance_of_blocks_is_one_matrix_per_token(x64):
    random = np.random.default_rng(5)
    blocks, size = 3, 4
    memory = np.einsum("nhik,nhil->nhkl", *2 * [random.standard_normal((blocks, H, K, K))])
    parts = (random.standard_normal((blocks, H, size, K)), np.tril(random.uniform(size=(blocks, H, size, size))))
    parts = (*parts, random.uniform(size=(blocks, H, size)), memory, REGULARISER)
    covariance = BlockCovariance(*(jnp.asarray(part) for part in parts))
    vectors = jnp.asarray(random.standard_normal((blocks, H, size, K)))
    dense = covariance.matrices()
    np.testing.assert_allclose(covariance(vectors), jnp.einsum("nhck,nhckl->nhcl", vectors, dense), atol=1e-12)
    np.testing.assert_allclose(covariance.diagonal(), jnp.diagonal(dense, axis1=-2, axis2=-1), atol=1e-12)


def arrays(length, **options):
    return checks.to_jax(checks.draw(length, **options))


def mesa(inputs, regulariser, solver=TIGHT, **options):
    return jax.jit(lambda inputs, lam: mesa_memory(**inputs, regulariser=lam, solver=solver, **options))(
        inputs, regulariser
    )


def lam(value):
    return jnp.full((H, K), value, float)


def test_gradients_are_those_of_dense_solves(x64):
    """By everything, the regulariser included, with the plain automatic derivative of a solve per token."""
    inputs, start = arrays(T), checks.to_jax(TIGHTLY.start(np.random.default_rng(1)))

    def dense(inputs, regulariser, state):
        def advance(state, token):
            query, key, value, log_gate, strength = token
            gate = jnp.exp(log_gate)[:, None, None]
            both = [gate * part for part in state]
            written = strength[:, None] * key
            key_value = both[0] + written[:, :, None] * value[:, None, :]
            key_key = both[1] + written[:, :, None] * key[:, None, :]
            system = key_key + jax.vmap(jnp.diag)(regulariser)
            solution = jnp.linalg.solve(jnp.swapaxes(system, -1, -2), query[..., None])[..., 0]
            return MesaState(key_value, key_key), jnp.einsum("hk,hkv->hv", solution, key_value)

        final, outputs = jax.lax.scan(advance, state, MemoryInputs(**inputs)[:5])
        return outputs, final

    def fast(inputs, regulariser, state):
        return mesa_memory(**inputs, regulariser=regulariser, state=state, solver=TIGHT, chunk_size=4)[:2]

    def gradients(function):
        def loss(*args):
            return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(function(*args)))

        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(inputs, jnp.asarray(REGULARISER), start)

    checks.close(gradients(fast), gradients(dense), 1e-9)


def test_a_large_regulariser_gives_linear_attention(x64):
    inputs = arrays(T)
    wanted = additive_oracle.additive(**checks.draw(T))[0]
    errors = [np.max(np.abs(c * mesa(inputs, lam(c))[0] - wanted)) for c in (1e3, 1e4, 1e5)]
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 10, rtol=0.05)
    assert errors[0] < 0.05 * np.max(np.abs(wanted))


def test_ridge_regression_of_every_prefix(x64):
    inputs = arrays(T)
    inputs = {name: inputs[name] for name in ("query", "key", "value")}
    outputs = mesa(inputs, lam(0.7))[0]
    q, k, v = (np.asarray(x) for x in inputs.values())
    for t in range(T):
        for h in range(H):
            rows = np.concatenate([k[: t + 1, h], np.sqrt(0.7) * np.eye(K)])
            targets = np.concatenate([v[: t + 1, h], np.zeros((K, V))])
            weights = np.linalg.lstsq(rows, targets, rcond=None)[0]
            np.testing.assert_allclose(outputs[t, h], q[t, h] @ weights, atol=1e-10)


def test_each_token_is_a_newton_step(x64):
    """Phi_t = Phi_{t-1} - (Phi_{t-1} k_t - v_t) k_t^T (H_t + Lambda)^-1, without gates."""
    inputs = arrays(T)
    key, value = inputs["key"], inputs["value"]
    outputs = mesa({"query": key, "key": key, "value": value}, lam(0.7))[0]
    maps, covariance = np.zeros((H, V, K)), np.broadcast_to(0.7 * np.eye(K), (H, K, K))
    for t in range(T):
        covariance = covariance + np.einsum("hk,hl->hkl", key[t], key[t])
        error = np.einsum("hvk,hk->hv", maps, key[t]) - value[t]
        maps = maps - np.einsum("hv,hk,hkl->hvl", error, key[t], np.linalg.inv(covariance))
        np.testing.assert_allclose(outputs[t], np.einsum("hvk,hk->hv", maps, key[t]), atol=1e-10)


@pytest.mark.parametrize("form", ["recurrent", "chunk", "parallel"])
def test_a_gate_of_zero_leaves_one_token(form, x64):
    """By Sherman and Morrison, beta v (k . q / lambda) / (1 + beta k . k / lambda)."""
    inputs = arrays(T)
    inputs["log_gate"] = inputs["log_gate"].at[8].set(-jnp.inf)
    outputs = mesa(inputs, jnp.asarray(REGULARISER), form=form, chunk_size=4)[0][8]
    query, key, value, beta = (np.asarray(inputs[name][8]) for name in ("query", "key", "value", "strength"))
    read = np.sum(key * query / REGULARISER, -1) / (1 + beta * np.sum(key**2 / REGULARISER, -1))
    np.testing.assert_allclose(outputs, (beta * read)[:, None] * value, atol=1e-12)


def test_orthonormal_keys(x64):
    key = jnp.broadcast_to(jnp.eye(K)[:, None], (K, H, K))
    value = jnp.asarray(np.random.default_rng(0).standard_normal((K, H, V)))
    np.testing.assert_allclose(mesa(dict(query=key, key=key, value=value), lam(0.6))[0], value / 1.6, atol=1e-12)


def test_a_small_regulariser_recalls_exactly(x64):
    """As many keys as channels, none orthogonal to another: the optimal memory still holds them all."""
    inputs = arrays(K)
    inputs = {"query": inputs["key"], "key": inputs["key"], "value": inputs["value"]}
    state = mesa(inputs, lam(1e-9), DirectSolve())[1]
    nothing = dict(inputs, strength=jnp.zeros((K, H)))
    recalled = mesa(nothing, lam(1e-9), DirectSolve(), state=state)[0]
    np.testing.assert_allclose(recalled, inputs["value"], atol=1e-5)


def test_noiseless_dynamics_are_predicted_exactly(x64):
    """With hardly any regulariser, from the token on at which there are as many pairs of states as dimensions."""
    random = np.random.default_rng(0)
    size = 6
    transition = np.linalg.qr(random.standard_normal((size, size)))[0]
    states = [random.standard_normal(size)]
    for _ in range(20):
        states.append(transition @ states[-1])
    states = jnp.asarray(np.array(states))[:, None]
    outputs = mesa_memory(
        states[1:-1], states[:-2], states[1:-1], regulariser=jnp.full((1, size), 1e-11), solver=DirectSolve()
    )[0]
    errors = np.max(np.abs(outputs - states[2:]), axis=(1, 2))
    assert np.all(errors[size:] < 1e-8)
    assert np.all(errors[: size - 1] > 1e-2)


def test_info_is_of_each_token(x64):
    inputs = MemoryInputs(**arrays(T))

    def report(solver, form):
        rule = MesaMemory(H, K, solver=solver, chunk_size=4)
        return jax.jit(lambda inputs: rule.with_info(inputs, form=form)[2])(inputs)

    solver = ConjugateGradients(max_steps=60, tolerance=1e-12)
    info, other = report(solver, "chunk"), report(solver, "recurrent")
    assert info.iterations.shape == info.residual.shape == info.converged.shape == (T, H)
    assert np.all(info.converged & other.converged)
    assert np.all((info.iterations >= 1) & (info.iterations <= K + 1))
    assert np.max(np.abs(other.iterations - info.iterations)) <= 1
    few = report(ConjugateGradients(max_steps=1, tolerance=1e-12), "chunk")
    assert not np.any(few.converged[K:])
    np.testing.assert_array_equal(few.iterations[K:], 1)


def test_negative_gates(x64):
    """As in the loop, in all forms, with resets among them and a regulariser above all they can take away."""
    inputs = checks.draw(T)
    inputs["log_gate"][6] = -np.inf
    inputs["negative"] = np.random.default_rng(4).uniform(size=(T, H)) < 0.5
    start = TIGHTLY.start(np.random.default_rng(1))
    wanted = oracle.mesa(**inputs, regulariser=50.0, state=start)
    rule = MesaMemory(H, K, regulariser=50.0, lower=49.0, solver=TIGHT, chunk_size=4)

    def loss(values, state, form):
        result = rule(MemoryInputs(**{**given, **values}), state, form=form)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(result)), result

    given = {name: jnp.asarray(x) for name, x in inputs.items()}
    values = {name: x for name, x in given.items() if name != "negative"}
    gradients = {}
    for form in ("recurrent", "chunk", "parallel"):
        step = jax.jit(jax.grad(functools.partial(loss, form=form), argnums=(0, 1), has_aux=True))
        gradients[form], result = step(values, checks.to_jax(start))
        checks.close(result, (wanted[0], MesaState(*wanted[1])), 1e-10)
        checks.close(gradients[form], gradients["recurrent"], 1e-10)
    with pytest.raises(ValueError, match="no gates below zero"):
        DeltaMemory()(MemoryInputs(**given))


def test_condition_numbers(x64):
    rule = MesaMemory(H, K, regulariser=0.5)
    state = checks.to_jax(TIGHTLY.start(np.random.default_rng(1)))
    wanted = [np.linalg.cond(np.asarray(part) + 0.5 * np.eye(K)) for part in state.key_key]
    np.testing.assert_allclose(rule.condition_numbers(state), wanted, rtol=1e-10)


def test_regulariser_is_learned_above_its_bound():
    rule = MesaMemory(H, K)
    np.testing.assert_allclose(rule.raw_regulariser, np.log(np.exp(0.75) - 1), rtol=1e-5)
    np.testing.assert_allclose(rule.regulariser, 1.0, rtol=1e-6)
    np.testing.assert_allclose(MesaMemory(H, K, regulariser=50.0, lower=49.0).regulariser, 50.0, rtol=1e-6)


def test_the_largest_forget_gate():
    log_gate, strength = jnp.log(jnp.array([[0.5], [1.0]])), jnp.array([[0.3], [1.0]])
    limited = jnp.exp(limit_forget_gate(log_gate, strength, 0.9))
    np.testing.assert_allclose(limited, [[0.5 * (1 - 0.1 * 0.09)], [0.9]], rtol=1e-6)
    assert np.all(np.isneginf(limit_forget_gate(jnp.full((1, 1), -jnp.inf), jnp.ones((1, 1)))))
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        limit_forget_gate(log_gate, strength, 1.5)


def test_memory_grows_linearly():
    """Scratch memory of the gradient, from a length to twice that: twice as much, not four times."""

    def scratch(length):
        inputs = arrays(length)
        loss = jax.jit(jax.grad(lambda inputs: jnp.sum(mesa_memory(**inputs)[0])))
        return loss.lower(inputs).compile().memory_analysis().temp_size_in_bytes

    assert scratch(512) / scratch(256) < 2.1


def test_refusals():
    inputs = arrays(3)
    with pytest.raises(ValueError, match=r"must be above its lower bound 0\.25, not 0\.1"):
        MesaMemory(H, K, regulariser=0.1)
    with pytest.raises(ValueError, match="must be at least 0, not -1"):
        MesaMemory(H, K, lower=-1.0)
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        MesaMemory(H, K, chunk_size=0)
    with pytest.raises(ValueError, match="num_heads must be at least 1"):
        MesaMemory(0, K)
    with pytest.raises(ValueError, match=r"not \(3, 3\)"):
        MesaMemory(H, K).init_state(3, K, V, jnp.dtype(jnp.float32))
    # The shape checker of the test run refuses these as well, with another exception.
    with pytest.raises(Exception, match=r"regulariser"):
        mesa_memory(**inputs, regulariser=jnp.ones((H, K + 1)))
    with pytest.raises(Exception, match=r"structure|state"):
        MesaMemory(H, K)(MemoryInputs(**inputs), (jnp.zeros((H, K, V)),))
    with pytest.raises(UnknownNameError, match="did you mean 'jacobi'"):
        ConjugateGradients(start="jacoby")
    with pytest.raises(ValueError, match="max_steps must be at least 1"):
        ConjugateGradients(max_steps=0)
