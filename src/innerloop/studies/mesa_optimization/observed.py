"""The models of `mesa-optimization` on observations as they come: softmax layers, hybrids, few-shot regression."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from ...lab.cells import Cells
from ...nn.attention.softmax_attention import masked_softmax
from ...nn.in_context.least_squares_predictors import least_squares, least_squares_predictor
from ...nn.in_context.prompts import PromptedRegression
from ...nn.probes import LinearProbes
from ...tasks.dynamics import LinearSystem, RegressionSequence
from ...train.supervised import sample_batch
from .configuration import Config, Training
from .models import observation_model
from .training import make, mean_losses, system, train, tuned_ridge

OFFSETS = 8  # how many tokens back the binding of tokens is looked for
HYBRID = ("softmax", "mesa")


def measure_observed(config: Config, cells: Cells, kind: str, regime: str) -> None:
    """Train on one kind of systems; record losses, and what the first layer has bound together."""
    task = system(config, regime)
    shallow = kind == "softmax" and cells.variant == "softmax-shallow"
    layers = HYBRID if kind == "hybrid" else ("softmax",) * (2 if shallow else config.network.softmax_depth)
    untrained = make(cells, lambda key: _model(config, task, layers, config.observations.deviation, key, regime))
    model = train(cells, config.observations, task, untrained, curve_sequences=config.curve_sequences)
    window = -(-task.state_size // task.size)
    ridge = tuned_ridge(task, config.tuning_sequences, clip=False, window=window)

    @eqx.filter_jit
    @eqx.filter_vmap
    def final(key: Key[Array, ""], model: PyTree) -> dict[str, Array]:
        batch = sample_batch(task, key, config.evaluation_sequences, split="test")
        return {
            "losses": mean_losses(model, task, batch),
            "zero_losses": mean_losses(jnp.zeros_like, task, batch),
            "least_squares_losses": mean_losses(
                lambda observations: least_squares_predictor(observations, ridge, window=window), task, batch
            ),
        }

    _store(cells, final(cells.keys("test"), model), config.observations)
    if regime == "nonlinear" or shallow:
        return
    binding = eqx.filter_jit(eqx.filter_vmap(lambda key, model: _binding(config, task, key, model)))
    for prefix, one in (("", model), ("untrained_", untrained)):
        found = binding(cells.keys("binding"), one)
        cells.save(**{f"{prefix}{name}": values for name, values in found.items()})


def measure_few_shot(config: Config, cells: Cells) -> None:
    """A hybrid trained on systems is asked for labels of pairs, then tokens are learned that help it."""
    shots, size = config.few_shot, config.systems.size
    task = system(config, length=shots.length)
    capacity = max(shots.length, shots.prefix + 3 * shots.num_pairs)
    untrained = make(
        cells, lambda key: _model(config, task, HYBRID, config.long.deviation, key, "full", capacity=capacity)
    )
    model = train(cells, config.long, task, untrained, curve_sequences=config.curve_sequences)
    pairs = RegressionSequence(size, shots.num_pairs)
    ridge = tuned_ridge(task, config.tuning_sequences, clip=False)
    prompts = {}
    for name, settings in {
        "separator": {"separator": True},
        "prefix": {"separator": False, "prefix": shots.prefix},
    }.items():
        first = eqx.filter_jit(
            eqx.filter_vmap(
                lambda key, model, settings=settings: PromptedRegression.random(model, size, key=key, **settings)
            )
        )(cells.keys(name), model)
        prompts[f"untuned_{name}"] = first
        prompts[name] = train(
            cells,
            config.prompts,
            pairs,
            first,
            curve_sequences=config.curve_sequences,
            name=name,
            learned=lambda prompted: [part for part in (prompted.prefix, prompted.separator) if part is not None],
        )

    def spurious(pairs: Float[Array, "i 2 n"]) -> Float[Array, "i n"]:
        return PromptedRegression(lambda observations: least_squares_predictor(observations, ridge))(pairs)

    def clean(pairs: Float[Array, "i 2 n"]) -> Float[Array, "i n"]:
        before = jnp.concatenate([jnp.zeros_like(pairs[:1]), pairs[:-1]])
        return least_squares(before[:, 0], before[:, 1], pairs[:, 0], ridge)

    @eqx.filter_jit
    @eqx.filter_vmap
    def final(key: Key[Array, ""], model: PyTree, prompts: dict[str, PyTree]) -> dict[str, Array]:
        batch = sample_batch(pairs, key, shots.sequences, split="test")
        # The control: each input with the label of another, so that there is nothing to learn.
        shuffled = jnp.stack([batch.inputs[:, :, 0], jnp.roll(batch.inputs[:, :, 1], 1, axis=0)], axis=2)
        predictors: dict[str, Any] = {"": PromptedRegression(model), **prompts, "spurious": spurious, "clean": clean}
        losses = {f"{name}_losses".lstrip("_"): mean_losses(one, pairs, batch) for name, one in predictors.items()}
        unrelated = batch._replace(inputs=shuffled, target=shuffled[:, :, 1])
        losses["shuffled_losses"] = mean_losses(PromptedRegression(model), pairs, unrelated)
        return losses

    _store(cells, final(cells.keys("test"), model, prompts), config.prompts)


# ---- what they share -----------------------------------------------------------------------------------------------


def _model(
    config: Config,
    task: LinearSystem,
    layers: tuple[str, ...],
    deviation: float,
    key: Key[Array, ""],
    regime: str,
    *,
    capacity: int | None = None,
) -> PyTree:
    network = config.network
    return observation_model(
        task.size,
        layers,
        width=network.width,
        num_heads=network.num_heads,
        key_size=network.key_size,
        position_size=network.position_size,
        hidden_size=network.nonlinear_hidden_size if regime == "nonlinear" else network.hidden_size,
        capacity=task.length if capacity is None else capacity,
        deviation=deviation,
        key=key,
    )


def _store(cells: Cells, curves: dict[str, Array], training: Training) -> None:
    cells.save(**curves)
    means = {name.removesuffix("es"): jnp.mean(values, axis=1) for name, values in curves.items()}
    cells.record(means, step=training.steps)


def _binding(config: Config, task: LinearSystem, key: Key[Array, ""], model: PyTree) -> dict[str, Array]:
    """What the last token holds of the observations before it, after the first layer; and what it attends to.

    - `binding_probes`: errors of decoding the observation at each offset back from the last token.
    - `own_probes`: the same, each from its own token: what a probe finds where the observation is.
    - `sensitivity`: the norms of the derivatives of the last token after the first layer, as shares.
    - `attention`: the mean attention of each head of the first layer.
    """
    count, sequence_model = config.evaluation_sequences, model.model
    batch = sample_batch(task, key, 2 * count, split="test")

    def after_first(observations: Float[Array, "t n"]) -> Float[Array, "t d"]:
        return sequence_model.hidden_states(observations)[0][1]

    tokens = jax.lax.map(after_first, batch.inputs, batch_size=250)
    offsets = jnp.arange(min(OFFSETS, task.length))
    targets = batch.inputs[:, ::-1][:, : len(offsets)]

    def probe(activations: Float[Array, "b t d"]) -> Float[Array, "t"]:
        probes = LinearProbes.fit(activations[:count], targets[:count])
        return probes.errors(activations[count:], targets[count:])

    last = jnp.broadcast_to(tokens[:, -1:], (2 * count, len(offsets), tokens.shape[-1]))

    def shares(observations: Float[Array, "t n"]) -> Float[Array, "t"]:
        jacobian = jax.jacrev(lambda observations: after_first(observations)[-1])(observations)
        norms = jnp.sqrt(jnp.sum(jacobian**2, axis=(0, 2)))
        return norms / jnp.sum(norms)

    sensitivity = jnp.mean(jax.lax.map(shares, batch.inputs[:200]), axis=0)[::-1][: len(offsets)]
    return {
        "binding_probes": probe(last),
        "own_probes": probe(tokens[:, ::-1][:, : len(offsets)]),
        "sensitivity": sensitivity,
        "attention": jnp.mean(jax.vmap(lambda one: _attention(sequence_model, one))(batch.inputs[:500]), axis=0),
    }


def _attention(model: PyTree, observations: Float[Array, "t n"]) -> Float[Array, "h t t"]:
    """The attention of the first layer."""
    block = model.stack.layers[0]
    tokens = block.layer.positioned(block.normed(observations @ model.read_in))
    projections, scale = block.layer.attention.projections, block.layer.attention.scale
    scores = scale * jnp.einsum("htk,hsk->hts", projections.queries(tokens), projections.keys(tokens))
    visible = jnp.tril(jnp.ones(scores.shape[1:], bool))[None]
    return masked_softmax(scores, visible)
