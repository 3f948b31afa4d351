"""Key-value skills: the sequences, the two contexts, and the loss of the best possible predictor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.core.errors import UnknownNameError
from innerloop.tasks.tokens import certain_logits
from oracles.skills import count_based_loss

TASK = il.KeyValueSkills()


def test_bayes_loss_is_that_of_a_predictor_that_counts():
    tokens = jax.vmap(lambda key: TASK.sample(key, "test").inputs)(jax.random.split(jax.random.key(0), 10_000))
    simulated = np.mean([count_based_loss(sequence, 16, 16) for sequence in np.asarray(tokens)])
    assert TASK.bayes_loss() == pytest.approx(1.21053, abs=5e-6)
    assert simulated == pytest.approx(TASK.bayes_loss(), abs=0.01)


def test_values_follow_their_keys_and_are_asked_for_at_them():
    tokens, target = TASK.sample(jax.random.key(1))
    keys, values = np.asarray(tokens).reshape(-1, 2).T
    assert tokens.shape == target.shape == (64,)
    assert np.all(keys < 16) and np.all((values >= 16) & (values < 32)) and TASK.vocabulary == 32
    assert np.array_equal(target[::2], values) and np.all(target[1::2] < 0)
    assert len(dict(zip(keys, values, strict=True))) == len(set(zip(keys, values, strict=True)))  # it is a map


def test_skills_differ_between_sequences():
    skills = jax.vmap(TASK.skill)(jax.random.split(jax.random.key(0), 1000))
    counts = np.bincount(np.asarray(skills).ravel(), minlength=32)
    assert np.all(counts[:16] == 0) and np.all(np.abs(counts[16:] - 1000) < 5 * np.sqrt(1000))


def test_complementary_contexts_share_no_key_and_show_all():
    found = TASK.contexts(jax.random.key(0))
    assert np.all(found.first_seen ^ found.second_seen) and int(found.first_seen.sum()) == 8
    for tokens, seen in ((found.first, found.first_seen), (found.second, found.second_seen)):
        keys, values = np.asarray(tokens).reshape(-1, 2).T
        assert set(keys) == set(np.flatnonzero(seen)) and len(keys) == 8
        assert np.array_equal(values, np.asarray(found.skill)[keys])


def test_overlapping_contexts_are_drawn_with_replacement():
    found = jax.vmap(lambda key: TASK.contexts(key, "overlapping"))(jax.random.split(jax.random.key(0), 200))
    expected = 16 * (1 - (15 / 16) ** 8)
    assert float(found.first_seen.sum(1).mean()) == pytest.approx(expected, abs=0.25)
    assert bool(jnp.any(found.first_seen & found.second_seen))


def test_noise_shows_wrong_values_and_asks_for_right_ones():
    task = il.KeyValueSkills(noise=0.25)
    tokens, target = jax.vmap(task.sample)(jax.random.split(jax.random.key(0), 400))
    wrong = np.asarray(tokens[:, 1::2] != target[:, ::2])
    assert wrong.mean() == pytest.approx(0.25, abs=0.02)
    assert np.all(np.asarray(tokens[:, 1::2]) >= 16)
    always = il.KeyValueSkills(noise=1.0).sample(jax.random.key(0))
    assert np.all(np.asarray(always.inputs[1::2] != always.target[::2]))


def test_the_last_change_counts():
    task = il.KeyValueSkills(num_keys=2, num_pairs=12, change=0.3)
    tokens, target = jax.vmap(task.sample)(jax.random.split(jax.random.key(0), 2000))
    keys, values = np.asarray(tokens)[:, ::2], np.asarray(tokens)[:, 1::2]
    assert np.array_equal(values, np.asarray(target)[:, ::2])
    repeated = changed = 0
    for row_keys, row_values in zip(keys, values, strict=True):
        latest = {}
        for key, value in zip(row_keys, row_values, strict=True):
            repeated += key in latest
            changed += latest.get(key, value) != value
            latest[key] = value
    assert changed / repeated == pytest.approx(0.3 * 15 / 16, abs=0.01)
    always = il.KeyValueSkills(num_keys=2, num_pairs=64, change=1.0).sample(jax.random.key(0))
    assert len(np.unique(np.asarray(always.inputs)[1::2])) > 8


def test_the_battery():
    il.testing.check_task(TASK, prediction=lambda example: certain_logits(example.target, 32))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="num_values must be at least 2"):
        il.KeyValueSkills(num_values=1)
    with pytest.raises(ValueError, match=r"noise must lie in \[0, 1\]"):
        il.KeyValueSkills(noise=1.5)
    with pytest.raises(UnknownNameError, match="did you mean 'overlapping'"):
        TASK.contexts(jax.random.key(0), "overlaping")
    with pytest.raises(ValueError, match="need 18 keys, but there are 16"):
        TASK.contexts(jax.random.key(0), num_pairs=9)
