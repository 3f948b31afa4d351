"""The study `icl-gd`: thresholds as in its spec, baselines that are tuned, cells that run at every scale."""

import dataclasses
import importlib

import numpy as np
import pytest

from innerloop.core.errors import UnknownNameError
from innerloop.lab.store import Records
from innerloop.nn import optimal_learning_rate
from innerloop.studies import load
from innerloop.studies.icl_gd.claims import distribution_gap
from innerloop.studies.icl_gd.configuration import LAPTOP, PAPER, SMOKE, VARIANTS, Config, Training
from innerloop.testing import check_study

measure = importlib.import_module("innerloop.studies.icl_gd.measure")


def tiny(config, **changes):
    """A configuration cut down to its first steps."""
    short = {
        name: dataclasses.replace(getattr(config, name), steps=4, **changes)
        for name in ("one_layer", "two_layers", "sine", "interleaved")
    }
    return dataclasses.replace(config, evaluation_tasks=100, curve_tasks=20, **short)


def test_thresholds_are_those_of_the_spec():
    expected = {
        "1": "<= 1.02",
        "2a": ">= 0.98",
        "2b": "<= 0.15",
        "3": "<= 1.03",
        "4": "<= 0.15",
        "5a": "<= 0.85",
        "5b": "<= 0.1",
        "6a": "<= 0.15",
        "6b": "<= 0.3",
        "7": ">= 0.8",
    }
    assert {claim.id: str(claim.threshold) for claim in load("icl-gd").claims} == expected


def test_paper_scale_has_the_sizes_of_the_paper():
    assert (PAPER.task.dim, PAPER.task.num_context, PAPER.evaluation_tasks) == (10, 10, 10_000)
    assert {getattr(PAPER, name).batch_size for name in ("one_layer", "two_layers", "sine", "interleaved")} == {2048}
    assert (PAPER.one_layer.steps, PAPER.sine.steps, PAPER.interleaved.steps) == (5000, 20_000, 10_000)
    assert PAPER.variants == LAPTOP.variants == VARIANTS


def test_gradient_descent_is_tuned_to_its_best():
    (layer,) = measure.tuned_gd(SMOKE, steps=1).stack.layers
    found = float(layer.projections.output[0, -1, -1]) * SMOKE.task.num_context
    assert found == pytest.approx(float(optimal_learning_rate(10, 10).learning_rate), rel=0.03)


def test_gd_plus_plus_is_tuned_at_least_as_well_as_the_reference_numbers():
    config = dataclasses.replace(SMOKE, evaluation_tasks=4000)
    task = measure.linear_task(config)
    batch = measure.sample_batch(task, measure.named_key(5, "held out"), 20_000, split="test")
    plain = float(measure.mean_loss(measure.tuned_gd(config, steps=2), task, batch))
    better = float(measure.mean_loss(measure.tuned_gd_plus_plus(config, steps=2), task, batch))
    assert plain == pytest.approx(0.1567, rel=0.05)
    assert better == pytest.approx(0.1141, rel=0.05) and better < 0.8 * plain


def test_conforms_at_smoke_scale():
    check_study(load("icl-gd"), tiny(SMOKE, batch_size=8))


@pytest.mark.slow
def test_conforms_with_all_variants():
    check_study(load("icl-gd"), tiny(LAPTOP, batch_size=8), scale="laptop")


@pytest.mark.slow
def test_first_steps_at_paper_scale():
    check_study(load("icl-gd"), tiny(PAPER), scale="paper", seeds=(0, 1))


def test_bad_configurations_are_refused():
    with pytest.raises(UnknownNameError, match="one-layer"):
        Config(variants=("one-layr",))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Training(steps=0)
    with pytest.raises(ValueError, match=r"task\.dim must be at least 1"):
        type(SMOKE.task)(dim=-1)


def test_claims_read_what_the_spec_says():
    """The out-of-distribution gap is the largest up to 1.5 times the range, not beyond."""

    class Stored(Records):
        def __init__(self):
            pass

        def array(self, variant, name):
            losses = np.ones((2, len(measure.ALPHAS), 2))
            losses[0, measure.ALPHAS == 1.5, 0] = np.exp(0.1)
            losses[0, measure.ALPHAS > 1.5, 0] = np.exp(3.0)
            losses[1, 0, 0] = np.exp(-0.2)
            return losses

    np.testing.assert_allclose(distribution_gap("one-layer")(Stored()), [0.1, 0.2], rtol=1e-6)
