import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.core.config import diff, fingerprint, flatten, from_dict, to_dict
from innerloop.core.errors import InnerloopError, UnknownNameError


@dataclass(frozen=True)
class Linear:
    dim: int = 10
    noise: float = 0.0


@dataclass(frozen=True)
class Images:
    name: Literal["digits", "shapes"] = "digits"
    shuffle: bool = True


@dataclass(frozen=True)
class Layer:
    width: int = 8
    gain: float = 1.0


@dataclass(frozen=True)
class Example:
    task: Linear | Images = Linear()
    layers: tuple[Layer, ...] = (Layer(),)
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    clip: float | None = None
    label: str = "plain"
    lr: float = 1e-3


integers = st.integers(-(2**40), 2**40)
floats = st.floats(allow_nan=False, allow_infinity=False)
examples = st.builds(
    Example,
    task=st.one_of(st.builds(Linear, integers, floats), st.builds(Images, st.sampled_from(["digits", "shapes"]))),
    layers=st.lists(st.builds(Layer, integers, floats), max_size=3).map(tuple),
    sizes=st.lists(integers, max_size=4).map(tuple),
    pair=st.tuples(integers, floats),
    clip=st.none() | floats,
    label=st.text(max_size=8),
    lr=floats,
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(examples)
def test_a_configuration_survives_its_file(example):
    stored = json.loads(json.dumps(to_dict(example), allow_nan=False))
    back = from_dict(Example, stored)
    assert back == example
    assert type(back.task) is type(example.task)
    assert all(type(layer) is Layer for layer in back.layers)
    assert type(back.sizes) is tuple
    assert type(back.lr) is float
    assert fingerprint(back) == fingerprint(example) == fingerprint(stored)
    assert diff(back, example) == {}


def test_integers_written_for_floats_become_floats():
    back = from_dict(Example, {"lr": 1, "layers": [{"width": 2, "gain": 3}]})
    assert type(back.lr) is float
    assert type(back.layers[0].gain) is float
    assert type(back.layers[0].width) is int
    assert type(from_dict(Example, {"pair": [1, 2]}).pair[1]) is float


def test_fields_that_are_not_given_keep_their_defaults():
    assert from_dict(Example, {"label": "x"}) == Example(label="x")


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown field of Linear 'dims'; did you mean 'dim'\?"):
        from_dict(Linear, {"dims": 3})
    with pytest.raises(UnknownNameError, match=r"unknown field of Layer 'wdith'; did you mean 'width'\?"):
        from_dict(Example, {"layers": [{"wdith": 3}]})
    with pytest.raises(UnknownNameError, match="allowed: dim, noise"):
        from_dict(Linear, {"zzzz": 3})


def test_a_missing_field_is_refused_by_name():
    @dataclass(frozen=True)
    class Needs:
        dim: int

    with pytest.raises(InnerloopError, match=r"cannot read a Needs.*dim"):
        from_dict(Needs, {})


def test_only_plain_values_are_configurations():
    with pytest.raises(TypeError, match="not ndarray"):
        to_dict(replace(Linear(), noise=np.zeros(3)))
    with pytest.raises(TypeError, match="not function"):
        to_dict({"a": 1}.get and (lambda: 0))


def test_flat_names_are_dotted():
    assert flatten(Example(task=Linear(5))) == {
        "task.dim": 5,
        "task.noise": 0.0,
        "layers": [{"width": 8, "gain": 1.0}],
        "sizes": [1, 2],
        "pair": [1, 2.0],
        "clip": None,
        "label": "plain",
        "lr": 1e-3,
    }
    assert flatten(to_dict(Example())) == flatten(Example())


def test_the_fingerprint_is_of_the_content():
    assert fingerprint(Example()) == fingerprint(to_dict(Example()))
    assert fingerprint(Example()) != fingerprint(Example(lr=2e-3))
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint([1, 2]) != fingerprint([2, 1])
    assert len(fingerprint(Example(), digits=12)) == 12


def test_the_fingerprint_is_the_same_in_every_process():
    code = (
        "from innerloop.core.config import fingerprint;"
        " print(fingerprint({'task': {'dim': 10, 'noise': 0.1}, 'name': 'añ', 'flags': [True, None]}))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    here = fingerprint({"flags": [True, None], "name": "añ", "task": {"noise": 0.1, "dim": 10}})
    assert found == {f"{here}\n"}
    # Written down: run folders made by an older version must be found again.
    assert found == {"f02f4208\n"}


def test_a_difference_names_both_values():
    first, second = Example(), Example(task=Images(), sizes=(1, 3), lr=2e-3)
    assert diff(first, second) == {
        "task.dim": (10, None),
        "task.noise": (0.0, None),
        "task.name": (None, "digits"),
        "task.shuffle": (None, True),
        "sizes": ([1, 2], [1, 3]),
        "lr": (1e-3, 2e-3),
    }
    assert diff(second, first)["lr"] == (2e-3, 1e-3)
    assert diff(to_dict(first), second) == diff(first, second)


@dataclass(frozen=True)
class _Part:
    weight: float = 1.0


@dataclass(frozen=True)
class _Optional:
    parts: tuple[_Part, ...] | None = None


def test_an_optional_tuple_of_dataclasses_comes_back():
    for config in (_Optional(), _Optional((_Part(2.0), _Part(3.0)))):
        assert from_dict(_Optional, to_dict(config)) == config
