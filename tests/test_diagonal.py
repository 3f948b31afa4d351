"""The diagonal recurrence and the short convolution: against loops, in all forms, with every derivative."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from innerloop.core.errors import UnknownNameError
from innerloop.nn import CausalConvolution, diagonal_recurrence
from innerloop.nn.sequence import FORMS
from innerloop.testing.comparison import assert_same
from oracles import recurrent as oracle

LENGTHS = (0, 1, 4, 13)


def numbers(seed, shape, kind=float):
    rng = np.random.default_rng(seed)
    real = rng.standard_normal(shape)
    return real + 1j * rng.standard_normal(shape) if kind is complex else real


def draw(length, kind, constant, neurons=(2, 3)):
    """Multipliers of a size about 0.6, inputs, a state, resets."""
    shape = (length, *neurons)
    multipliers = 0.6 * numbers(0, neurons if constant else shape, kind)
    resets = np.random.default_rng(3).random(length) < 0.3
    return multipliers, numbers(1, shape, kind), numbers(2, neurons, kind), resets


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("constant", [False, True])
def test_all_forms_are_the_loop(x64, kind, constant):
    # One program for all lengths, forms and starts.
    cases, wanted = [], []
    for length, with_state, with_resets in itertools.product(LENGTHS, (False, True), (False, True)):
        a, b, state, resets = draw(length, kind, constant)
        state, resets = state if with_state else None, resets if with_resets else None
        start = np.zeros(b.shape[1:]) if state is None else state
        expected = oracle.diagonal(a, b, start, resets)
        for form in FORMS:
            cases.append((a, b, state, resets, form))
            wanted.append(expected)

    def run(arrays):
        return [
            diagonal_recurrence(a, b, state, form=case[4], chunk_size=4, resets=resets)
            for (a, b, state, resets), case in zip(arrays, cases, strict=True)
        ]

    given = jax.jit(run)(jax.tree.map(jnp.asarray, [case[:4] for case in cases]))
    for case, (states, final), (expected, last) in zip(cases, given, wanted, strict=True):
        what = f"{case[4]}, {len(case[1])} tokens"
        np.testing.assert_allclose(states, expected, atol=1e-12, err_msg=what)
        np.testing.assert_allclose(final, last, atol=1e-12, err_msg=what)


def plain(multipliers, inputs, state, resets):
    """The definition, differentiated as it stands."""
    states = []
    for t, added in enumerate(inputs):
        multiplier = multipliers if multipliers.ndim < inputs.ndim else multipliers[t]
        multiplier = multiplier if resets is None else jnp.where(resets[t], jnp.zeros_like(multiplier), multiplier)
        state = multiplier * state + added
        states.append(state)
    return jnp.stack(states), state


@pytest.mark.parametrize("kind", [float, complex])
def test_gradients_are_those_of_the_loop(x64, kind):
    def loss(arrays, run):
        total = jnp.zeros(())
        for leaf in jax.tree.leaves(run(*arrays)):
            weights = jnp.cos(jnp.arange(leaf.size, dtype=float)).reshape(leaf.shape)
            total += jnp.sum(weights * jnp.real(leaf) ** 2 + weights**2 * jnp.imag(leaf))
        return total

    def all_gradients(cases):
        results = []
        for *arrays, resets in cases:
            runs = [lambda a, b, s, resets=resets: plain(a, b, s, resets)]
            for form in FORMS:
                runs.append(
                    lambda a, b, s, resets=resets, form=form: diagonal_recurrence(
                        a, b, s, form=form, chunk_size=3, resets=resets
                    )
                )
            results.append([jax.grad(loss)(tuple(arrays), run) for run in runs])
        return results

    cases = []
    for constant, with_resets in ((False, True), (True, False)):
        *arrays, resets = draw(7, kind, constant)
        cases.append((*arrays, resets if with_resets else None))
    for wanted, *given in jax.jit(all_gradients)(jax.tree.map(jnp.asarray, cases)):
        for form, gradients in zip(FORMS, given, strict=True):
            for name, a, b in zip(("multipliers", "inputs", "state"), gradients, wanted, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-11, err_msg=f"{form} form, by {name}")


def test_derivatives_of_second_order_and_in_both_modes(x64):
    # One form stands for all: they differ in how the one system is solved.
    arrays = [jnp.asarray(x) for x in draw(3, float, False, (2,))[:3]]
    run = jax.jit(lambda a, b, s: diagonal_recurrence(a, b, s, form="chunk", chunk_size=2)[0] ** 2)
    check_grads(run, arrays, order=2, rtol=1e-5, atol=1e-5)


def test_forms_agree_in_float32_where_much_is_kept():
    rng = np.random.default_rng(0)
    a = jnp.asarray(1 - 10.0 ** rng.uniform(-5, 0, (300, 4)), jnp.float32)
    b = jnp.asarray(rng.standard_normal((300, 4)), jnp.float32)
    state = jnp.ones((4,), jnp.float32)

    def run(a, b, state):
        def loss(a, b, state, form):
            states, final = diagonal_recurrence(a, b, state, form=form, chunk_size=32)
            return jnp.sum(states**2) + jnp.sum(final), (states, final)

        return {form: jax.grad(loss, (0, 1, 2), has_aux=True)(a, b, state, form) for form in FORMS}

    results = jax.jit(run)(a, b, state)
    for form in FORMS:
        assert_same(results[form], results["recurrent"], form)


def test_a_batch_is_one_by_one():
    a, b, state, _ = (jnp.asarray(x, jnp.float32) for x in draw(7, float, False))
    many = jnp.stack([b, 2 * b])
    for form in FORMS:
        together = jax.vmap(lambda b, form=form: diagonal_recurrence(a, b, state, form=form, chunk_size=3))(many)
        alone = diagonal_recurrence(a, many[1], state, form=form, chunk_size=3)
        assert_same(jax.tree.map(lambda leaf: leaf[1], together), alone, form)


def test_memory_of_the_gradient_is_a_few_sequences():
    """Whatever is stored for the backward pass has the size of the sequence, not that times the scan's levels."""
    a, b = jnp.full((512, 8), 0.5), jnp.ones((512, 8))
    for form in FORMS:
        run = lambda a, b, form=form: diagonal_recurrence(a, b, form=form)[0]  # noqa: E731
        pull = jax.eval_shape(lambda a, b, run=run: jax.vjp(run, a, b)[1], a, b)
        stored = sum(leaf.size for leaf in jax.tree.leaves(pull))
        assert stored <= 3.1 * b.size, f"{form} form stores {stored / b.size:.1f} sequences"


