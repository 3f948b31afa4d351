"""Checkpoints: what is read back is what was saved, or it is said that it is not."""

import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.errors import InnerloopError
from innerloop.train.checkpoint import Checkpoints


def tree(value):
    return {"weights": jnp.full((3, 2), value), "count": jnp.asarray(7, jnp.int32)}


@pytest.fixture
def saved(tmp_path):
    """Three checkpoints, of which the newest two are kept."""
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2, 3):
        checkpoints.save(step, tree(float(step)), {"note": step})
    checkpoints.close()
    return tmp_path / "c"


def test_reads_back_the_newest(saved):
    checkpoints = Checkpoints(saved)
    restored = checkpoints.latest(tree(0.0))
    assert restored is not None and restored.step == 3 and restored.extra == {"note": 3}
    np.testing.assert_array_equal(restored.tree["weights"], np.full((3, 2), 3.0))
    assert sorted(path.name for path in saved.iterdir()) == ["2", "3"]
    checkpoints.close()


def damage(path, how):
    files = sorted((path for path in path.rglob("*") if path.is_file()), key=lambda file: -file.stat().st_size)
    for file in files if how == "emptied" else files[:1]:
        content = bytearray(file.read_bytes())
        if how == "flipped":
            content[len(content) // 2] ^= 0xFF
            file.write_bytes(bytes(content))
        elif how == "cut":
            file.write_bytes(bytes(content[: len(content) // 2]))
        else:
            file.write_bytes(b"")


@pytest.mark.parametrize("how", ["flipped", "cut", "emptied"])
def test_damaged_newest_falls_back_and_says_so(saved, how):
    for part in ("state/d", "about") if how != "emptied" else (".",):
        damage(saved / "3" / part, how)
    said = []
    checkpoints = Checkpoints(saved, tell=said.append)
    restored = checkpoints.latest(tree(0.0))
    assert restored is not None and restored.step == 2
    np.testing.assert_array_equal(restored.tree["weights"], np.full((3, 2), 2.0))
    assert len(said) == 1 and "step 3 is damaged" in said[0] and "c-damaged" in said[0]
    assert (saved.parent / "c-damaged" / "3-0").is_dir()
    # Training comes by step 3 again.
    checkpoints.save(3, tree(5.0))
    checkpoints.close()
    again = Checkpoints(saved).latest(tree(0.0))
    assert again is not None and again.step == 3 and float(again.tree["weights"][0, 0]) == 5.0


def test_changed_values_are_noticed_by_the_digest(saved, monkeypatch):
    monkeypatch.setattr("innerloop.train.checkpoint._digest", lambda leaves: "another")
    said = []
    checkpoints = Checkpoints(saved, tell=said.append)
    assert checkpoints.latest(tree(0.0)) is None
    assert len(said) == 2 and "digest" in said[0]
    checkpoints.close()


def test_other_arrays_are_not_called_damaged(saved):
    checkpoints = Checkpoints(saved)
    with pytest.raises(InnerloopError, match="another version of the code"):
        checkpoints.latest({"weights": jnp.zeros((3, 3)), "count": jnp.asarray(7, jnp.int32)})
    checkpoints.close()


def test_empty_folder_has_none(tmp_path):
    assert Checkpoints(tmp_path / "nothing").latest(tree(0.0)) is None


def test_kept_checkpoint_outlives_its_successors(saved):
    checkpoints = Checkpoints(saved)
    kept = checkpoints.keep_last("before-failure")
    for step in (4, 5):
        checkpoints.save(step, tree(float(step)))
    checkpoints.close()
    assert kept is not None and kept.name == "3" and kept.is_dir()
    assert sorted(path.name for path in saved.iterdir()) == ["4", "5"]


def test_one_kept_checkpoint_is_too_few(tmp_path):
    with pytest.raises(ValueError, match="at least 2"):
        Checkpoints(tmp_path, keep=1)
