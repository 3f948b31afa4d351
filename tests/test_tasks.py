"""Tasks: the battery, the laws that are drawn from, the layouts of tokens, what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.errors import UnknownNameError
from innerloop.nn import in_context_gd
from innerloop.tasks import AbstractTask, Example, LinearRegression, SineRegression, from_tokens, to_tokens
from innerloop.testing import check_task

TASKS = {
    "linear": LinearRegression(dim=3, num_context=5),
    "linear, three outputs": LinearRegression(dim=3, num_context=5, outputs=3),
    "linear, interleaved": LinearRegression(dim=3, num_context=5, outputs=2, layout="interleaved"),
    "linear, swept": LinearRegression(dim=3, num_context=5, input_range=jnp.asarray(2.0)),
    "linear, noisy": LinearRegression(dim=3, num_context=5, noisy_labels=2),
    "linear, shuffled": LinearRegression(dim=3, num_context=5, shuffle_labels=True),
    "linear, laplace": LinearRegression(dim=3, num_context=5, input_law="laplace"),
    "sine": SineRegression(num_context=5),
    "sine, noisy": SineRegression(num_context=5, noisy_labels=2),
}


def draw(task, count=20_000, split="train"):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.jit(jax.vmap(lambda key: task.sample(key, split)))(keys)


def data(task, **settings):
    examples = draw(task, **settings)
    x, y, query = jax.vmap(task.data)(examples)
    return tuple(np.asarray(part, np.float64) for part in (x, y, query, examples.target))


@pytest.mark.parametrize("name", TASKS)
def test_battery(name):
    check_task(TASKS[name])


def test_battery_in_float64(x64):
    check_task(LinearRegression(dim=3, num_context=5, noisy_labels=1))


def test_uniform_inputs_and_normal_weights():
    x, y, query, target = data(LinearRegression(dim=3, num_context=4, input_range=2.0, weight_scale=0.5))
    for points in (x, query):
        assert np.abs(points).max() <= 1.0
        np.testing.assert_allclose(points.mean(), 0.0, atol=0.02)
        np.testing.assert_allclose(np.mean(points**2), 1 / 3, rtol=0.02)
        np.testing.assert_allclose(np.mean(points**4), 1 / 5, rtol=0.02)
    # With more data than inputs the weights can be read off; the same ones must predict the query.
    weights = np.stack([np.linalg.lstsq(a, b, rcond=None)[0][:, 0] for a, b in zip(x[:2000], y[:2000], strict=True)])
    np.testing.assert_allclose(weights.mean(0), 0.0, atol=0.05)
    np.testing.assert_allclose(np.cov(weights.T), 0.25 * np.eye(3), atol=0.03)
    np.testing.assert_allclose(np.sum(weights * query[:2000], -1), target[:2000, 0], atol=1e-3)


@pytest.mark.parametrize("law", ["normal", "exponential", "laplace"])
def test_other_laws_have_contexts_of_one_norm(law):
    x, _, query, _ = data(LinearRegression(dim=3, num_context=4, input_range=2.0, input_law=law))
    np.testing.assert_allclose(np.linalg.norm(x, axis=(1, 2)), 2.0, rtol=1e-5)
    kurtosis = {"normal": 3.0, "exponential": 6.0, "laplace": 6.0}[law]
    ratio = np.mean(query**4) / np.mean(query**2) ** 2
    # The common norm makes the tails a little heavier.
    assert 0.9 * kurtosis < ratio < 3.0 * kurtosis
    assert (query.min() >= 0) == (law == "exponential")


@pytest.mark.parametrize("number", [0, 2, 5])
def test_noisy_labels_are_so_many_at_random_places(number):
    clean = LinearRegression(dim=3, num_context=5)
    noisy = LinearRegression(dim=3, num_context=5, noisy_labels=jnp.asarray(number, jnp.int32))
    (x, y, _, target), (same_x, z, _, same_target) = data(clean, count=4000), data(noisy, count=4000)
    np.testing.assert_array_equal(x, same_x)
    np.testing.assert_array_equal(target, same_target)
    changed = (y != z)[..., 0]
    np.testing.assert_array_equal(changed.sum(1), number)
    np.testing.assert_allclose(changed.mean(0), number / 5, atol=0.03)
    if number:
        np.testing.assert_allclose([z[changed].mean(), z[changed].std()], [0.0, 1.0], atol=0.04)


def test_shuffled_labels_belong_to_other_inputs():
    x, y, _, _ = data(LinearRegression(dim=3, num_context=5), count=2000)
    same_x, z, _, _ = data(LinearRegression(dim=3, num_context=5, shuffle_labels=True), count=2000)
    np.testing.assert_array_equal(x, same_x)
    np.testing.assert_array_equal(np.sort(y, axis=1), np.sort(z, axis=1))
    assert np.all(y != z)


def test_nothing_is_learned_from_shuffled_labels():
    losses = {}
    for shuffled in (False, True):
        task = LinearRegression(dim=3, num_context=6, shuffle_labels=shuffled)
        x, y, query, target = (jnp.asarray(part, jnp.float32) for part in data(task, count=4000))
        predict = jax.vmap(lambda x, y, query: in_context_gd(x, y, query[None], learning_rate=6.0)[0])
        losses[shuffled] = float(jnp.mean((predict(x, y, query) - target) ** 2) / jnp.mean(target**2))
    assert losses[False] < 0.6 < 1.0 < losses[True]


def test_sine_waves_have_independent_amplitude_and_phase():
    task = SineRegression(num_context=20)
    x, y, query, target = (part[:2000] for part in data(task, count=2000))
    assert np.abs(x).max() <= 5.0
    np.testing.assert_allclose(np.mean(x**2), 25 / 3, rtol=0.02)
    # A sin(x + p) is linear in sin x and cos x.
    features = np.concatenate([np.sin(x), np.cos(x)], axis=-1)
    found = np.stack([np.linalg.lstsq(a, b, rcond=None)[0][:, 0] for a, b in zip(features, y, strict=True)])
    amplitude, phase = np.hypot(*found.T), np.arctan2(found[:, 1], found[:, 0])
    predicted = amplitude * np.sin(query[:, 0] + phase)
    np.testing.assert_allclose(predicted, target[:, 0], atol=1e-4)
    for values, low, high in ((amplitude, 0.1, 0.5), (phase, 0.0, np.pi)):
        assert low - 1e-4 < values.min() and values.max() < high + 1e-4
        np.testing.assert_allclose(values.mean(), (low + high) / 2, rtol=0.04)
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 0.07


def test_loss_is_half_the_squared_error_summed_over_outputs():
    task = TASKS["linear, three outputs"]
    example = task.sample(jax.random.key(0))
    prediction = example.target + jnp.array([1.0, -2.0, 0.0])
    np.testing.assert_allclose(task.loss(prediction, example), 2.5, rtol=1e-6)
    metrics = task.metrics(prediction, example)
    np.testing.assert_allclose([metrics["loss"], metrics["absolute_error"]], [2.5, 3.0], rtol=1e-6)


@pytest.mark.parametrize("layout", ["joint", "interleaved"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_tokens_and_back(layout, outputs):
    numbers = np.random.default_rng(0)
    x, y, query = (jnp.asarray(numbers.standard_normal(shape), float) for shape in ((5, 3), (5, outputs), (3,)))
    tokens = to_tokens(x, y, query, layout=layout)
    assert tokens.shape == ((6, 3 + outputs) if layout == "joint" else (11, 3))
    for given, wanted in zip(from_tokens(tokens, outputs=outputs, layout=layout), (x, y, query), strict=True):
        np.testing.assert_array_equal(given, wanted)


def test_the_label_of_the_query_is_not_among_its_tokens():
    example = TASKS["linear"].sample(jax.random.key(0))
    assert float(example.inputs[-1, -1]) == 0.0
    assert not np.any(np.isclose(example.inputs, example.target[0]))


def test_numbers_sweep():
    tasks = eqx.filter_vmap(lambda r: LinearRegression(dim=3, num_context=5, input_range=r))(jnp.array([1.0, 3.0]))
    examples = eqx.filter_vmap(lambda task: task.sample(jax.random.key(0)))(tasks)
    np.testing.assert_allclose(3.0 * examples.inputs[0], examples.inputs[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(dim=0), "dim must be at least 1, not 0"),
        (dict(num_context=0), "num_context must be at least 1, not 0"),
        (dict(input_range=-1.0), "input_range must be above 0, not -1.0"),
        (dict(noisy_labels=6), "noisy_labels must lie between 0 and num_context = 5, not 6"),
        (
            dict(outputs=4, layout="interleaved"),
            "labels of size 4 do not fit into interleaved tokens of width 3",
        ),
        (dict(num_context=1, shuffle_labels=True), "shuffled among two examples at least"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        LinearRegression(**(dict(dim=3, num_context=5) | settings))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'laplace'"):
        LinearRegression(dim=3, num_context=5, input_law="laplacian")
    with pytest.raises(UnknownNameError, match="did you mean 'interleaved'"):
        LinearRegression(dim=3, num_context=5, layout="interleave")
    with pytest.raises(UnknownNameError, match="did you mean 'validation'"):
        TASKS["linear"].sample(jax.random.key(0), "valid")


def test_the_battery_sees_a_task_that_shares_its_splits():
    class Leaky(AbstractTask):
        task: LinearRegression

        def sample(self, key, split="train"):
            return self.task.sample(key, "train")

        def loss(self, prediction, example: Example):
            return self.task.loss(prediction, example) + 1.0

        def metrics(self, prediction, example: Example):
            return {}

    with pytest.raises(AssertionError, match=r"splits.*\n.*judgement.*\n.*zero_loss"):
        check_task(Leaky(TASKS["linear"]))
