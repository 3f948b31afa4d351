"""RG-LRU and Hawk, LRU, selective SSM, LSTM, GRU: against loops, by the battery, in segments, and as drawn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.nn import GRU, LSTM, HawkLayer, LRULayer, RealGatedLRU, SelectiveSSM
from innerloop.nn.sequence import FORMS
from innerloop.testing import check_sequence_layer
from innerloop.testing.comparison import assert_same
from oracles import recurrent as oracle

WIDTH = 6


def scrambled(layer):
    """Biases and gains away from the values they start at, where a forgotten one would not be seen."""
    leaves, tree = jax.tree.flatten(eqx.filter(layer, eqx.is_inexact_array))
    keys = jax.random.split(jax.random.key(5), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(k, leaf.shape, leaf.dtype) for leaf, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, moved), layer)


KEY = dict(key=jax.random.key(0))
LAYERS = {
    "RG-LRU": (lambda: RealGatedLRU(WIDTH, num_heads=2, chunk_size=2, **KEY), oracle.real_gated_lru),
    "Hawk": (lambda: HawkLayer(WIDTH, 4, chunk_size=2, **KEY), oracle.hawk),
    "LRU": (lambda: LRULayer(WIDTH, 4, chunk_size=2, **KEY), oracle.lru),
    "selective": (lambda: SelectiveSSM(WIDTH, num_channels=5, state_size=3, chunk_size=2, **KEY), oracle.selective),
    "LSTM": (lambda: LSTM(WIDTH, 4, 3, **KEY), oracle.lstm),
    "GRU": (lambda: GRU(WIDTH, 4, **KEY), oracle.gru),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def build(name):
    make, loop = LAYERS[name]
    return scrambled(make()), loop


def weights(layer, prefix=""):
    found = {}
    for field in layer.__dataclass_fields__:
        value = getattr(layer, field)
        if isinstance(value, eqx.Module):
            found |= weights(value, f"{prefix}{field}.")
        elif eqx.is_inexact_array(value):
            found[prefix + field] = np.asarray(value, np.float64)
    return found


def tokens(length, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((length, WIDTH)), float)


def started(layer):
    """A state that is not the initial one."""
    leaves, tree = jax.tree.flatten(layer.init_state())
    rng = np.random.default_rng(9)
    return jax.tree.unflatten(tree, [jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype) for leaf in leaves])


def plain(tree):
    """States as the loops know them: tuples of arrays."""
    return tuple(np.asarray(leaf) for leaf in tree) if isinstance(tree, tuple) else np.asarray(tree)


@pytest.mark.parametrize("name", [pytest.param("RG-LRU", marks=pytest.mark.slow), *list(LAYERS)[1:]])
def test_battery(name):
    # The unit alone is slow only because Hawk, which contains it, is tested anyway.
    check_sequence_layer(build(name)[0], width=WIDTH, lengths=(0, 1, 5))


@every_layer
def test_all_forms_are_the_loop(x64, name):
    layer, loop = build(name)
    state, empty, known = started(layer), plain(layer.init_state()), weights(layer)
    inside = np.isin(np.arange(5), [1, 2])
    cases = [(tokens(length), None) for length in (0, 1, 5)]
    cases += [(tokens(5), inside), (tokens(5), ~inside)]

    @eqx.filter_jit
    def run(layer, cases):
        return [{form: layer(xs, state, form=form, resets=resets) for form in FORMS} for xs, resets in cases]

    for (xs, resets), given in zip(cases, run(layer, jax.tree.map(jnp.asarray, cases)), strict=True):
        begins = np.zeros(len(xs), bool) if resets is None else resets
        wanted = oracle.segments(lambda xs, state: loop(known, xs, state), np.asarray(xs), begins, plain(state), empty)
        for form in FORMS:
            for a, b in zip(jax.tree.leaves(given[form]), jax.tree.leaves(wanted), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-10, err_msg=f"{form} form, {len(xs)} tokens")


@every_layer
def test_gradients_of_segments_are_those_of_separate_runs(name):
    layer, _ = build(name)
    xs, state, cut = tokens(5), started(layer), 3
    resets = jnp.arange(5) == cut

    def total(tree):
        parts = [
            jnp.sum(jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)) * leaf.ravel()) for leaf in jax.tree.leaves(tree)
        ]
        return sum(parts, jnp.zeros(()))

    def packed(layer, xs, state, form):
        return total(layer(xs, state, form=form, resets=resets))

    def separate(layer, xs, state):
        first, _ = layer(xs[:cut], state, form="recurrent")
        second, final = layer(xs[cut:], form="recurrent")
        return total((jnp.concatenate([first, second]), final))

    @eqx.filter_jit
    def gradients(layer, xs, state):
        moving, fixed = eqx.partition(layer, eqx.is_inexact_array)
        by_all = lambda function: jax.grad(  # noqa: E731
            lambda moving, xs, state: function(eqx.combine(moving, fixed), xs, state), (0, 1, 2)
        )(moving, xs, state)
        return by_all(separate), {form: by_all(lambda *given, form=form: packed(*given, form)) for form in FORMS}

    wanted, given = gradients(layer, xs, state)
    for form in FORMS:
        assert_same(given[form], wanted, f"{form} form")


def test_rg_lru_has_finite_gradients_where_nothing_is_forgotten():
    layer = RealGatedLRU(2, **KEY)
    for decay in (-1e4, -80.0, -20.0):
        frozen = eqx.tree_at(lambda layer: layer.decay, layer, jnp.full((2,), decay))
        gradients = eqx.filter_grad(lambda layer: jnp.sum(layer(jnp.ones((3, 2)))[0]))(frozen)
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradients))


def test_rg_lru_root_keeps_its_digits_near_one():
    """A neuron that forgets 1e-9 per token: in float32 its multiplier is one, what it takes in is not zero."""
    layer = RealGatedLRU(1, **KEY)
    layer = eqx.tree_at(lambda layer: layer.decay, layer, jnp.full((1,), np.log(np.expm1(1e-9))))
    x = 0.5
    r, i = (1 / (1 + np.exp(-x * float(gate[0, 0, 0]))) for gate in (layer.recurrence_gate, layer.input_gate))
    outputs, _ = layer(jnp.full((1, 1), x))
    np.testing.assert_allclose(outputs[0, 0], np.sqrt(-np.expm1(-16e-9 * r)) * i * x, rtol=1e-5)


def test_rg_lru_starts_with_long_memory():
    layer = RealGatedLRU(2000, num_heads=500, **KEY)
    least = jnp.exp(-8 * jax.nn.softplus(layer.decay))
    assert 0.899 < float(least.min()) < 0.901 and 0.998 < float(least.max()) < 0.9995
    assert abs(float(least.mean()) - 0.9495) < 0.003


def test_lru_starts_on_its_ring():
    layer = LRULayer(3, 4000, min_radius=0.5, max_radius=0.9, max_phase=1.0, **KEY)
    radius = jnp.exp(-jnp.exp(layer.log_decay_rate))
    phase = jnp.exp(layer.log_phase)
    assert float(radius.min()) >= 0.5 and float(radius.max()) <= 0.9 + 1e-6
    assert abs(float(jnp.mean(radius**2)) - (0.25 + 0.81) / 2) < 0.01, "uniform by area"
    assert float(phase.max()) <= 1.0 and abs(float(phase.mean()) - 0.5) < 0.02
    np.testing.assert_allclose(jnp.exp(layer.log_gain), jnp.sqrt(1 - radius**2), rtol=1e-4)


def test_lru_is_the_convolution_with_its_kernel(x64):
    layer, xs = LRULayer(WIDTH, 4, chunk_size=2, **KEY), np.asarray(tokens(9))
    w = weights(layer)
    multiplier = np.exp(-np.exp(w["log_decay_rate"]) + 1j * np.exp(w["log_phase"]))
    write, read = w["input_real"] + 1j * w["input_imaginary"], w["output_real"] + 1j * w["output_imaginary"]
    kernels = [np.real(write * (multiplier**k * np.exp(w["log_gain"])) @ read) for k in range(9)]
    kernels[0] = kernels[0] + np.diag(w["skip"])
    wanted = [sum(xs[t - k] @ kernels[k] for k in range(t + 1)) for t in range(9)]
    np.testing.assert_allclose(layer(jnp.asarray(xs))[0], wanted, atol=1e-10)


def test_selective_starts_with_time_steps_in_range():
    layer = SelectiveSSM(4, num_channels=2000, state_size=3, **KEY)
    steps = jax.nn.softplus(layer.step_bias)
    assert 0.00099 < float(steps.min()) < 0.0012 and 0.09 < float(steps.max()) < 0.1001
    np.testing.assert_allclose(jnp.exp(layer.log_rate[7]), [1, 2, 3], rtol=1e-6)


def test_log_decay_is_what_is_left_of_the_state(x64):
    """Two contexts one after the other: the first one's state times what the second leaves of it, plus its own."""
    first, second = tokens(3, 1), tokens(4, 2)

    @eqx.filter_jit
    def run(layer):
        states = [layer(xs, form="recurrent")[1] for xs in (first, second, jnp.concatenate([first, second]))]
        return *(jax.tree.leaves(state)[-1] for state in states), layer.log_decay(second)

    selective = scrambled(SelectiveSSM(WIDTH, num_channels=5, state_size=3, convolution=1, **KEY))
    for layer in (selective, scrambled(RealGatedLRU(WIDTH, **KEY))):
        a, b, whole, log_decay = run(layer)
        np.testing.assert_allclose(whole, jnp.exp(log_decay) * a + b, atol=1e-12)
    assert bool(jnp.all(jnp.isneginf(selective.log_decay(second, resets=jnp.arange(4) == 3))))


