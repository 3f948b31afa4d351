"""`fit`: exact steps, one compilation, seeds, records, resume, failures."""

import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.errors import InnerloopError
from innerloop.core.rng import named_key
from innerloop.train.checkpoint import Checkpoints
from innerloop.train.loop import fit


def noisy_step(key, carry):
    """A step whose result depends on every key and on the order of the steps."""
    noise = jax.random.normal(key, carry.shape)
    carry = 0.9 * carry + noise
    return carry, {"norm": jnp.linalg.norm(carry), "first": carry[0]}


def explicit(seed, steps, carry, name="train"):
    for t in range(steps):
        carry, _ = noisy_step(named_key(seed, name, t), carry)
    return carry


@pytest.fixture(scope="module")
def uninterrupted():
    return fit(noisy_step, jnp.zeros((4, 3)), steps=60, seeds=range(4), record_every=5)


def test_equals_an_explicit_loop():
    result = fit(noisy_step, jnp.ones(3), steps=17, seeds=5)
    np.testing.assert_allclose(result.carry, explicit(5, 17, jnp.ones(3)), rtol=1e-5)
    assert result.step == 17 and result.ended == "finished"
    assert result.history("train", "norm").shape == (17,)


def test_seeds_train_together_as_apart(uninterrupted):
    for index, seed in enumerate(range(4)):
        np.testing.assert_allclose(uninterrupted.carry[index], explicit(seed, 60, jnp.zeros(3)), rtol=1e-5)


def test_seeds_spread_over_devices(uninterrupted):
    assert jax.device_count() == 4
    assert len(uninterrupted.carry.sharding.device_set) == 4
    alone = fit(noisy_step, jnp.zeros((4, 3)), steps=60, seeds=range(4), record_every=5, devices=jax.devices()[:1])
    np.testing.assert_array_equal(alone.carry, uninterrupted.carry)
    assert len(fit(noisy_step, jnp.zeros((6, 3)), steps=2, seeds=range(6)).carry.sharding.device_set) == 3


def test_seeds_one_by_one_learn_the_same(uninterrupted):
    result = fit(noisy_step, jnp.zeros((4, 3)), steps=60, seeds=range(4), record_every=5, one_by_one=True)
    np.testing.assert_allclose(result.carry, uninterrupted.carry, rtol=1e-5)
    assert result.history("train", "norm").shape == (12, 4)


@pytest.mark.parametrize("chunk_seconds", [0.0, 1e-3, 10.0])
def test_chunk_length_changes_nothing(uninterrupted, chunk_seconds):
    result = fit(noisy_step, jnp.zeros((4, 3)), steps=60, seeds=range(4), record_every=5, chunk_seconds=chunk_seconds)
    np.testing.assert_array_equal(result.carry, uninterrupted.carry)
    np.testing.assert_array_equal(result.history("train", "norm"), uninterrupted.history("train", "norm"))


def test_records_are_means_over_windows():
    fine = fit(noisy_step, jnp.zeros(3), steps=23)
    coarse = fit(noisy_step, jnp.zeros(3), steps=23, record_every=5)
    assert [record.step for record in coarse.records] == [5, 10, 15, 20, 23]
    values = fine.history("train", "norm")
    expected = [values[i : i + 5].mean() for i in range(0, 23, 5)]
    np.testing.assert_allclose(coarse.history("train", "norm"), expected, rtol=1e-6)


def test_evaluation_uses_one_key_and_its_own_rhythm():
    def evaluate(key, carry):
        return {"draw": jax.random.uniform(key), "level": carry[0]}

    result = fit(noisy_step, jnp.zeros(3), steps=25, record_every=5, evaluate=evaluate, evaluate_every=10)
    evaluations = [record for record in result.records if record.phase == "evaluate"]
    assert [record.step for record in evaluations] == [0, 10, 20, 25]
    assert len({float(record.values["draw"]) for record in evaluations}) == 1
    np.testing.assert_allclose(evaluations[1].values["level"], explicit(0, 10, jnp.zeros(3))[0], rtol=1e-5)
    assert result.records.index(evaluations[0]) == 0


