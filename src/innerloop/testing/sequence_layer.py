"""The conformance battery of sequence layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..core.errors import UnknownNameError
from ..nn.sequence import FORMS, AbstractMemoryLayer, AbstractSequenceLayer, Form
from .battery import run_checks
from .comparison import assert_same

# Long enough that a state handed over is not the initial one.
_PREFIX = 3


def check_sequence_layer(
    layer: AbstractSequenceLayer,
    *,
    width: int,
    lengths: Sequence[int] = (0, 1, 13),
    tolerance: float | None = None,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Whether a sequence layer keeps what the interface promises.

    | check | promise |
    |---|---|
    | `forms_agree` | all forms give the same outputs and final states, with and without a state |
    | `gradients_agree` | and the same gradients by every weight, by the input and by the initial state |
    | `state_hand_over` | cutting a sequence and handing the state over changes nothing |
    | `segments` | a sequence packed of several, with resets where they begin, is the same as each on its own |
    | `step_is_recurrent` | `step`, token by token, is the recurrent form; a stored state goes on to the bit |
    | `half_precision` | with bfloat16 weights and tokens the state is float32 still, and the forms agree |
    | `vmap_and_jit` | a batch is the same as one by one, compiled the same as not |
    | `state_size` | the state has one size at all times, in float32 (float64 for float64 weights) |
    | `causality` | no output depends on a later token |
    | `refusals` | wrong widths, states, forms and resets, and tokens that are not finite, are refused by name |
    | `memory` | for memory layers: `step` is write, then read; `attend` is write from empty, then read |

    Give a layer with a chunk size below the longest length, or its chunk form is not really tested, and with
    room for twice the longest length and four tokens more.

    ```python
    >>> import jax, innerloop as il
    >>> layer = il.LinearSelfAttention(il.Projections.random(4, 2, 3, key=jax.random.key(0)), chunk_size=4)
    >>> il.testing.check_sequence_layer(layer, width=4)

    ```

    **Arguments:**

    - `layer`: the layer.
    - `width`: of its input tokens.
    - `lengths`: of the sequences to try.
    - `tolerance`: relative, root mean square; by default 1e-5 in float32 and 1e-10 in float64.
    - `seed`: of the random tokens.
    - `expected_failures`: checks known to fail, each with the reason.

    **Errors:** `AssertionError` that lists every failed check.
    """
    dtype = _dtype(layer)
    numbers = np.random.default_rng(seed)

    def tokens(length: int, *batch: int) -> Array:
        return jnp.asarray(numbers.standard_normal((*batch, length, width)), dtype)

    # All forms in one compilation: compiling is nearly all that a battery costs.
    run = eqx.filter_jit(
        lambda layer, xs, state, resets=None: {form: layer(xs, state, form=form, resets=resets) for form in FORMS}
    )
    started = run(layer, tokens(_PREFIX), None)["recurrent"][1]

    def same(given: PyTree, wanted: PyTree, what: str) -> None:
        assert_same(given, wanted, what, tolerance=tolerance)

    def forms_agree() -> None:
        for length in lengths:
            xs = tokens(length)
            for state, start in ((None, "no state"), (started, "a state")):
                results = run(layer, xs, state)
                for form in FORMS:
                    same(results[form], results["recurrent"], f"{form} form, {length} tokens from {start}")
        xs = tokens(max(lengths))
        same(run(layer, xs, layer.init_state()), run(layer, xs, None), "the initial state instead of no state")

    def gradients_agree() -> None:
        length = max(lengths)
        # With a segment that begins inside, so that both what passes and what must not is differentiated.
        gradients = _gradients(layer, tokens(length), started, jnp.arange(length) == length // 2)
        for form in FORMS:
            same(gradients[form], gradients["recurrent"], f"gradients of the {form} form, {length} tokens")

    # Of lengths for which programs are compiled anyway, but in an order that no block size divides.
    def state_hand_over() -> None:
        length = max(lengths)
        pieces = [tokens(1), tokens(length), tokens(length)]
        whole = run(layer, jnp.concatenate(pieces), started, jnp.zeros((2 * length + 1,), bool))
        results, state = [], started
        for piece in pieces:
            results.append(run(layer, piece, state))
            state = results[-1]["recurrent"][1]
        for form in FORMS:
            outputs = jnp.concatenate([result[form][0] for result in results])
            same((outputs, results[-1][form][1]), whole[form], f"{form} form, cut after 1 and {length + 1} tokens")

    def segments() -> None:
        length = max(lengths)
        pieces = [tokens(length), tokens(1), tokens(length)]
        resets = jnp.zeros((2 * length + 1,), bool).at[jnp.asarray([length, length + 1])].set(True)
        packed = run(layer, jnp.concatenate(pieces), started, resets)
        alone = [run(layer, piece, state) for piece, state in zip(pieces, (started, None, None), strict=True)]
        for form in FORMS:
            outputs, final = packed[form]
            wanted = jnp.concatenate([one[form][0] for one in alone])
            same(outputs, wanted, f"{form} form, three sequences in one")
            if not _is_cache(final):
                same(final, alone[-1][form][1], f"{form} form, the state after three sequences in one")

    def step_is_recurrent() -> None:
        xs = tokens(max(lengths))
        step = eqx.filter_jit(lambda layer, state, x: layer.step(state, x))

        def steps(state: PyTree, xs: Array) -> tuple[list[Array], PyTree]:
            outputs = []
            for x in xs:
                state, output = step(layer, state, x)
                outputs.append(output)
            return outputs, state

        outputs, final = steps(layer.init_state(), xs)
        if outputs:
            same((jnp.stack(outputs), final), run(layer, xs, None)["recurrent"], "step")
            half = len(xs) // 2
            stored = jax.tree.map(np.asarray, steps(layer.init_state(), xs[:half])[1])
            again, last = steps(jax.tree.map(jnp.asarray, stored), xs[half:])
            pairs = zip(jax.tree.leaves((again, last)), jax.tree.leaves((outputs[half:], final)), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs), (
                f"a state stored after {half} tokens goes on differently"
            )

    def half_precision() -> None:
        def halved(tree: PyTree) -> PyTree:
            return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf, tree)

        results = run(halved(layer), halved(tokens(max(lengths))), None)
        for form, (outputs, state) in results.items():
            assert np.all(np.isfinite(np.asarray(outputs, np.float32))), f"{form} form: outputs are not finite"
            for leaf in jax.tree.leaves(_moving(state)):
                assert leaf.dtype == jnp.float32, f"{form} form: a state of {leaf.dtype}, not float32"
            wanted = np.asarray(results["recurrent"][0], np.float32)
            error = np.linalg.norm(np.asarray(outputs, np.float32) - wanted)
            assert error <= 0.05 * np.linalg.norm(wanted), f"{form} form is {error:.2e} from the recurrent form"

    def vmap_and_jit() -> None:
        batch = tokens(max(lengths), 2)
        one_by_one = [run(layer, xs, started) for xs in batch]
        together = eqx.filter_jit(jax.vmap(lambda xs: run(layer, xs, started)))(batch)
        same(together, jax.tree.map(lambda *parts: jnp.stack(parts), *one_by_one), "under vmap")
        for form in FORMS:
            same(layer(batch[0], started, form=form), one_by_one[0][form], f"{form} form without jit")

    def state_size() -> None:
        wanted = jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), layer.init_state())
        least = dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
        for leaf in jax.tree.leaves(layer.init_state()):
            kind = jnp.result_type(leaf)
            assert kind == least or not jnp.issubdtype(kind, jnp.inexact), f"a state of {kind}, not {least}"
        for length in lengths:
            for form, (_, final) in run(layer, tokens(length), None).items():
                given = jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), final)
                assert given == wanted, f"{form} form: the state after {length} tokens is {given}, not {wanted}"

    def causality() -> None:
        length = max(lengths)
        xs, cut = tokens(length), length // 2
        other = jnp.concatenate([xs[:cut], tokens(length - cut)])
        before, after = run(layer, xs, None), run(layer, other, None)
        for form in FORMS:
            outputs, changed = before[form][0], after[form][0]
            same(changed[:cut], outputs[:cut], f"{form} form: outputs before a change")
            if cut < length:
                assert not np.allclose(changed[cut:], outputs[cut:]), f"{form} form: the outputs ignore the input"

    def refusals() -> None:
        misspelt: Any = "chunks"
        state = layer.init_state()
        longer = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]) if jnp.ndim(leaf) else leaf, state)
        _refuses(lambda: layer(jnp.zeros((2, width + 1), dtype)), "a sequence of wider tokens")
        _refuses(lambda: layer.step(state, jnp.zeros((width + 1,), dtype)), "a wider token")
        _refuses(lambda: layer(tokens(2), longer), "a state of another size")
        _refuses(lambda: layer(tokens(2), {"no such": state}), "a state of another structure")
        _refuses(lambda: layer(tokens(2), form=misspelt), "an unknown form", UnknownNameError)
        _refuses(lambda: layer(tokens(2), resets=jnp.zeros((3,), bool)), "resets of another length")
        _refuses(lambda: layer(tokens(2).at[1, 0].set(jnp.nan)), "a token that is not finite")

    def memory() -> None:
        assert isinstance(layer, AbstractMemoryLayer)
        xs, context = tokens(5), tokens(7)
        empty = layer.init_state()
        for state, start in ((empty, "an empty memory"), (started, "a memory")):
            state_after, output = layer.step(state, xs[0])
            written = layer.write(state, xs[:1])
            same(
                (written, layer.read(written, xs[:1])[0]),
                (state_after, output),
                f"write, then read, from {start}",
            )
            parts = layer.write(layer.write(state, xs[:2]), xs[2:])
            same(parts, layer.write(state, xs), f"writing in two parts to {start}")
        same(layer.write(None, context), layer.write(empty, context), "writing to no state")
        for readers in (xs, xs[:1], xs[:0]):
            wanted = layer.read(layer.write(None, context), readers)
            same(layer.attend(context, readers), wanted, f"attend of {len(readers)} tokens")
        same(layer.attend(context[:0], xs), layer.read(empty, xs), "attend to no context")

    checks = dict(
        forms_agree=forms_agree,
        gradients_agree=gradients_agree,
        state_hand_over=state_hand_over,
        segments=segments,
        step_is_recurrent=step_is_recurrent,
        vmap_and_jit=vmap_and_jit,
        state_size=state_size,
        causality=causality,
        refusals=refusals,
    )
    if dtype == jnp.float32:
        checks["half_precision"] = half_precision
    if isinstance(layer, AbstractMemoryLayer):
        checks["memory"] = memory
    run_checks(type(layer).__name__, checks, expected_failures)


