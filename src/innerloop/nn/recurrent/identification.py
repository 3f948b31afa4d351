"""Reading an algorithm out of a gated linear recurrent network: which neurons matter, and what they compute."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...core.errors import require
from .gated_linear_rnn import RATE_OF_ONE, RATE_OF_ZERO, GatedLinearRNN

# Neurons with |lambda| beyond these remember, or forget.
MEMORY, FORGET = 0.99, 0.02


class Identification(NamedTuple):
    r"""What `identify` finds.

    - `contribution`: of each neuron to the output, see `neuron_contributions`; they sum to one.
    - `is_memory`, `is_forget`: which neurons keep everything and which nothing; all others are neither.
    - `tensor`: see `cubic_tensor`.
    - `remembered`: $R^2$ of each $\sum_s x_i x_j$, $i \le j$, from the neurons that remember.
    - `present`: $R^2$ of each coordinate of the present token from the neurons that forget.
    """

    contribution: Float[Array, "n"]
    is_memory: Bool[Array, "n"]
    is_forget: Bool[Array, "n"]
    tensor: Float[Array, "e d d d"]
    remembered: Float[Array, "pairs"]
    present: Float[Array, "d"]


def identify(
    model: GatedLinearRNN, xs: Float[Array, "b t d"], *, memory: float = MEMORY, forget: float = FORGET
) -> Identification:
    r"""Which neurons matter, what they remember, and the polynomial they compute.

    ```python
    >>> import jax
    >>> from innerloop.nn import gated_rnn_from_attention, identify
    >>> query, key, value = jax.random.normal(jax.random.key(0), (3, 4, 4))
    >>> model = gated_rnn_from_attention(query, key, value)
    >>> found = identify(model, jax.random.normal(jax.random.key(1), (8, 20, 4)))
    >>> int(found.is_memory.sum()), int(found.is_forget.sum()), found.tensor.shape
    (10, 4, (4, 4, 4, 4))

    ```

    **Arguments:**

    - `model`: the network.
    - `xs`: sequences to look at.
    - `memory`, `forget`: $|\lambda|$ above and below which a neuron counts as remembering and as forgetting.

    **Reference:** Zucchet et al. (2023), arXiv 2309.01775; contributions and tensor are derived here.
    """
    states = jax.vmap(model.states)(xs)
    is_memory, is_forget = classify(model, memory=memory, forget=forget)
    parts = states.shape[-1] // model.num_neurons
    remembering, forgetting = (jnp.tile(mask, parts) for mask in (is_memory, is_forget))
    sums = monomial_sums(xs)
    return Identification(
        contribution=neuron_contributions(model, states),
        is_memory=is_memory,
        is_forget=is_forget,
        tensor=cubic_tensor(model, memory=memory, forget=forget),
        remembered=explained(_rows(jnp.where(remembering, states, 0.0)), _rows(sums)),
        present=explained(_rows(jnp.where(forgetting, states, 0.0)), _rows(xs)),
    )


def classify(
    model: GatedLinearRNN, *, memory: float = MEMORY, forget: float = FORGET
) -> tuple[Bool[Array, "n"], Bool[Array, "n"]]:
    r"""Which neurons have $|\lambda|$ above `memory`, and which below `forget`."""
    kept = jnp.abs(model.multipliers)
    return kept > memory, kept < forget


def neuron_contributions(model: GatedLinearRNN, states: Float[Array, "*b s"]) -> Float[Array, "n"]:
    r"""The share of each neuron in what is read out.

    $$c_i \propto \mathrm{rms}(h_i) \sum_p \lVert D_{\cdot p} \rVert \bigl( |W^{out}_{m, pi}| \,
      \mathrm{rms}((W^{out}_x h)_p) + |W^{out}_{x, pi}| \, \mathrm{rms}((W^{out}_m h)_p) \bigr)$$

    Each weight counts by what its product does to the output, so that nothing depends on how the scale of a
    product is divided among its factors and the readout.
    """

    def rms(values: Float[Array, "*b p"]) -> Float[Array, "p"]:
        return jnp.sqrt(jnp.mean(values.reshape(-1, values.shape[-1]) ** 2, axis=0))

    sizes, readout = rms(states), jnp.linalg.norm(model.readout, axis=0)
    if model.output_gate is None:
        weight = readout @ jnp.abs(model.output)
    else:
        other, gate = rms(states @ model.output.T), rms(states @ model.output_gate.T)
        weight = (readout * other) @ jnp.abs(model.output_gate) + (readout * gate) @ jnp.abs(model.output)
    parts = (sizes * weight).reshape(-1, model.num_neurons).sum(axis=0)
    return parts / jnp.sum(parts)


def cubic_tensor(model: GatedLinearRNN, *, memory: float = MEMORY, forget: float = FORGET) -> Float[Array, "e d d d"]:
    r"""The part of the network that is attention, $y_a = \sum_{ijk} T_{aijk} \, (\sum_s x_i x_j)_s \, x_k$.

    Only products of a neuron that remembers (with $\lambda$ taken to be 1) and one that forgets (taken to be 0)
    are in it. The tensor is symmetric in $i$ and $j$ and does not depend on the order and the scale of neurons
    and products: two networks that compute attention alike have the same one.

    **Errors:** `ValueError` for complex neurons, which have no such polynomial.
    """
    require(model.phase is None, "the cubic tensor is that of real neurons")
    is_memory, is_forget = classify(model, memory=memory, forget=forget)
    width = model.width
    if model.output_gate is None:
        return jnp.zeros((model.readout.shape[0], width, width, width), model.readout.dtype)
    gate = model.input_gate
    if gate is None:
        gate = jnp.zeros_like(model.input).at[:, -1].set(1)
    forms = gate[:, :, None] * model.input[:, None, :]  # each neuron's quadratic form in [x; 1]
    forms = 0.5 * (forms + jnp.swapaxes(forms, 1, 2))
    held = jnp.where(is_memory[:, None, None], forms[:, :width, :width], 0.0)
    present = jnp.where(is_forget[:, None], 2.0 * forms[:, :width, width], 0.0)  # their part linear in x
    pairs = jnp.einsum("ap,pn,pq->anq", model.readout, model.output_gate, model.output)
    pairs = pairs + jnp.swapaxes(pairs, 1, 2)
    return jnp.einsum("anq,nij,qk->aijk", pairs, held, present)


def attention_tensor(
    query: Float[Array, "d k"], key: Float[Array, "d k"], value: Float[Array, "d v"]
) -> Float[Array, "v d d d"]:
    r"""The tensor of linear self-attention: $T_{aijk} = W^V_{ia} (W^K W^{Q \top})_{jk}$, symmetrised over $i, j$."""
    tensor = jnp.einsum("ia,jk->aijk", value, key @ query.T)
    return 0.5 * (tensor + jnp.swapaxes(tensor, 1, 2))


def tensor_error(given: Float[Array, "e d d d"], wanted: Float[Array, "e d d d"]) -> Float[Array, ""]:
    """The norm of the difference, relative to that of the wanted tensor."""
    return jnp.linalg.norm(jnp.ravel(given - wanted)) / jnp.linalg.norm(jnp.ravel(wanted))


def monomial_sums(xs: Float[Array, "*b t d"]) -> Float[Array, "*b t pairs"]:
    r"""$\sum_{s \le t} x_{s,i} x_{s,j}$ for all $i \le j$."""
    rows, columns = np.triu_indices(xs.shape[-1])
    return jnp.cumsum(xs[..., rows] * xs[..., columns], axis=-2)


def explained(features: Float[Array, "r f"], targets: Float[Array, "r g"]) -> Float[Array, "g"]:
    r"""$R^2$ of each target in the best affine function of the features; features that are zero do not count."""
    features, targets = (part - part.mean(axis=0)[None] for part in (features, targets))
    scale = jnp.linalg.norm(features, axis=0)[None]
    features = features / jnp.where(scale > 0, scale, 1.0)
    residuals = targets - features @ jnp.linalg.lstsq(features, targets)[0]
    return 1.0 - jnp.sum(residuals**2, axis=0) / jnp.sum(targets**2, axis=0)


def prune(model: GatedLinearRNN, xs: Float[Array, "b t d"], *, tolerance: float = 1e-2) -> GatedLinearRNN:
    """The network without the neurons whose contribution is below `tolerance` times the largest one.

    Its size depends on the numbers: not for use under `jit`.

    **Errors:** `ValueError` for a tolerance that leaves nothing or says nothing.
    """
    require(0 <= tolerance <= 1, f"tolerance must lie between 0 and 1, not {tolerance}")
    contribution = neuron_contributions(model, jax.vmap(model.states)(xs))
    return keep_neurons(model, np.flatnonzero(np.asarray(contribution >= tolerance * contribution.max())))


def keep_neurons(model: GatedLinearRNN, neurons: np.ndarray) -> GatedLinearRNN:
    """The network of some of the neurons, in the given order."""
    parts = neurons if model.phase is None else np.concatenate([neurons, neurons + model.num_neurons])

    def rows(array: Array | None) -> Array | None:
        return None if array is None else array[neurons]

    gate = model.output_gate
    return GatedLinearRNN(
        rate=model.rate[neurons],
        input=model.input[neurons],
        input_gate=rows(model.input_gate),
        output=model.output[:, parts],
        output_gate=None if gate is None else gate[:, parts],
        readout=model.readout,
        phase=rows(model.phase),
        chunk_size=model.chunk_size,
    )


def round_multipliers(model: GatedLinearRNN, *, threshold: float = 0.5) -> GatedLinearRNN:
    r"""The network with $|\lambda|$ rounded to exactly 0 or 1, phases untouched."""
    kept = jnp.abs(model.multipliers) > threshold
    rate = jnp.where(kept, RATE_OF_ONE, RATE_OF_ZERO).astype(model.rate.dtype)
    return eqx.tree_at(lambda model: model.rate, model, rate)


def _rows(array: Float[Array, "b t f"]) -> Float[Array, "r f"]:
    return array.reshape(-1, array.shape[-1])
