"""The conformance battery of tasks."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..core.errors import UnknownNameError
from ..tasks.task import SPLITS, AbstractTask, Example
from .battery import run_checks
from .comparison import assert_same


def check_task(
    task: AbstractTask,
    *,
    prediction: Callable[[Example], PyTree] = lambda example: example.target,
    loss_is_zero_at_target: bool = True,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Whether a task keeps what the interface promises.

    | check | promise |
    |---|---|
    | `determinism` | a key gives one example, another key another one |
    | `splits` | the splits of one key differ; an unknown split is refused |
    | `vmap_and_jit` | a batch is the same as one by one, compiled the same as not |
    | `finite` | examples are finite, floating-point arrays have JAX's default dtype |
    | `judgement` | loss and metrics are finite scalars, `"loss"` among the metrics and equal to the loss |
    | `zero_loss` | the loss of the target itself is zero (unless `loss_is_zero_at_target=False`) |

    ```python
    >>> import innerloop as il
    >>> il.testing.check_task(il.LinearRegression(dim=3, num_context=5))

    ```

    **Arguments:**

    - `task`: the task.
    - `prediction`: from an example to something that `task.loss` judges; by default the target.
    - `loss_is_zero_at_target`: whether the loss of that prediction is zero.
    - `seed`: of the keys.
    - `expected_failures`: checks known to fail, each with the reason.

    **Errors:** `AssertionError` that lists every failed check.
    """
    key, other = jax.random.split(jax.random.key(seed))

    def determinism() -> None:
        for split in SPLITS:
            example = task.sample(key, split)
            assert _equal(example, task.sample(key, split)), f"one key gives two examples ({split})"
            assert not _equal(example, task.sample(other, split)), f"two keys give one example ({split})"
        assert _equal(task.sample(key), task.sample(key, "train")), "the default split is not 'train'"

    def splits() -> None:
        examples = [task.sample(key, split) for split in SPLITS]
        for i, a in enumerate(SPLITS):
            for j, b in enumerate(SPLITS[:i]):
                assert not _equal(examples[i], examples[j]), f"{a} and {b} share their examples"
        try:
            task.sample(key, "tests")  # pyright: ignore[reportArgumentType]
        except UnknownNameError:
            pass
        else:
            raise AssertionError("an unknown split is accepted")

    def vmap_and_jit() -> None:
        keys = jax.random.split(key, 3)
        plain = [task.sample(k, "train") for k in keys]
        sample = eqx.filter_jit(lambda task, k: task.sample(k, "train"))
        assert_same([sample(task, k) for k in keys], plain, "under jit")
        together = jax.vmap(lambda k: task.sample(k, "train"))(keys)
        assert_same(together, jax.tree.map(lambda *parts: jnp.stack(parts), *plain), "under vmap")

    def finite() -> None:
        for leaf in jax.tree.leaves(task.sample(key)):
            assert np.all(np.isfinite(np.asarray(leaf))), "an example is not finite"
            kind = jnp.result_type(leaf)
            if jnp.issubdtype(kind, jnp.floating):
                assert kind == jnp.result_type(float), f"an example of {kind}, not {jnp.result_type(float)}"

    def judgement() -> None:
        example = task.sample(key)
        loss, metrics = task.loss(prediction(example), example), task.metrics(prediction(example), example)
        assert "loss" in metrics, f"no 'loss' among the metrics {sorted(metrics)}"
        for name, value in {**metrics, "the loss": loss}.items():
            assert jnp.shape(value) == (), f"{name} is no scalar, but of shape {jnp.shape(value)}"
            assert np.isfinite(np.asarray(value)), f"{name} is not finite"
        assert_same(metrics["loss"], loss, "the metric 'loss' against the loss")

    def zero_loss() -> None:
        example = task.sample(key)
        loss: Any = task.loss(prediction(example), example)
        assert float(loss) == 0.0, f"the loss of the target itself is {float(loss)}"

    checks = dict(determinism=determinism, splits=splits, vmap_and_jit=vmap_and_jit, finite=finite, judgement=judgement)
    if loss_is_zero_at_target:
        checks["zero_loss"] = zero_loss
    run_checks(type(task).__name__, checks, expected_failures)


def _equal(a: PyTree, b: PyTree) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
