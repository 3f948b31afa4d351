"""What `rnn-attention` reads out of trained networks."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...nn.in_context.gradient_descent import in_context_gd
from ...nn.in_context.step_size import optimal_learning_rate
from ...nn.recurrent.gated_linear_rnn import GatedLinearRNN
from ...nn.recurrent.identification import attention_tensor, identify, tensor_error
from ...tasks.attention_teacher import AttentionTeacher
from ...tasks.regression import LinearRegression
from ...train.supervised import sample_batch

SEQUENCES = 200  # behind contributions and probes
ACTIVE = 1e-2  # the least contribution of a neuron that counts, in units of the largest
SHOWN = 200  # predictions stored for the figure


def algorithm(
    key: Key[Array, ""], models: dict[str, GatedLinearRNN], teacher: AttentionTeacher, other: AttentionTeacher
) -> dict[str, Array]:
    """Which neurons matter in networks, and whether they compute the teacher or another one; names get prefixes."""
    xs = sample_batch(teacher, key, SEQUENCES, split="test").inputs
    found: dict[str, Array] = {}
    for prefix, one in models.items():
        reading = identify(one, xs)
        extreme = reading.is_memory | reading.is_forget
        found |= {
            f"{prefix}active": jnp.sum(reading.contribution >= ACTIVE * jnp.max(reading.contribution)).astype(float),
            f"{prefix}extreme_share": jnp.sum(jnp.where(extreme, reading.contribution, 0.0)),
            f"{prefix}tensor_error": tensor_error(reading.tensor, _tensor(teacher)),
            f"{prefix}mismatched_tensor_error": tensor_error(reading.tensor, _tensor(other)),
            f"{prefix}remembered": jnp.min(reading.remembered),
            f"{prefix}present": jnp.min(reading.present),
            f"{prefix}multipliers": one.multipliers,
            f"{prefix}contribution": reading.contribution,
        }
    return found


def _tensor(teacher: AttentionTeacher) -> Float[Array, "v d d d"]:
    return attention_tensor(teacher.query, teacher.key, teacher.value) / teacher.length


def sorted_weights(key: Key[Array, ""], model: GatedLinearRNN, teacher: AttentionTeacher) -> dict[str, Array]:
    """Weights in units of what they move, neurons in the order of their multipliers, memory first.

    `written` `[2, n, d + 1]` are both input matrices, each row of norm one; `paired` `[n, n]` says how strongly the
    product of two neurons is read out.
    """
    xs = sample_batch(teacher, key, SEQUENCES, split="test").inputs
    states = jax.vmap(model.states)(xs)
    order = jnp.argsort(-model.multipliers)
    size = jnp.sqrt(jnp.mean(states**2, axis=(0, 1)))
    assert model.input_gate is not None and model.output_gate is not None
    pairs = jnp.einsum("ap,pn,pq->anq", model.readout, model.output_gate, model.output)
    pairs = jnp.linalg.norm(pairs + jnp.swapaxes(pairs, 1, 2), axis=0) * size[:, None] * size[None]
    rows = jnp.stack([model.input_gate, model.input])
    rows = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    return {
        "written": rows[:, order],
        "paired": (pairs / jnp.max(pairs))[order][:, order],
        "sorted_multipliers": model.multipliers[order],
    }


def agreement_with_gd(model: Any, task: LinearRegression, key: Key[Array, ""], count: int) -> dict[str, Array]:
    r"""Losses of a model and of one optimal step of gradient descent, and how far their predictions are apart.

    The features $(\sum_s y_i x_j) \, x_k$ are what a step of gradient descent is made of; their coefficients in the
    model's prediction are found by least squares.
    """
    batch = sample_batch(task, key, count, split="test")
    rate = optimal_learning_rate(task.dim, task.num_context, task.input_range).learning_rate
    data = jax.vmap(task.data)(batch)
    reference = jax.vmap(lambda x, y, query: in_context_gd(x, y, query[None], learning_rate=rate)[0])(*data)
    predictions = jax.vmap(model)(batch.inputs)

    def loss(predicted: Float[Array, "b o"]) -> Float[Array, ""]:
        return jnp.mean(jax.vmap(task.loss)(predicted, batch))

    features = jnp.einsum("bni,bnj,bk->bijk", data.y, data.x, data.query) / task.num_context
    flat = features.reshape(count, -1)
    coefficients, *_ = jnp.linalg.lstsq(flat, predictions)
    wanted = jnp.einsum("ai,jk->ijka", jnp.eye(task.outputs), jnp.eye(task.dim)).reshape(-1, task.outputs)
    residual = predictions - flat @ coefficients
    return {
        "loss": loss(predictions),
        "gd_loss": loss(reference),
        "zero_loss": loss(jnp.zeros_like(reference)),
        "distance": jnp.sum((predictions - reference) ** 2) / jnp.sum(reference**2),
        "coefficient_error": jnp.linalg.norm(coefficients / rate - wanted) / jnp.linalg.norm(wanted),
        "unexplained": jnp.sum(residual**2) / jnp.sum(predictions**2),
        "predictions": predictions[:SHOWN, 0],
        "gd_predictions": reference[:SHOWN, 0],
    }
