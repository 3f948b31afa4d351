"""The examples in the docstrings of every module that can be imported here."""

import doctest
import importlib
import pkgutil

import pytest

import innerloop

MODULES = sorted(module.name for module in pkgutil.walk_packages(innerloop.__path__, "innerloop."))


@pytest.mark.parametrize("name", ["innerloop", *MODULES])
def test_doctests(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").startswith("innerloop"):
            raise
        pytest.skip(f"needs {error.name}, an optional dependency")
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} fail"
