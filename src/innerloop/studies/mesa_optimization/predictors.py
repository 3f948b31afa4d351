"""What of `mesa-optimization` needs no training: least squares and kernel regression over the size of a system."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ...lab.cells import Cells
from ...nn.in_context.least_squares_predictors import kernel_regression_predictor, least_squares_predictor
from ...tasks.dynamics import LinearSystem
from ...tasks.task import Example
from ...train.supervised import sample_batch
from .configuration import Config

SHARPNESSES = np.geomspace(0.03, 30.0, 25)  # of the softmax, times the root of the size
RIDGES = (1e-3, 1e-1)


def measure_predictors(config: Config, cells: Cells) -> None:
    """Losses in units of that of predicting zero, where the context is four times as long as an observation is wide.

    Without noise, which would add up along a sequence, and sequences are the longer the larger the system. Small
    systems are drawn more often, or the chance of which ones would hide what the size does.
    """
    found: dict[str, list[Array]] = {"least_squares": [], "kernel_regression": []}
    for size in config.scaling_sizes:
        task = LinearSystem(size, length=4 * size, process_noise=0.0)
        count = round(config.scaling_sequences * (max(config.scaling_sizes) / size) ** 2)
        losses = eqx.filter_jit(jax.vmap(lambda key, task=task, count=count: _losses(task, key, count)))(
            cells.keys(f"size {size}")
        )
        for name, values in zip(found, losses, strict=True):
            found[name].append(values)
    cells.save(**{f"{name}_losses": jnp.stack(values, axis=1) for name, values in found.items()})


def _losses(task: LinearSystem, key: Key[Array, ""], count: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The least mean loss over ridges, and over sharpnesses."""
    batch = sample_batch(task, key, count, split="test")
    zero = jnp.mean(jax.vmap(lambda example: task.loss(jnp.zeros_like(example.target), example))(batch))

    def best(predict, numbers) -> Float[Array, ""]:
        def loss(number: Float[Array, ""]) -> Float[Array, ""]:
            # A few sequences at once: the moments of all would need much memory in large systems.
            def of_sequence(example: Example) -> Float[Array, ""]:
                return task.loss(predict(example.inputs, number), example)

            losses = jax.lax.map(of_sequence, batch, batch_size=max(1, 240 // task.size))
            return jnp.mean(losses) / zero

        return jnp.min(jax.lax.map(loss, jnp.asarray(numbers, jnp.float32)))

    return best(least_squares_predictor, RIDGES), best(
        kernel_regression_predictor, SHARPNESSES / np.sqrt(task.size)
    )  # fmt: skip
