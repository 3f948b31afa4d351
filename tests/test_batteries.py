"""The batteries must fail what is wrong: each mistake here is one that a newcomer may make."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from command_line import STUDIES
from innerloop.learn import AbstractLearningRule, Backpropagation
from innerloop.studies import load
from innerloop.testing.battery import run_checks
from innerloop.testing.learning_rule import check_learning_rule
from innerloop.testing.study import check_study

# ---- studies ----

NOISY = load(str(STUDIES / "noisy.py"))
TINY = dataclasses.replace(NOISY.configurations["smoke"], steps=10, chunk_seconds=1.0)
[CLAIM] = NOISY.claims


def with_claim(**changes):
    return dataclasses.replace(NOISY, claims=(dataclasses.replace(CLAIM, **changes),))


def test_a_good_study_passes():
    check_study(NOISY, TINY)


def unrepeatable():
    """A study that does not take its randomness from its keys."""
    counter = iter(range(1000))

    def measure(config, cells):
        NOISY.measure(config, cells)
        cells.record({"time": [float(next(counter)) for _ in cells.seeds]}, phase="clock")

    return dataclasses.replace(NOISY, measure=measure)


def raising():
    def measure(config, cells):
        raise RuntimeError("broken")

    return dataclasses.replace(NOISY, measure=measure)


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (unrepeatable, "same_bits_again: .*recorded other numbers"),
        (raising, "every_cell_finishes: .*broken"),
        (lambda: with_claim(measure=lambda records: records.final("walking", "sise")), "claims_are_judged: .*'sise'"),
        (
            lambda: with_claim(
                control=dataclasses.replace(CLAIM.control, measure=lambda records: records.final("x", "y"))
            ),
            "claims_are_judged: .*control",
        ),
        (lambda: with_claim(measure=lambda records: records.final("walking", "size") * jnp.nan), "not finite"),
        (lambda: dataclasses.replace(NOISY, variants=lambda config: ("a/b",)), "names_are_file_names: .*'a/b'"),
        (lambda: dataclasses.replace(NOISY, variants=lambda config: ("one", "one")), "variants repeat"),
        (lambda: dataclasses.replace(NOISY, variants=lambda config: ()), "no variants"),
    ],
)
def test_a_wrong_study_fails(study, words):
    with pytest.raises(AssertionError, match=f"(?s){words}"):
        check_study(study(), TINY)


# ---- learning rules ----


class Wrong(AbstractLearningRule):
    """Backpropagation with one mistake."""

    mistake: str = eqx.field(static=True)

    def init(self, key, model):
        return jnp.zeros((), jnp.int32)

    def update(self, key, state, model, batch, loss):
        updates, _, info = Backpropagation().update(key, None, model, batch, loss)
        match self.mistake:
            case "sign":
                updates = jax.tree.map(jnp.negative, updates)
            case "structure":
                updates = jax.tree.leaves(updates)
            case "shape":
                updates = jax.tree.map(lambda update: update[None], updates)
            case "silence":
                updates = jax.tree.map(jnp.zeros_like, updates)
            case "state":
                state = state.astype(jnp.float32)
            case "no loss":
                info = {}
            case "wrong loss":
                info = {"loss": 2 * info["loss"]}
            case "statistics over the batch":
                scale = jnp.std(batch.inputs, axis=0, ddof=1).mean()
                updates = jax.tree.map(lambda update: update / scale, updates)
            case "Python's own randomness":
                factor = float(next(COUNTER))
                updates = jax.tree.map(lambda update: update * factor, updates)
            case "values in Python":
                updates = jax.tree.map(lambda update: update * float(jnp.sign(info["loss"])), updates)
        return updates, state, info


COUNTER = iter(range(1, 10**6))


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("sign", "descends: .*sign of a gradient"),
        ("structure", "structure: .*another tree structure"),
        ("shape", "structure: .*shape"),
        ("silence", "learns: .*a hundred steps"),
        ("state", "state_is_stable: .*float32, not int32"),
        ("no loss", "reports_loss: .*no 'loss'"),
        ("wrong loss", "reports_loss"),
        ("statistics over the batch", "batch_of_one: .*not finite"),
        ("Python's own randomness", "deterministic"),
        ("values in Python", "under_jit"),
    ],
)
def test_a_wrong_learning_rule_fails(mistake, words):
    with pytest.raises(AssertionError, match=f"(?s){words}"):
        check_learning_rule(Wrong(mistake))


def test_the_mistakes_are_the_only_reason():
    check_learning_rule(Wrong("none"))


# ---- known gaps ----


def test_known_gaps_are_declared_and_must_not_outlive_themselves():
    def good():
        pass

    def bad():
        raise ValueError("a reason")

    run_checks("it", {"good": good})
    run_checks("it", {"good": good, "bad": bad}, {"bad": "not supported yet"})
    with pytest.raises(AssertionError, match="bad: ValueError: a reason"):
        run_checks("it", {"good": good, "bad": bad})
    with pytest.raises(AssertionError, match="declared as a known gap"):
        run_checks("it", {"good": good}, {"good": "no longer"})
    with pytest.raises(AssertionError, match="other"):
        run_checks("it", {"good": good}, {"other": "no such check"})