def test_selective_chunks_do_not_keep_the_neurons_of_all_tokens():
    layer = SelectiveSSM(WIDTH, num_channels=8, state_size=16, chunk_size=8, **KEY)

    def largest(form):
        pull = jax.eval_shape(lambda xs: jax.vjp(lambda xs: layer(xs, form=form)[0], xs)[1], tokens(128))
        return max(leaf.size for leaf in jax.tree.leaves(pull))

    assert largest("parallel") >= 128 * 8 * 16
    assert largest("chunk") <= 128 * 8 * 16 / 8


def test_lstm_forget_gates_start_open():
    np.testing.assert_array_equal(LSTM(3, 2, **KEY).bias, [0, 0, 1, 1, 0, 0, 0, 0])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RealGatedLRU(6, num_heads=4, **KEY), "num_heads must divide the width 6"),
        (lambda: RealGatedLRU(0, **KEY), "width must be at least 1"),
        (lambda: HawkLayer(6, 0, **KEY), "state_size must be at least 1"),
        (lambda: HawkLayer(6, convolution=0, **KEY), "size must be at least 1"),
        (lambda: LRULayer(6, 4, min_radius=0.9, max_radius=0.5, **KEY), "min_radius < max_radius"),
        (lambda: LRULayer(6, 4, max_radius=1.1, **KEY), "max_radius <= 1"),
        (lambda: LRULayer(6, 4, max_phase=0.0, **KEY), "max_phase must be positive"),
        (lambda: SelectiveSSM(6, state_size=0, **KEY), "state_size must be at least 1"),
        (lambda: LSTM(6, 0, **KEY), "state_size must be at least 1"),
        (lambda: GRU(6, 3, 0, **KEY), "output_width must be at least 1"),
    ],
)
def test_bad_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
