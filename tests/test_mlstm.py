"""mLSTM: against an unstabilised loop, in all forms, and where the loop's exponentials overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memory_checks as checks
from innerloop.nn.memory.mlstm import EMPTY, NormalisedMemory, NormalisedState, mlstm_memory, running_maximum
from innerloop.nn.memory.rule import MemoryInputs
from oracles import memory as oracle


def start(random):
    memory = checks.draw_memory(random)
    normaliser = random.standard_normal((checks.HEADS, checks.KEY_SIZE))
    return NormalisedState(memory, normaliser, random.standard_normal(checks.HEADS))


def to_loop(state):
    """What the state stands for."""
    scale = (jnp if isinstance(state.maximum, jax.Array) else np).exp(state.maximum)
    return scale[:, None, None] * state.memory, scale[:, None] * state.normaliser


MLSTM = checks.Memory(mlstm_memory, oracle.mlstm, start, to_loop)


def draw(length, seed=0, spread=2.0, low=0.3):
    """Strengths between `exp(-3 spread)` and `exp(3 spread)`, say: the divisor is 1 for some tokens only."""
    inputs = checks.draw(length, seed, low=low)
    inputs["log_strength"] = spread * np.random.default_rng(seed + 9).standard_normal(inputs.pop("strength").shape)
    return inputs


@pytest.mark.parametrize("length", [0, 1, checks.LENGTH])
def test_forms_are_the_loop(length, x64):
    checks.check_forms(MLSTM, draw(length), 1e-10)


def test_both_divisors_occur():
    """The inputs of these tests reach both branches of the maximum."""
    inputs = draw(checks.LENGTH)
    strength = np.exp(inputs.pop("log_strength"))
    products = oracle.additive(**{**inputs, "value": np.ones((checks.LENGTH, checks.HEADS, 1))}, strength=strength)[0]
    assert 0.2 < np.mean(np.abs(products) > 1) < 0.8


@pytest.mark.parametrize("given_as", ["strength", "nothing"])
def test_plain_strengths(given_as, x64):
    inputs = checks.draw(checks.LENGTH)
    if given_as == "nothing":
        del inputs["strength"], inputs["log_gate"]
    checks.check_forms(MLSTM, inputs, 1e-10, forms=[("recurrent", 1), ("chunk", 4)], state=False)


@pytest.mark.parametrize(("spread", "low"), [(2.0, 0.01), (2.0, 0.9), (20.0, 0.5)])
def test_float32(spread, low):
    """Up to strengths between 1e-26 and 1e26, which float32 cannot add.

    Both numerator and divisor may be small differences of large sums, and are as exact as these sums are: an
    error of 1e-5 of the sums of absolute values is an error of 1e-5 for keys and queries without signs.
    """
    inputs = {name: np.asarray(x, np.float32).astype(np.float64) for name, x in draw(70, 0, spread, low).items()}
    wanted = oracle.mlstm(**inputs)[0]
    signed = inputs | {"strength": np.exp(inputs["log_strength"])}
    del signed["log_strength"]
    sizes = {name: x if name == "log_gate" else np.abs(x) for name, x in signed.items()}
    ones = {"value": np.ones((70, checks.HEADS, 1))}
    divisor = np.maximum(np.abs(oracle.additive(**signed | ones)[0]), 1)
    numerator_size, divisor_size = oracle.additive(**sizes)[0], oracle.additive(**sizes | ones)[0]
    limit = 1e-5 * (numerator_size + np.abs(wanted) * divisor_size) / divisor
    for form, chunk_size in [("recurrent", 1), ("chunk", 32)]:
        given = checks.run(MLSTM, checks.to_jax(inputs, jnp.float32), form=form, chunk_size=chunk_size)[0]
        assert np.all(np.abs(np.asarray(given, np.float64) - wanted) <= limit)


def test_float32_without_cancellation():
    inputs = draw(70, spread=20.0, low=0.5)
    inputs |= {name: np.abs(inputs[name]) for name in ("query", "key")}
    checks.check_forms(MLSTM, inputs, 1e-5, dtype=jnp.float32, forms=[("recurrent", 1), ("chunk", 32)], state=False)


def test_gradients_agree(x64):
    checks.check_gradients_agree(MLSTM, draw(checks.LENGTH), 1e-10, forms=[("parallel", 1), ("chunk", 4)])


def test_gradients_agree_in_float32():
    inputs = draw(checks.LENGTH, low=0.01)
    checks.check_gradients_agree(MLSTM, inputs, 1e-5, dtype=jnp.float32, forms=[("chunk", 7)])


def test_gradients_are_finite_differences_of_the_loop(x64):
    checks.check_gradients_of_the_loop(MLSTM, draw(6))


def test_states_are_handed_over(x64):
    checks.check_handing_over(MLSTM, draw(checks.LENGTH), 1e-12)


def test_resets(x64):
    checks.check_resets(MLSTM, draw(checks.LENGTH), 1e-10)


def test_vmap(x64):
    checks.check_vmap(MLSTM, draw(checks.LENGTH), 1e-12)


@settings(derandomize=True, deadline=None, max_examples=5)
@given(length=st.integers(0, 12), chunk_size=st.integers(1, 14), seed=st.integers(0, 3))
def test_chunk_size_changes_nothing(length, chunk_size, seed):
    inputs = checks.to_jax(draw(length, seed=seed))
    checks.close(checks.run(MLSTM, inputs, chunk_size=chunk_size), checks.run(MLSTM, inputs, form="recurrent"), 1e-5)


def test_the_maximum_is_the_loops(x64):
    log_gate, log_strength = np.random.default_rng(0).standard_normal((2, 9, 2))
    log_gate[[3, 4]] = -np.inf
    log_strength[[4, 7]] = -np.inf
    wanted = [np.array([0.5, EMPTY])]
    for gate, strength in zip(log_gate, log_strength, strict=True):
        wanted.append(np.maximum(np.maximum(gate + wanted[-1], strength), EMPTY))
    given = jax.jit(running_maximum)(*map(jnp.asarray, (log_gate, log_strength, wanted[0])))
    np.testing.assert_allclose(given, wanted, rtol=1e-14)


def test_the_gradient_of_the_state_itself(x64):
    """Memory, normaliser and maximum are functions of the inputs, each with its own derivative."""
    inputs, begin = checks.to_jax(draw(6)), checks.to_jax(start(np.random.default_rng(1)))

    @jax.jit
    def loss(gate, log_strength, begin):
        changed = {**inputs, "log_gate": gate, "log_strength": log_strength}
        return sum(jnp.sum(jnp.sin(x)) for x in mlstm_memory(**changed, state=begin, chunk_size=4)[1])

    point = (inputs["log_gate"], inputs["log_strength"], begin)
    direction = jax.tree.map(jnp.cos, point)
    ends = [loss(*jax.tree.map(lambda a, b, s=s: a + s * b, point, direction)) for s in (1e-5, -1e-5)]
    slope = jax.jvp(loss, point, direction)[1]
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-5, rtol=1e-7)


def test_nothing_overflows():
    """Strengths of exp(300), of zero and of exp(-300), after one another, with resets: finite, and weighted means."""
    inputs = draw(8)
    inputs["log_strength"][:] = np.array([-np.inf, 300, -300, 0, -np.inf, 80, 300, -np.inf])[:, None]
    inputs["log_gate"][[0, 3, 7]] = -np.inf
    inputs["query"][5] = 0.0
    expected, final = oracle.mlstm(**inputs)  # exp(300) is a float64
    for form, chunk_size in [("recurrent", 1), ("chunk", 4)]:
        arguments = checks.to_jax(inputs, jnp.float32)
        outputs, state = checks.run(MLSTM, arguments, form=form, chunk_size=chunk_size)
        checks.close(outputs, expected, 1e-5)
        checks.close(to_loop(state), final, 1e-5)
        empty = checks.to_jax(NormalisedMemory().init_state(2, 3, 4, jnp.dtype("float32")))
        slopes = checks.gradients(MLSTM, arguments, empty, form=form, chunk_size=chunk_size)
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(slopes))


def test_an_empty_memory_reads_as_zero():
    inputs = checks.to_jax(draw(3), jnp.float32)
    inputs["log_strength"] = jnp.full((3, checks.HEADS), -jnp.inf)
    outputs, state = checks.run(MLSTM, inputs)
    np.testing.assert_array_equal(outputs, 0)
    np.testing.assert_array_equal(state.memory, 0)
    assert bool(jnp.all(jnp.isfinite(state.maximum)))


def test_rule_and_refusals():
    inputs = checks.to_jax(draw(5), jnp.float32)
    rule = NormalisedMemory(chunk_size=2)
    empty = rule.init_state(checks.HEADS, checks.KEY_SIZE, checks.VALUE_SIZE, jnp.dtype("float32"))
    checks.close(rule(MemoryInputs(**inputs)), rule(MemoryInputs(**inputs), empty), 1e-7)
    checks.close(rule(MemoryInputs(**inputs)), mlstm_memory(**inputs, chunk_size=2), 1e-7)
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        NormalisedMemory(chunk_size=0)
    with checks.unchecked_shapes(), pytest.raises(ValueError, match=r"memory of shape \(2, 3, 4\)"):
        rule(MemoryInputs(**inputs), empty._replace(memory=empty.memory[:, :2]))
    with pytest.raises(ValueError, match="not both"):
        rule(MemoryInputs(**{**inputs, "strength": inputs["log_gate"] ** 2}))