def test_bad_input_is_refused():
    b = jnp.ones((4, 3))
    with pytest.raises(ValueError, match=r"multipliers are \[3\] or \[4, 3\], not \[2\]"):
        diagonal_recurrence(jnp.ones((2,)), b)
    with pytest.raises(ValueError, match=r"the state is \[3\], not \[4\]"):
        diagonal_recurrence(b, b, jnp.ones((4,)))
    with pytest.raises(ValueError, match="chunk_size"):
        diagonal_recurrence(b, b, chunk_size=0)
    with pytest.raises(UnknownNameError, match="parallel"):
        diagonal_recurrence(b, b, form="paralel")


def convolutions(size, dtype=float):
    weight, bias = numbers(0, (size, 3)), numbers(1, (3,))
    return CausalConvolution(jnp.asarray(weight, dtype), jnp.asarray(bias, dtype)), weight, bias


@pytest.mark.parametrize("size", [1, 2, 4])
def test_convolution_is_the_loop(x64, size):
    layer, weight, bias = convolutions(size)
    tail = numbers(2, (size - 1, 3))
    for length in (0, 1, 2, 7):
        xs = numbers(length, (length, 3))
        wanted = oracle.convolution(weight, bias, xs, tail)
        for given, expected in zip(layer(jnp.asarray(xs), jnp.asarray(tail)), wanted, strict=True):
            np.testing.assert_allclose(given, expected, atol=1e-12)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("begins", [[], [0], [3], [6], [2, 3], [0, 4, 5, 6]])
def test_convolution_sees_its_own_segment_alone(x64, size, begins):
    layer, weight, bias = convolutions(size)
    xs, tail = numbers(4, (7, 3)), numbers(2, (size - 1, 3))
    resets = np.isin(np.arange(7), begins)
    wanted = oracle.segments(lambda xs, tail: oracle.convolution(weight, bias, xs, tail), xs, resets, tail, 0 * tail)
    given = layer(jnp.asarray(xs), jnp.asarray(tail), jnp.asarray(resets))
    for got, expected in zip(given, wanted, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_convolution_continues_exactly():
    layer, _, _ = convolutions(4, jnp.float32)
    xs = jnp.asarray(numbers(5, (9, 3)), jnp.float32)
    whole, tail = layer(xs, layer.init_state())
    for cut in (0, 1, 2, 5, 9):
        first, between = layer(xs[:cut], layer.init_state())
        second, after = layer(xs[cut:], between)
        np.testing.assert_array_equal(jnp.concatenate([first, second]), whole)
        np.testing.assert_array_equal(after, tail)


def test_convolution_tail_is_float32_for_half_precision():
    layer = CausalConvolution.random(3, key=jax.random.key(0))
    half = CausalConvolution(layer.weight.astype(jnp.bfloat16))
    ys, tail = half(jnp.ones((5, 3), jnp.bfloat16), half.init_state())
    assert ys.dtype == jnp.bfloat16 and tail.dtype == jnp.float32


def test_convolution_refuses_no_tokens():
    with pytest.raises(ValueError, match="size must be at least 1"):
        CausalConvolution.random(3, 0, key=jax.random.key(0))
