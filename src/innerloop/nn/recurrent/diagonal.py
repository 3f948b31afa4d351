"""The linear recurrence of independent neurons, in three forms."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from ...core.errors import require
from ..sequence import Form, check_form


def diagonal_recurrence(
    multipliers: Inexact[Array, "..."],
    inputs: Inexact[Array, "t *n"],
    state: Inexact[Array, "..."] | None = None,
    *,
    form: Form = "chunk",
    chunk_size: int = 64,
    resets: Bool[Array, "t"] | None = None,
) -> tuple[Inexact[Array, "t *n"], Inexact[Array, "*n"]]:
    r"""All states of neurons which multiply what they hold and add what comes in.

    $$h_t = a_t \odot h_{t-1} + b_t$$

    The states solve $(I - A S) h = b$ with the shift $S$ by one token, so their derivatives are further
    recurrences of the same form, the gradient's running backwards; of the forward pass only the multipliers and
    the states are kept for it, whatever the form. Derivatives of any order and in both modes exist.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.nn import diagonal_recurrence
    >>> states, final = diagonal_recurrence(jnp.asarray([0.5, 1.0]), jnp.ones((3, 2)))
    >>> states.tolist(), final.tolist()
    ([[1.0, 1.0], [1.5, 2.0], [1.75, 3.0]], [1.75, 3.0])

    ```

    **Arguments:**

    - `multipliers`: real or complex, one per token and neuron `[t ...]`, or the same at all times `[...]`.
    - `inputs`: what is added, real or complex.
    - `state`: before the first token; `None` is zero.
    - `form`: `"recurrent"` is one scan over the tokens, `"chunk"` one over the places of a chunk, for all chunks
      together, and one over the chunks, `"parallel"` an associative scan.
    - `chunk_size`: how many tokens make a chunk.
    - `resets`: tokens before which everything is forgotten: their multiplier is 0.

    **Returns:** the states after every token and the one after the last.

    **Reference:** Blelloch (1990), "Prefix sums and their applications"; Martin and Cundy (2018), arXiv
    1709.04057, for its gradient.

    **Errors:** `ValueError` for multipliers or a state that do not fit the inputs, or a `chunk_size` below one.
    """
    check_form(form)
    require(chunk_size >= 1, f"chunk_size must be at least 1, not {chunk_size}")
    neurons = inputs.shape[1:]
    constant = multipliers.ndim == len(neurons)
    require(
        multipliers.shape == (neurons if constant else inputs.shape),
        f"multipliers are {list(neurons)} or {list(inputs.shape)}, not {list(multipliers.shape)}",
    )
    dtype = jnp.promote_types(multipliers.dtype, inputs.dtype)
    if state is not None:
        require(state.shape == neurons, f"the state is {list(neurons)}, not {list(state.shape)}")
        dtype = jnp.promote_types(dtype, state.dtype)
    multipliers, inputs = multipliers.astype(dtype), inputs.astype(dtype)
    initial = jnp.zeros(neurons, dtype) if state is None else state.astype(dtype)
    if inputs.shape[0] == 0:
        return inputs, initial
    if resets is not None:
        begins = resets.reshape(-1, *[1] * len(neurons))
        multipliers = jnp.where(begins, jnp.zeros((), dtype), multipliers[None] if constant else multipliers)
        constant = False
    if state is not None:
        first = multipliers if constant else multipliers[0]
        inputs = inputs.at[0].add(first * initial)

    def residual(states):
        before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])
        return states - (multipliers[None] if constant else multipliers) * before

    def forwards(_, inputs):
        return _FORMS[form](multipliers, inputs, constant, chunk_size, False)

    def backwards(_, inputs):
        # The multiplier that leads to a token leads back from it one token earlier.
        later = multipliers if constant else jnp.concatenate([multipliers[1:], jnp.zeros_like(multipliers[:1])])
        return _FORMS[form](later, inputs, constant, chunk_size, True)

    states = jax.lax.custom_linear_solve(residual, inputs, forwards, backwards)
    return states, states[-1]


def _recurrent(multipliers, inputs, constant, _, reverse):
    """One token after the other."""

    def advance(state, token):
        multiplier, added = (multipliers, token) if constant else token
        state = multiplier * state + added
        return state, state

    tokens = inputs if constant else (multipliers, inputs)
    return jax.lax.scan(advance, jnp.zeros_like(inputs[0]), tokens, reverse=reverse)[1]


def _chunk(multipliers, inputs, constant, chunk_size, reverse):
    """The places of a chunk one after the other, all chunks at once; then what comes from other chunks."""
    length, *neurons = inputs.shape
    size = min(chunk_size, length)
    count = -(-length // size)

    def blocks(x):
        padding = [(0, count * size - length), *[(0, 0)] * len(neurons)]
        return jnp.pad(x, padding).reshape(count, size, *neurons)

    multipliers = jnp.broadcast_to(multipliers[None], inputs.shape) if constant else multipliers
    multipliers, inputs = blocks(multipliers), blocks(inputs)

    def advance(i, carry):
        """One place further in every chunk; places are read and written where they lie, nothing is transposed."""
        kept, state, all_kept, states = carry
        place = size - 1 - i if reverse else i
        multiplier = jax.lax.dynamic_index_in_dim(multipliers, place, 1, keepdims=False)
        added = jax.lax.dynamic_index_in_dim(inputs, place, 1, keepdims=False)
        kept, state = multiplier * kept, multiplier * state + added
        all_kept = jax.lax.dynamic_update_index_in_dim(all_kept, kept, place, 1)
        return kept, state, all_kept, jax.lax.dynamic_update_index_in_dim(states, state, place, 1)

    zero, one = jnp.zeros_like(inputs[:, 0]), jnp.ones_like(inputs[:, 0])
    carry = one, zero, jnp.zeros_like(inputs), jnp.zeros_like(inputs)
    kept, last, all_kept, states = jax.lax.fori_loop(0, size, advance, carry)
    ends, edge = _recurrent(kept, last, False, count, reverse), jnp.zeros_like(last[:1])
    handed = jnp.concatenate([ends[1:], edge] if reverse else [edge, ends[:-1]])
    return (states + all_kept * handed[:, None]).reshape(count * size, *neurons)[:length]


def _parallel(multipliers, inputs, constant, _, reverse):
    """Stretches of tokens joined in pairs, pairs of pairs, and so on."""
    if constant:
        multipliers = jnp.broadcast_to(multipliers[None], inputs.shape)

    def join(first, second):
        return second[0] * first[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(join, (multipliers, inputs), reverse=reverse)[1]


_FORMS = {"recurrent": _recurrent, "chunk": _chunk, "parallel": _parallel}
