"""What the cells of a variant leave behind when one of them failed."""

import numpy as np
import pytest

from innerloop.core.errors import InnerloopError
from innerloop.lab.cells import Cells
from synthetic_runs import make_run


@pytest.fixture
def cells(tmp_path):
    return Cells(make_run(tmp_path, seeds=(3, 7)), "adam", (3, 7), failures={7: 12})


def test_a_failed_seed_leaves_no_number_that_looks_like_a_result(cells):
    cells.record({"loss": np.asarray([0.5, 0.25], np.float32)})
    cells.save(curve=np.ones((2, 4), np.float32), count=np.asarray([1, 2]))
    cells.finish()
    whole, failed = (cells.run.cell("adam", seed) for seed in (3, 7))
    assert whole.read_metrics() == [{"step": 0, "phase": "final", "loss": 0.5}]
    assert failed.read_metrics() == [{"step": 0, "phase": "final", "loss": None}]
    np.testing.assert_array_equal(whole.read_arrays()["curve"], np.ones(4))
    assert np.isnan(failed.read_arrays()["curve"]).all() and failed.read_arrays()["curve"].dtype == np.float32
    assert failed.read_arrays()["count"] == 2


def test_a_wrong_shape_is_refused_by_name_even_then(cells):
    with pytest.raises(InnerloopError, match="metric 'loss' needs one value for each of 2 seeds"):
        cells.record({"loss": np.zeros(3)})
    with pytest.raises(InnerloopError, match="array 'curve' needs a leading axis of 2 seeds"):
        cells.save(curve=np.zeros((3, 4)))
