"""The additive memory: against a loop, in all forms; decays inside a block; what memories refuse."""

import jax.numpy as jnp
import numpy as np
import pytest

import memory_checks as checks
from innerloop.nn.memory.additive import AdditiveMemory, additive_memory
from innerloop.nn.memory.chunks import decays
from innerloop.nn.memory.rule import MemoryInputs, check_inputs
from oracles import memory as oracle

ADDITIVE = checks.Memory(additive_memory, oracle.additive, checks.draw_memory)


@pytest.mark.parametrize("length", [0, 1, checks.LENGTH])
def test_forms_are_the_loop(length, x64):
    checks.check_forms(ADDITIVE, checks.draw(length), 1e-10)


def test_absent_gates_and_strengths_are_ones(x64):
    inputs = {name: x for name, x in checks.draw(checks.LENGTH).items() if name not in ("log_gate", "strength")}
    checks.check_forms(ADDITIVE, inputs, 1e-10, forms=[("recurrent", 1), ("chunk", 4)], state=False)


def test_float32_with_strong_gates():
    checks.check_forms(
        ADDITIVE, checks.draw(70, low=0.01), 1e-5, dtype=jnp.float32, forms=[("recurrent", 1), ("chunk", 64)]
    )


def test_gradients(x64):
    checks.check_gradients_agree(ADDITIVE, checks.draw(checks.LENGTH), 1e-10, forms=[("parallel", 1), ("chunk", 4)])
    checks.check_gradients_of_the_loop(ADDITIVE, checks.draw(6))


def test_states_are_handed_over(x64):
    checks.check_handing_over(ADDITIVE, checks.draw(checks.LENGTH), 1e-12)


def test_resets(x64):
    checks.check_resets(ADDITIVE, checks.draw(checks.LENGTH), 1e-10)


def test_decays_keep_their_digits_after_a_strong_gate():
    """A difference of cumulated sums would be wrong by 1e-5 here: the sums are 300, their difference is 0.01."""
    gates = np.full(64, -0.01)
    gates[:32] = -9.0
    given = np.asarray(decays(jnp.asarray(gates, jnp.float32)[None]).within[0], np.float64)
    wanted = np.exp([[gates[i + 1 : j + 1].sum() if i <= j else -np.inf for i in range(64)] for j in range(64)])
    np.testing.assert_allclose(given[32:, 32:], wanted[32:, 32:], rtol=1e-6)
    np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": jnp.ones((5, 2, 4))}, "keys have axes 't h k'"),
        ({"value": jnp.ones((4, 2, 4))}, "values need axes 't h v'"),
        ({"log_gate": jnp.zeros((5, 3))}, r"log_gate has shape \(5, 3\)"),
        ({"log_gate": jnp.zeros((5, 2)).at[3, 1].set(0.5)}, "0.5 at t=3, h=1"),
        ({"log_gate": jnp.zeros((5, 2)).at[3, 1].set(jnp.nan)}, "nan at t=3, h=1"),
        ({"strength": jnp.zeros((5, 2)).at[0, 1].set(-1.0)}, "-1 at t=0, h=1"),
        ({"log_strength": jnp.zeros((5, 2))}, "give 'strength'"),
    ],
)
def test_refusals(change, message):
    inputs = {
        "query": jnp.ones((5, 2, 3)),
        "key": jnp.ones((5, 2, 3)),
        "value": jnp.ones((5, 2, 4)),
    }
    with checks.unchecked_shapes(), pytest.raises(ValueError, match=message):
        check_inputs("additive_memory", MemoryInputs(**{**inputs, **change}))
    with pytest.raises(ValueError, match="at least 1"):
        AdditiveMemory(0)


def test_a_memory_of_another_size_is_refused():
    keys, values = jnp.ones((5, 2, 3)), jnp.ones((5, 2, 4))
    with checks.unchecked_shapes(), pytest.raises(ValueError, match=r"memory of shape \(2, 3, 4\)"):
        AdditiveMemory()(MemoryInputs(keys, keys, values), jnp.zeros((2, 4, 3)))
