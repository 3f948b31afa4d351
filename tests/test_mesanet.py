"""The study `mesanet`: thresholds as in its spec, fair comparisons, cells that run at every scale."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.errors import UnknownNameError
from innerloop.lab.store import Records
from innerloop.nn.memory.mesa import mesa_memory
from innerloop.studies import load
from innerloop.studies.mesanet import claims, training
from innerloop.studies.mesanet.benchmarks import MAD_TASKS, accuracies, mad_tasks, predict
from innerloop.studies.mesanet.configuration import LAPTOP, LAYERS, PAPER, SMOKE, Config, Sizes, Training
from innerloop.studies.mesanet.layers import count_parameters, make_model, solver_of, with_solver
from innerloop.studies.mesanet.parity import SignedGates
from innerloop.tasks import Document, text
from innerloop.testing import check_study

TINY = Sizes(width=8, num_layers=1, num_heads=2, key_size=4, hidden_size=8, chunk_size=8, max_steps=4)
SHORT = Training(steps=4, batch_size=2, rates=(1e-3, 1e-2), pilot_steps=2, examples=8, test_examples=8)


def tiny(config: Config) -> Config:
    """A configuration cut down to its first steps."""
    cut = {
        name: dataclasses.replace(getattr(config, name), sizes=TINY, training=SHORT)
        for name in ("mad", "regbench", "text", "parity")
    }
    cut["regbench"] = dataclasses.replace(cut["regbench"], num_languages=20, num_held_out=5, length=24)
    cut["text"] = dataclasses.replace(cut["text"], length=16)
    return dataclasses.replace(config, draws=2, stability_length=200, **cut)


def test_thresholds_are_those_of_the_spec():
    expected = {
        "1a": ">= -1",
        "1b": ">= 0",
        "2a": ">= -0.5",
        "2b": ">= -3",
        "3a": "<= 0.5",
        "3b": "<= 0.3",
        "3c": "<= 1e-06",
        "4a": "<= 0.005",
        "4b": "<= 15",
        "4c": "<= 0.005",
        "5": ">= 0.5",
        "6": "<= 0.002",
        "7a": ">= 0.99",
        "7b": ">= 0.95",
        "7c": "<= 0.6",
        "8": ">= 2",
    }
    assert {claim.id: str(claim.threshold) for claim in load("mesanet").claims} == expected


def test_at_least_six_layers_are_tuned_on_one_grid_over_three_benchmarks():
    assert len(LAPTOP.layers) >= 6 and LAPTOP.layers[0] == "mesa" and set(PAPER.layers) == set(LAYERS)
    for benchmark in LAPTOP.benchmarks:
        assert {f"{benchmark}-{layer}" for layer in LAPTOP.layers} <= set(LAPTOP.variants)
    assert (PAPER.mad.length, PAPER.mad.sizes.width, PAPER.mad.sizes.num_heads, PAPER.mad.sizes.max_steps) == (
        128,
        128,
        8,
        30,
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_models_are_as_large_as_the_mesa_model(layer):
    sizes = LAPTOP.text.sizes
    shapes = [jax.eval_shape(make_model(name, sizes, 32, 64), jax.random.key(0)) for name in ("mesa", layer)]
    mesa, other = (count_parameters(shape) for shape in shapes)
    assert abs(other / mesa - 1) < 0.01


def test_no_step_is_linear_attention_with_a_preconditioner(x64):
    query, key, value = jax.random.normal(jax.random.key(0), (3, 5, 1, 4))
    outputs = mesa_memory(query, key, value, solver=solver_of(0))[0]
    memory, diagonal = np.zeros((4, 4)), np.ones(4)
    for t in range(5):
        memory += np.outer(key[t, 0], value[t, 0])
        diagonal += np.asarray(key[t, 0]) ** 2
        np.testing.assert_allclose(outputs[t, 0], (query[t, 0] / diagonal) @ memory, rtol=1e-10)


def test_a_solver_of_numbers_is_conjugate_gradients(x64):
    query, key, value = jax.random.normal(jax.random.key(0), (3, 9, 2, 4))
    few, all_steps = (mesa_memory(query, key, value, solver=solver_of(steps))[0] for steps in (2, 4))
    exact = mesa_memory(query, key, value, form="recurrent")[0]
    np.testing.assert_allclose(all_steps, exact, rtol=1e-6)
    assert float(jnp.abs(few - exact).max()) > 1e-4


def test_another_solver_changes_mesa_layers_alone():
    mesa, gla = (make_model(name, TINY, 5, 8)(jax.random.key(0)) for name in ("mesa", "gla"))
    tokens = jnp.arange(5)
    assert float(jnp.abs(with_solver(mesa, solver_of(0))(tokens)[0] - mesa(tokens)[0]).max()) > 1e-4
    assert (with_solver(gla, solver_of(0))(tokens)[0] == gla(tokens)[0]).all()


def test_each_task_learns_at_its_own_rate():
    names = ("first", "second")
    inputs = np.tile(np.arange(6), (2, 4, 1))
    lessons = training.Lessons(names, predict, SHORT, training.as_sequences([(part, part) for part in inputs]))
    models = training._draw_models(make_model("linear", TINY, 6, 6), [jax.random.key(0)], 2)
    one = jax.tree.map(lambda leaf: leaf[0] if isinstance(leaf, jax.Array) else leaf, models)
    learners = lessons.init(one, jnp.asarray([0.0, 1e-2]), jnp.asarray(4))
    after, info = eqx.filter_jit(lessons)(jax.random.key(1), learners)
    assert set(info) == {"loss/first", "loss/second"}
    change = jnp.abs(after.models.embedding - learners.models.embedding).max(axis=(1, 2))
    assert float(change[0]) == 0.0 and float(change[1]) > 1e-4


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    factor = jax.vmap(lambda time: training._schedule(time, jnp.asarray(100)))(jnp.arange(100))
    assert float(factor[0]) == pytest.approx(0.1, rel=0.01) and int(jnp.argmax(factor)) == 9
    assert float(factor[-1]) == pytest.approx(0.1, rel=0.01)
    assert (jnp.diff(factor[9:]) < 0).all()


def test_targets_that_are_not_asked_for_survive_storage():
    sequences = training.as_sequences([(np.asarray([[3, 4]]), np.asarray([[-1, 2]]))])
    assert training._as_tokens(sequences.target[0]).tolist() == [[-1, 2]]
    logits = np.zeros((1, 1, 1, 2, 5))
    logits[..., 2] = 1.0
    assert accuracies(logits, sequences).tolist() == [[1.0]]


def test_all_tasks_of_mad_fit_one_length():
    tasks = mad_tasks(LAPTOP.mad)
    assert len(tasks) == len(MAD_TASKS)
    lengths = [eqx.filter_eval_shape(task.sample, jax.random.key(0)).inputs.shape[0] for task in tasks]
    assert max(lengths) == LAPTOP.mad.length


def test_signed_gates_take_both_signs():
    gates = SignedGates(8, 2, key=jax.random.key(0))(jax.random.normal(jax.random.key(1), (20, 8)))
    assert gates.negative is not None and gates.log_gate is not None
    assert bool(gates.negative.any()) and not bool(gates.negative.all())
    assert bool((gates.log_gate < 0).all()) and bool(jnp.isfinite(gates.log_gate).all())


class Stored(Records):
    """Records of which only some arrays and numbers are there."""

    def __init__(self, config=LAPTOP, **items):
        self.items, self.config = items, config

    @property
    def seeds(self):
        return (0, 1)

    def array(self, variant, name):
        return self.items[name]

    def final(self, variant, name, *, phase="final"):
        return np.asarray(self.items[variant.replace("-", "_")])


def test_claims_read_what_the_spec_says():
    losses = np.tile(np.linspace(2.0, 1.0, len(claims.STEPS)), (2, 1))
    losses[1, 4] = 1.01 * losses[1, 3]
    records = Stored(loss_by_steps=losses, loss_by_tolerance=1.003 * np.ones((2, len(claims.TOLERANCES))))
    np.testing.assert_allclose(claims.loss_gap(None)(records), 0.003, rtol=1e-9)
    np.testing.assert_allclose(claims.loss_gap(0)(records), 1.0)
    rises = claims.largest_rise()(records)
    assert rises[0] < 0 and rises[1] == pytest.approx(0.01)
    assert claims.largest_rise(backwards=True)(records)[0] > 0.005

    gates = np.arange(8.0).reshape(1, 2, 4).repeat(2, axis=0)
    steps = np.stack([gates[0], -gates[0]])[:, :, None].repeat(3, axis=2)
    records = Stored(gate=gates, steps_at=steps)
    np.testing.assert_allclose(claims.gates_and_steps()(records), [1.0, -1.0])
    assert (np.abs(claims.gates_and_steps(mismatched=True)(records)) < 0.5).all()

    scores = {"mad_mesa": [0.5, 0.6], "mad_gla": [0.4, 0.7], "mad_softmax": [0.9, 0.9]}
    records = Stored(dataclasses.replace(LAPTOP, layers=("mesa", "gla", "softmax")), **scores)
    np.testing.assert_allclose(claims.points("mad", "accuracy", claims.recurrent)(records), [10.0, -10.0])


def test_conforms_at_smoke_scale():
    check_study(load("mesanet"), tiny(SMOKE))


@pytest.fixture
def little_text(monkeypatch):
    """Some text in place of the corpus."""
    letters = "".join(np.random.default_rng(0).choice(list("abc \n"), 4000))
    monkeypatch.setattr(text, "brown_corpus", lambda folder=None: [Document("a", "none", letters)])


@pytest.mark.long
def test_conforms_with_all_variants(little_text):
    check_study(
        load("mesanet"), tiny(dataclasses.replace(LAPTOP, layers=("mesa", "gla", "delta", "softmax"))), scale="laptop"
    )


def test_bad_configurations_are_refused():
    with pytest.raises(UnknownNameError, match="mesa"):
        Config(layers=("mesas",))
    with pytest.raises(UnknownNameError, match="regbench"):
        Config(benchmarks=("regbnch",))
    with pytest.raises(ValueError, match="rates is empty"):
        Training(rates=())
    with pytest.raises(ValueError, match="longer than"):
        Training(steps=10, pilot_steps=20)
    with pytest.raises(ValueError, match="key-size must be at least 1"):
        Sizes(key_size=0)
