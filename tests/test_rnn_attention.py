"""The study `rnn-attention`: thresholds as in its spec, sizes by the formulas, cells that run at every scale."""

import dataclasses

import jax
import numpy as np
import pytest

from innerloop.core.errors import UnknownNameError
from innerloop.lab.store import Records
from innerloop.nn import gated_rnn_from_gd
from innerloop.studies import load
from innerloop.studies.rnn_attention.claims import CLAIMS, SUCCESS
from innerloop.studies.rnn_attention.configuration import LAPTOP, PAPER, PARTS, SMOKE, Config, Imitation, variants
from innerloop.studies.rnn_attention.exact import construction_errors
from innerloop.studies.rnn_attention.measure import regression_task
from innerloop.studies.rnn_attention.models import Student
from innerloop.studies.rnn_attention.reading import agreement_with_gd
from innerloop.tasks.attention_teacher import AttentionTeacher
from innerloop.testing import check_study, check_task


def tiny(config, **changes):
    """A configuration cut down to its first steps."""
    imitation = dataclasses.replace(config.imitation, steps=3, refit_steps=2, batch_size=4)
    regression = dataclasses.replace(config.regression, steps=3, batch_size=4)
    sizes = {"evaluation_sequences": 60, "curve_sequences": 10, "exact_dims": (2,)}
    return dataclasses.replace(config, imitation=imitation, regression=regression, **sizes, **changes)


def test_thresholds_are_those_of_the_spec():
    expected = {
        "1": "<= 1e-10",
        "2a": "<= 0.1",
        "2b": "<= 0.0003",
        "3a": ">= 0.9",
        "3b": "<= 0.05",
        "3c": "<= 0.05",
        "4a": ">= 10",
        "4b": ">= 10",
        "5a": "<= 1.02",
        "5b": "<= 0.01",
        "5c": "<= 0.01",
        "6a": "<= 1",
        "6b": "<= 1",
        "7": ">= 0",
    }
    assert {claim.id: str(claim.threshold) for claim in CLAIMS} == expected


def test_sizes_are_those_of_the_constructions():
    imitation, regression = LAPTOP.imitation, LAPTOP.regression
    assert imitation.sizes == (6, 10, 14, 20, 28, 40)
    assert (imitation.too_few, imitation.compressed, imitation.generic) == (10, 14, 20)
    assert (regression.special, regression.generic) == (12, 27)
    assert imitation.num_products >= imitation.dim**2 and PAPER.imitation.num_products >= PAPER.imitation.dim**2
    assert LAPTOP.hidden_size == max(imitation.sizes) and PAPER.hidden_size == max(PAPER.imitation.sizes)
    assert PAPER.parts == LAPTOP.parts == PARTS
    assert {"construction", "neurons-14", "no-output-gate", "gru", "regression-27"} <= set(variants(LAPTOP))


def test_teacher_is_causal_linear_attention():
    task = AttentionTeacher.random(3, length=6, key=jax.random.key(0))
    example = task.sample(jax.random.key(1), "test")
    x, query, key, value = map(np.asarray, (example.inputs, task.query, task.key, task.value))
    wanted = [sum(((x[t] @ query) @ (x[s] @ key)) * (x[s] @ value) for s in range(t + 1)) / 6 for t in range(6)]
    np.testing.assert_allclose(example.target, wanted, rtol=1e-5, atol=1e-6)
    assert float(task.loss(example.target + 2.0, example)) == pytest.approx(4.0, rel=1e-5)
    check_task(task)


def test_constructions_are_exact_and_their_control_is_not():
    errors = construction_errors((0, 1), (2, 3), 16)
    assert errors["compressed"].shape == (2, 2)
    assert max(errors["compressed"].max(), errors["generic"].max()) < 1e-13
    assert errors["fading"].min() > 1e-3


def test_gradient_descent_agrees_with_itself_and_has_the_known_losses():
    rate = 1.0 / 3.7 * 3  # the optimal step for three inputs of variance one and twelve examples
    model = Student(gated_rnn_from_gd(3, 3, 12, rate), last=True)
    found = jax.jit(lambda key: agreement_with_gd(model, regression_task(LAPTOP), key, 20_000))(jax.random.key(0))
    assert float(found["gd_loss"]) == pytest.approx(0.8545, rel=0.03)
    assert float(found["zero_loss"]) == pytest.approx(4.5, rel=0.03)
    assert float(found["distance"]) < 1e-9 and float(found["coefficient_error"]) < 1e-3
    assert float(found["unexplained"]) < 1e-6


def test_conforms_at_smoke_scale():
    check_study(load("rnn-attention"), tiny(SMOKE))


@pytest.mark.long
def test_conforms_with_all_variants():
    check_study(load("rnn-attention"), tiny(LAPTOP), scale="laptop")


@pytest.mark.long
def test_first_steps_at_paper_scale():
    check_study(load("rnn-attention"), tiny(PAPER), scale="paper")


def test_bad_configurations_are_refused():
    with pytest.raises(UnknownNameError, match="neurons"):
        Config(parts=("neuron",))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Imitation(steps=0)
    with pytest.raises(ValueError, match="learning rate gated must be above 0"):
        type(LAPTOP.imitation.rates)(gated=0.0)


def test_claims_read_medians_and_success_rates():
    """Claim 2 compares medians, claim 7 how many seeds succeed."""

    class Stored(Records):
        def __init__(self):
            self.config = LAPTOP

        def final(self, variant, name, *, phase="final"):
            errors = {"neurons-10": [1e-2, 2e-2, 5e-2], "neurons-14": [1e-4, SUCCESS, 1e-3], "neurons-28": [0.0] * 3}
            return np.asarray(errors[variant])

    claims = {claim.id: claim for claim in CLAIMS}
    np.testing.assert_allclose(claims["2a"].measure(Stored()), np.full(3, SUCCESS / 2e-2))
    np.testing.assert_allclose(claims["7"].measure(Stored()), np.full(3, 1 / 3))
    np.testing.assert_allclose(claims["7"].control.measure(Stored()), np.full(3, -1.0))