def test_step_is_compiled_exactly_once(caplog):
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level(logging.WARNING):
            fit(noisy_step, jnp.zeros(3), steps=57, record_every=2, chunk_seconds=1e-4)
    finally:
        jax.config.update("jax_log_compiles", False)
    finished = [r.getMessage() for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
    assert sum("run_chunk" in message for message in finished) == 1, finished


def test_caller_keeps_her_carry():
    carry = jnp.ones(3)
    fit(noisy_step, carry, steps=3)
    np.testing.assert_array_equal(carry, np.ones(3))


def test_stop_ends_all_seeds_together():
    def evaluate(key, carry):
        return {"level": carry[0]}

    calls = []

    def stop(metrics):
        calls.append(metrics["level"].shape)
        return len(calls) == 3

    result = fit(
        noisy_step, jnp.zeros((2, 3)), steps=100, seeds=(0, 1), evaluate=evaluate, evaluate_every=10, stop=stop
    )
    assert (result.step, result.ended) == (20, "stopped")
    assert calls == [(2,)] * 3


def test_resume_after_pause_is_bit_for_bit(tmp_path, uninterrupted):
    records = []
    pauses = iter([False, True, False, False, True])
    for _ in range(3):
        checkpoints = Checkpoints(tmp_path / "c")
        result = fit(
            noisy_step,
            jnp.zeros((4, 3)),
            steps=60,
            seeds=range(4),
            record_every=5,
            checkpoints=checkpoints,
            pause=lambda: next(pauses, False),
            chunk_seconds=0.0,
            on_records=records.extend,
        )
        checkpoints.close()
    assert result.ended == "finished"
    np.testing.assert_array_equal(result.carry, uninterrupted.carry)
    norms = np.stack([record.values["norm"] for record in records])
    np.testing.assert_array_equal(norms, uninterrupted.history("train", "norm"))


def test_finished_training_is_only_read_back(tmp_path, uninterrupted):
    for attempt in range(2):
        checkpoints = Checkpoints(tmp_path / "c")
        result = fit(noisy_step, jnp.zeros((4, 3)), steps=60, seeds=range(4), record_every=5, checkpoints=checkpoints)
        checkpoints.close()
        assert (len(result.records) == 0) == (attempt == 1)
        np.testing.assert_array_equal(result.carry, uninterrupted.carry)


def failing_step(key, carry):
    """Seeds are told apart by the first entry of the carry; one of them fails at step 12."""
    seed, count = carry
    count = count + 1.0
    return (seed, count), {"loss": jnp.where((seed == 1.0) & (count == 13.0), jnp.nan, count)}


def test_failure_is_named_and_the_others_go_on(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    carry = (jnp.arange(3.0), jnp.zeros(3))
    result = fit(
        failing_step,
        carry,
        steps=30,
        seeds=range(3),
        checkpoints=checkpoints,
        checkpoint_seconds=0.0,
        chunk_seconds=0.0,
    )
    checkpoints.close()
    assert result.failures == {1: 12}
    assert result.ended == "finished" and result.step == 30
    assert [path.name for path in (tmp_path / "c-before-failure").iterdir()] == ["12"]


def test_training_ends_when_every_seed_failed(tmp_path):
    for chunk_seconds in (0.0, 10.0):
        result = fit(failing_step, (jnp.ones(2), jnp.zeros(2)), steps=500, seeds=(4, 7), chunk_seconds=chunk_seconds)
        assert result.failures == {4: 12, 7: 12}
        assert (result.ended, result.step, len(result.records)) == ("failed", 13, 13)


def test_state_that_becomes_infinite_is_seen_without_an_info():
    def step(key, carry):
        return carry * 1e30, {"loss": jnp.asarray(0.0)}

    assert 0 in fit(step, jnp.ones(2), steps=10).failures


def test_bad_input_is_refused_early():
    with pytest.raises(ValueError, match="steps"):
        fit(noisy_step, jnp.zeros(3), steps=-1)
    with pytest.raises(ValueError, match="seeds"):
        fit(noisy_step, jnp.zeros(3), steps=1, seeds=[])
    with pytest.raises(ValueError, match="multiple"):
        fit(noisy_step, jnp.zeros(3), steps=100, record_every=10, evaluate_every=15)
    with pytest.raises(InnerloopError, match=r"leading axis of 2"):
        fit(noisy_step, jnp.zeros(3), steps=1, seeds=(0, 1))
    with pytest.raises(InnerloopError, match=r"random key"):
        fit(lambda key, carry: (carry, {}), (jax.random.key(0),), steps=1)
    with pytest.raises(InnerloopError, match=r"float32\(3,\) into float32\(1,\)"):
        fit(lambda key, carry: (carry[:1], {}), jnp.zeros(3), steps=1)
    with pytest.raises(InnerloopError, match=r"info\['a'\] must be a scalar"):
        fit(lambda key, carry: (carry, {"a": carry}), jnp.zeros(3), steps=1)
    with pytest.raises(InnerloopError, match="not an array"):
        fit(lambda key, carry: ((carry[0], "b"), {}), (jnp.zeros(3), "a"), steps=1)


def test_zero_steps_return_the_carry():
    result = fit(noisy_step, jnp.ones(3), steps=0)
    np.testing.assert_array_equal(result.carry, np.ones(3))
    assert result.records == []


def test_modules_with_static_parts_are_carried():
    model = eqx.nn.MLP(2, 2, 4, 1, key=jax.random.key(0))

    def step(key, model):
        return eqx.apply_updates(model, jax.tree.map(jnp.ones_like, eqx.filter(model, eqx.is_array))), {}

    result = fit(step, model, steps=2)
    np.testing.assert_allclose(result.carry.layers[0].weight, model.layers[0].weight + 2, rtol=1e-6)
    assert result.carry.activation is model.activation
