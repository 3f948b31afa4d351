"""Dynamical systems: the laws that are drawn from, what the sequences are, what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.errors import UnknownNameError
from innerloop.tasks import LinearSystem, RegressionSequence, constructed_tokens, random_transition
from innerloop.testing import check_task

TASKS = {
    "partly observed": LinearSystem(5, 2, length=6, observation_noise=0.1),
    "contracting, swept": LinearSystem(
        3, length=6, transition="contracting", state_limit=2.0, process_noise=jnp.asarray(0.1)
    ),
    "fixed, nonlinear, constructed tokens": LinearSystem(
        3, length=6, transition="fixed", network_size=7, tokens="constructed"
    ),
    "pairs of two tasks": RegressionSequence(3, 4, num_tasks=2),
}


def draw(task, count=4000, split="train"):
    return jax.tree.map(np.asarray, examples(task, jax.random.split(jax.random.key(0), count), split))


@eqx.filter_jit
def examples(task, keys, split):
    return jax.vmap(lambda key: task.sample(key, split))(keys)


@pytest.mark.parametrize("name", TASKS)
def test_battery(name):
    check_task(TASKS[name])


def test_orthogonal_matrices_are_uniform():
    """Under the Haar measure E tr(W) = 0 and E tr(W)^2 = 1; QR without the fix of signs has E tr(W) < 0."""
    keys = jax.random.split(jax.random.key(0), 20_000)
    matrices = np.asarray(jax.jit(jax.vmap(lambda key: random_transition(key, 4)))(keys), np.float64)
    np.testing.assert_allclose(matrices @ np.swapaxes(matrices, 1, 2), np.broadcast_to(np.eye(4), matrices.shape),
                               atol=1e-5)  # fmt: skip
    traces = np.trace(matrices, axis1=1, axis2=2)
    assert abs(traces.mean()) < 4 / np.sqrt(20_000)
    np.testing.assert_allclose(np.mean(traces**2), 1.0, atol=0.05)
    np.testing.assert_allclose(np.mean(traces[:, None, None] * matrices, axis=0), np.eye(4) / 4, atol=0.02)


@pytest.mark.parametrize("size", [4, 5])
def test_contracting_matrices_have_eigenvalues_of_these_moduli(size):
    keys = jax.random.split(jax.random.key(0), 500)
    matrices = jax.vmap(lambda key: random_transition(key, size, "contracting"))(keys)
    moduli = np.abs(np.linalg.eigvals(np.asarray(matrices, np.float64)))
    assert moduli.min() >= 0.3 - 1e-4 and moduli.max() <= 0.9 + 1e-4
    np.testing.assert_allclose(moduli.mean(), 0.6, atol=0.02)
    assert np.unique(np.sign(np.linalg.det(np.asarray(matrices)))).size == (2 if size % 2 else 1)


def test_each_sequence_has_its_own_linear_system():
    task = LinearSystem(3, length=12, process_noise=0.0)
    states, after = draw(task, 50)
    for now, then in zip(states.astype(np.float64), after, strict=True):
        fitted, _, rank, _ = np.linalg.lstsq(now, then, rcond=None)
        assert rank == 3
        np.testing.assert_allclose(now @ fitted, then, atol=1e-4)
        np.testing.assert_allclose(fitted @ fitted.T, np.eye(3), atol=1e-3)
    np.testing.assert_array_equal(states[:, 1:], after[:, :-1])


def test_a_fixed_system_is_shared():
    task = LinearSystem(3, length=6, process_noise=0.0, transition="fixed")
    matrix = np.asarray(random_transition(task_key(), 3))
    for split in ("train", "test"):
        states, after = draw(task, 20, split)
        np.testing.assert_allclose(states @ matrix.T, after, atol=1e-5)


def task_key():
    from innerloop.core.rng import named_key

    return named_key(0, "transition")


def test_noise_has_its_variance():
    def with_noise(process, observation):  # numbers as arrays: one compilation
        return draw(
            LinearSystem(3, length=6, process_noise=jnp.asarray(process), observation_noise=jnp.asarray(observation))
        )

    still, (noiseless, _) = with_noise(0.25, 0.5)[0], with_noise(0.25, 0.0)
    np.testing.assert_allclose(np.var(still - noiseless), 0.5, rtol=0.03)
    np.testing.assert_allclose(np.mean(noiseless**2, axis=(0, 2)), 1.0 + 0.25 * np.arange(6), rtol=0.06)
    quiet, _ = with_noise(0.0, 0.0)
    np.testing.assert_allclose(np.sum(quiet**2, axis=2), np.sum(quiet[:, :1] ** 2, axis=2).repeat(6, 1), rtol=1e-4)


def test_partial_observations_have_their_variance():
    states, _ = draw(LinearSystem(6, 2, length=4, process_noise=0.0))
    np.testing.assert_allclose(np.mean(states**2), 6 * 0.5, rtol=0.05)


def test_the_state_is_limited():
    states, after = draw(LinearSystem(3, length=6, process_noise=4.0, state_limit=2.0), 200)
    assert np.abs(after).max() == 2.0 and np.abs(states[:, 1:]).max() == 2.0


def test_the_nonlinear_map_is_one_for_all_sequences_and_the_transition_is_not():
    """In one dimension W = +-1 is all that differs: the same state goes to the same magnitude."""
    states, after = draw(LinearSystem(1, length=1, process_noise=0.0, network_size=7), 400)
    order = np.argsort(states[:, 0, 0])
    magnitudes = np.abs(after[order, 0, 0])
    assert np.abs(np.diff(magnitudes))[50:-50].max() < 0.1
    assert {-1.0, 1.0} <= set(np.sign(after[:, 0, 0]))


def test_constructed_tokens_bind_neighbours(x64):
    numbers = np.random.default_rng(0)
    observations, start = numbers.standard_normal((4, 2)), numbers.standard_normal((2, 2))
    tokens = np.asarray(constructed_tokens(jnp.asarray(observations), start=jnp.asarray(start)))
    before = np.concatenate([np.zeros((1, 2)), observations[:-1]])
    np.testing.assert_allclose(tokens, np.block([[observations @ start.T, observations, observations, before]]))
    standard = LinearSystem(2, length=4).sample(jax.random.key(1))
    constructed = LinearSystem(2, length=4, tokens="constructed").sample(jax.random.key(1))
    np.testing.assert_array_equal(constructed_tokens(standard.inputs), constructed.inputs)


def test_loss_is_summed_over_coordinates_and_averaged_over_time():
    task = LinearSystem(3, length=6)
    example = task.sample(jax.random.key(0))
    wrong = example.target + jnp.asarray([1.0, 0.0, 2.0])[None]
    assert float(task.loss(wrong, example)) == pytest.approx(2.5)
    assert float(task.metrics(wrong, example)["last_loss"]) == pytest.approx(2.5)


def test_pairs_are_labelled_by_the_weights_of_their_task():
    pairs, labels = draw(RegressionSequence(3, 10, num_tasks=2), 20)
    np.testing.assert_array_equal(pairs[:, :, 1], labels)
    for x, y in ((pairs[:, :5, 0], labels[:, :5]), (pairs[:, 5:, 0], labels[:, 5:])):
        for inputs, outputs in zip(x.astype(np.float64), y, strict=True):
            weights = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
            np.testing.assert_allclose(inputs @ weights, outputs, atol=1e-4)
            np.testing.assert_allclose(weights @ weights.T, np.eye(3), atol=1e-3)
    inputs = pairs[0, :, 0].astype(np.float64)  # one linear map does not explain both tasks
    assert np.abs(inputs @ np.linalg.lstsq(inputs, labels[0], rcond=None)[0] - labels[0]).max() > 0.1


@pytest.mark.parametrize(
    ("error", "match", "make"),
    [
        (ValueError, "state_size must be at least 1", lambda: LinearSystem(0)),
        (ValueError, "observed_size must be at least 1", lambda: LinearSystem(3, 0)),
        (ValueError, "process_noise must not be negative", lambda: LinearSystem(3, process_noise=-0.1)),
        (ValueError, "state_limit must be above 0", lambda: LinearSystem(3, state_limit=0.0)),
        (UnknownNameError, "orthogonal", lambda: LinearSystem(3, transition="ortogonal")),
        (UnknownNameError, "constructed", lambda: LinearSystem(3, tokens="construct")),
        (UnknownNameError, "contracting", lambda: random_transition(jax.random.key(0), 3, "contracted")),
        (ValueError, "cannot be shared out", lambda: RegressionSequence(3, 5, num_tasks=2)),
    ],
)
def test_bad_input_is_refused(error, match, make):
    with pytest.raises(error, match=match):
        make()
