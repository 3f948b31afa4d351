"""Channel gates: against a loop, in all forms, for gates from zero to one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memory_checks as checks
from innerloop.nn.memory.channel_gated import ChannelGatedMemory, channel_gated_memory, channel_scores
from innerloop.nn.memory.rule import MemoryInputs
from oracles import memory as oracle

CHANNELS = checks.Memory(channel_gated_memory, oracle.additive, checks.draw_memory)


def draw(length, seed=0, low=0.3):
    return checks.draw(length, seed, gates="channel", low=low)


@pytest.mark.parametrize("length", [0, 1, checks.LENGTH])
def test_forms_are_the_loop(length, x64):
    checks.check_forms(CHANNELS, draw(length), 1e-10)


def test_gates_may_be_absent_or_per_head(x64):
    forms = [("recurrent", 1), ("chunk", 4)]
    checks.check_forms(CHANNELS, checks.draw(6, gates="head"), 1e-10, forms=forms)
    inputs = draw(6)
    del inputs["log_gate"], inputs["strength"]
    checks.check_forms(CHANNELS, inputs, 1e-10, forms=forms, state=False)


@pytest.mark.parametrize("gates", [[0.01], [0.01, 0.999], [1e-30, 0.5, 1.0], [0.0, 0.01, 0.999]])
def test_strong_gates_in_float32(gates):
    """All tokens and channels draw from these gates: a strong one may come right before a weak one."""
    inputs = draw(70)
    with np.errstate(divide="ignore"):
        inputs["log_gate"] = np.log(np.random.default_rng(3).choice(gates, inputs["log_gate"].shape))
    checks.check_forms(
        CHANNELS, inputs, 1e-5, dtype=jnp.float32, forms=[("recurrent", 1), ("chunk", 32), ("parallel", 1)]
    )


def test_gradients_with_strong_gates_in_float32():
    inputs = draw(checks.LENGTH)
    inputs["log_gate"] = np.log(np.random.default_rng(3).choice([0.01, 0.999], inputs["log_gate"].shape))
    checks.check_gradients_agree(CHANNELS, inputs, 1e-5, dtype=jnp.float32, forms=[("chunk", 8)])


def test_gradients_agree(x64):
    checks.check_gradients_agree(CHANNELS, draw(checks.LENGTH), 1e-10)


def test_gradients_are_finite_differences_of_the_loop(x64):
    checks.check_gradients_of_the_loop(CHANNELS, draw(6))


def test_states_are_handed_over(x64):
    checks.check_handing_over(CHANNELS, draw(checks.LENGTH), 1e-12)


def test_resets(x64):
    checks.check_resets(CHANNELS, draw(checks.LENGTH), 1e-10)


def test_one_channel_may_forget_alone(x64):
    """A gate of zero in one channel: finite gradients, the same in all forms, and zero for that gate."""
    inputs = draw(checks.LENGTH)
    inputs["log_gate"][4, 0, 1] = inputs["log_gate"][5, 1, 2] = -np.inf
    checks.check_forms(CHANNELS, inputs, 1e-10, forms=[("recurrent", 1), ("chunk", 4)])
    checks.check_gradients_agree(CHANNELS, inputs, 1e-10, forms=[("chunk", 4)])


def test_vmap(x64):
    checks.check_vmap(CHANNELS, draw(checks.LENGTH), 1e-12)


@settings(derandomize=True, deadline=None, max_examples=6)
@given(length=st.integers(0, 12), chunk_size=st.integers(1, 14), seed=st.integers(0, 3))
def test_chunk_size_changes_nothing(length, chunk_size, seed):
    inputs = checks.to_jax(draw(length, seed=seed))
    checks.close(
        checks.run(CHANNELS, inputs, chunk_size=chunk_size), checks.run(CHANNELS, inputs, form="recurrent"), 1e-5
    )


def test_scores_are_products_of_gates(x64):
    query, key, gate = np.random.default_rng(0).uniform(0, 1, (3, 8, 3))
    scores, fade = jax.jit(channel_scores)(*map(jnp.asarray, (query, key, gate)))
    for j in range(8):
        np.testing.assert_allclose(fade.from_start[j], np.prod(gate[: j + 1], axis=0), rtol=1e-12)
        np.testing.assert_allclose(fade.to_end[j], np.prod(gate[j + 1 :], axis=0), rtol=1e-12)
        for i in range(8):
            wanted = np.sum(query[j] * key[i] * np.prod(gate[i + 1 : j + 1], axis=0)) if i <= j else 0.0
            np.testing.assert_allclose(scores[j, i], wanted, rtol=1e-12)
    np.testing.assert_allclose(fade.whole, np.prod(gate, axis=0), rtol=1e-12)


def test_rule_and_refusals():
    inputs = checks.to_jax(draw(5), jnp.float32)
    rule = ChannelGatedMemory(chunk_size=2)
    empty = rule.init_state(checks.HEADS, checks.KEY_SIZE, checks.VALUE_SIZE, jnp.dtype("float32"))
    checks.close(rule(MemoryInputs(**inputs)), rule(MemoryInputs(**inputs), empty), 1e-7)
    checks.close(rule(MemoryInputs(**inputs)), channel_gated_memory(**inputs, chunk_size=2), 1e-7)
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        ChannelGatedMemory(chunk_size=0)
    with checks.unchecked_shapes(), pytest.raises(ValueError, match=r"memory of shape \(2, 3, 4\)"):
        rule(MemoryInputs(**inputs), empty[:, :2])
    with pytest.raises(ValueError, match="log_gate has shape"):
        rule(MemoryInputs(**{**inputs, "log_gate": inputs["value"]}))