def _moving(tree: PyTree) -> PyTree:
    return eqx.filter(tree, eqx.is_inexact_array)


def _is_cache(state: PyTree) -> bool:
    """Whether a state remembers where it stands: a cache keeps the places of earlier segments."""
    return any(jnp.issubdtype(jnp.result_type(leaf), jnp.integer) for leaf in jax.tree.leaves(state))


@eqx.filter_jit
def _gradients(layer: AbstractSequenceLayer, xs: Array, state: PyTree, resets: Array) -> dict[str, PyTree]:
    """Per form, gradients of a scalar of all outputs and the final state, by weights, input and state."""
    moving, fixed = eqx.partition((layer, xs, state), eqx.is_inexact_array)

    def scalar(moving: PyTree, form: Form) -> Array:
        layer, xs, state = eqx.combine(moving, fixed)
        total = jnp.zeros((), xs.dtype)
        for leaf in jax.tree.leaves(eqx.filter(layer(xs, state, form=form, resets=resets), eqx.is_inexact_array)):
            # Another weight for each entry, or errors could cancel in the sum.
            total += jnp.sum(jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)) * jnp.ravel(leaf)).astype(xs.dtype)
        return total

    return {form: jax.grad(scalar)(moving, form) for form in FORMS}


def _refuses(call: Any, what: str, kinds: Any = (ValueError, TypeError)) -> None:
    try:
        call()
    except kinds as error:
        assert str(error), f"{what} is refused without a message"
    except Exception as error:
        raise AssertionError(f"{what} is refused with a {type(error).__name__}: {error}") from error
    else:
        raise AssertionError(f"{what} is accepted")


def _dtype(layer: AbstractSequenceLayer) -> jnp.dtype:
    weights = jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array))
    return jnp.result_type(*weights) if weights else jnp.result_type(float)
