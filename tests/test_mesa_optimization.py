"""The study `mesa-optimization`: thresholds as in its spec, baselines that are tuned, cells that run at every scale."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.errors import UnknownNameError
from innerloop.core.rng import named_key
from innerloop.lab.store import Records
from innerloop.nn import least_squares_predictor, sequence_gd
from innerloop.studies import load
from innerloop.studies.mesa_optimization import quantities
from innerloop.studies.mesa_optimization.configuration import (
    LAPTOP,
    PAPER,
    SMOKE,
    VARIANTS,
    Config,
    FewShot,
    Network,
    Training,
)
from innerloop.studies.mesa_optimization.models import LIMIT, observation_model
from innerloop.testing import check_sequence_layer, check_study
from innerloop.train.supervised import sample_batch

training = importlib.import_module("innerloop.studies.mesa_optimization.training")


def tiny(config, **changes):
    """A configuration cut down to its first steps."""
    short = {
        name: dataclasses.replace(getattr(config, name), steps=4, batch_size=8)
        for name in ("linear", "mesa", "observations", "long", "prompts")
    }
    return dataclasses.replace(
        config,
        evaluation_sequences=200,
        curve_sequences=20,
        scaling_sizes=(3, 5),
        scaling_sequences=4,
        tuning_sequences=50,
        tuning_steps=3,
        few_shot=FewShot(num_pairs=4, prefix=3, length=16, sequences=50),
        **short,
        **changes,
    )


def test_thresholds_are_those_of_the_spec():
    expected = {
        "1a": "<= 0.05",
        "1b": "<= 0.05",
        "2a": "<= 1",
        "2b": "<= 1.15",
        "2c": ">= 1",
        "3a": "<= 0.05",
        "3b": "<= 1",
        "4a": "<= 0.1",
        "4b": ">= 0.5",
        "4c": ">= 3",
        "5a": ">= 1",
        "5b": "<= 0.6",
        "5c": ">= 1",
        "5d": "<= 0.6",
        "5e": ">= 1",
        "5f": "<= 0.6",
        "6": "<= 1.02",
        "7a": "<= 0.25",
        "7b": ">= 1.5",
        "8a": "<= 0.6",
        "8b": "<= 0.85",
        "8c": ">= 1",
        "9": "<= 0.7",
        "10a": "<= 0.2",
        "10b": "<= 0.05",
    }
    assert {claim.id: str(claim.threshold) for claim in load("mesa-optimization").claims} == expected


def test_paper_scale_has_the_sizes_of_the_paper():
    systems, network = PAPER.systems, PAPER.network
    assert (systems.size, systems.length, systems.partial_state, systems.partial_size) == (10, 50, 15, 5)
    assert (network.width, network.num_heads, network.key_size, network.softmax_depth) == (40, 4, 20, 7)
    assert PAPER.linear.learning_rate == 1e-4 and PAPER.observations.learning_rate == 7e-4
    assert {getattr(PAPER, name).batch_size for name in ("linear", "mesa", "observations", "long")} == {256}
    assert PAPER.variants == VARIANTS and "linear-6" in PAPER.variants and "linear-6" not in LAPTOP.variants


def test_comparators_are_tuned_to_their_best():
    """Other step sizes and ridges do worse, on other sequences too; preconditioning lies in between."""
    task = training.system(SMOKE)
    step, ridge, unclipped = (
        training.tuned_step(task, 500),
        training.tuned_ridge(task, 500),
        training.tuned_step(task, 500, clip=False),
    )
    two = training.tuned_preconditioning(task, 2, 100)
    predictors = {
        "unclipped": lambda o: sequence_gd(o, unclipped),
        "two": two.predict,
        **{f"gd {c}": lambda o, c=c: training.clipped(sequence_gd(o, c * step)) for c in (1.0, 0.8, 1.25)},
        **{
            f"ridge {c}": lambda o, c=c: training.clipped(least_squares_predictor(o, c * ridge))
            for c in (1.0, 0.1, 10.0)
        },
    }

    @jax.jit
    def losses(key):
        batch = sample_batch(task, key, 2000, split="test")
        return {name: jnp.mean(training.mean_losses(one, task, batch)) for name, one in predictors.items()}

    found = losses(named_key(5, "held out"))
    assert found["gd 1.0"] <= min(found["gd 0.8"], found["gd 1.25"])
    assert found["ridge 1.0"] <= min(found["ridge 0.1"], found["ridge 10.0"])
    assert found["gd 1.0"] < 0.97 * found["unclipped"]  # the clip alone helps
    assert found["ridge 1.0"] < found["two"] < 0.9 * found["gd 1.0"]


def test_models_of_observations_conform():
    network = dict(width=6, num_heads=2, key_size=3, position_size=4, hidden_size=5, capacity=30, deviation=0.3)
    model = observation_model(3, ("softmax", "mesa"), **network, key=jax.random.key(0)).model
    softmax, mesa = model.stack.layers
    check_sequence_layer(softmax, width=6, lengths=(0, 5))
    tokens = jax.random.normal(jax.random.key(1), (5, 3))
    assert not np.allclose(model(tokens)[0][1:], model(tokens[1:])[0])  # the first layer knows where it is
    assert mesa.layer.rule.regulariser.min() > 0


def test_conforms_at_smoke_scale():
    check_study(load("mesa-optimization"), tiny(SMOKE))


@pytest.mark.long
def test_conforms_with_all_variants():
    check_study(load("mesa-optimization"), tiny(LAPTOP), scale="laptop")


@pytest.mark.long
def test_first_steps_at_paper_scale():
    config = tiny(PAPER, variants=("predictors", "linear-6", "mesa", "hybrid-full"))
    study = load("mesa-optimization")
    config = dataclasses.replace(config, evaluation_sequences=100)
    check_study(dataclasses.replace(study, claims=(), figures=()), config, scale="paper", seeds=(0, 1))


def test_bad_configurations_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean"):
        Config(variants=("linear-l",))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Training(steps=0)
    with pytest.raises(ValueError, match=r"systems\.length must be at least 8"):
        type(SMOKE.systems)(length=4)
    with pytest.raises(ValueError, match=r"network\.width must be at least 1"):
        Network(width=0)


class Stored(Records):
    """Records that say what a test wants them to."""

    def __init__(self, **arrays):
        self.run = None
        self.arrays = arrays

    def array(self, variant, name):
        return np.asarray(self.arrays[name], float)


def test_rank_correlation_is_spearmans():
    errors = np.asarray([[0.9, 0.5, 0.4, 0.1], [0.9, 0.4, 0.5, 0.1], [0.1, 0.4, 0.5, 0.9]])[:, :, None]
    stored = Stored(probes=errors)
    np.testing.assert_allclose(quantities.rank_correlation("probes")("any")(stored), [1.0, 0.8, -1.0])
    np.testing.assert_allclose(quantities.last_over_first("probes")("any")(stored), [0.2, 0.25, 2.25])


def test_the_horizon_ends_where_a_probe_first_fails():
    stored = Stored(binding_probes=[[0.0, 0.05, 0.09, 0.5, 0.01], [0.2, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(quantities.horizon("any")(stored), [3.0, 0.0])


def test_spread_and_growth_are_over_sizes():
    stored = Stored(a_losses=[[1.0, 0.8, 1.2], [2.0, 2.0, 3.0]])
    np.testing.assert_allclose(quantities.spread("a")(stored), [0.5, 0.5])
    np.testing.assert_allclose(quantities.growth("a")(stored), [1.2, 1.5])
    shots = Stored(a_losses=[[1.0, 2.0, 0.5]])
    np.testing.assert_allclose(quantities.last_shot("a_losses")(shots), [0.25])
    np.testing.assert_allclose(quantities.shot_ratio("a_losses", 2, 1)(shots), [2.0])


def test_the_clip_is_the_papers():
    assert LIMIT == 4.0
