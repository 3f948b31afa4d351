"""The gated linear recurrent network: forms, exact constructions, and what is read out of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.nn import (
    GatedLinearRNN,
    attention_tensor,
    cubic_tensor,
    gated_rnn_from_attention,
    gated_rnn_from_gd,
    identify,
    in_context_gd,
    prune,
    rates_of,
    round_multipliers,
    tensor_error,
)
from innerloop.nn.recurrent.identification import keep_neurons, monomial_sums, neuron_contributions
from innerloop.nn.sequence import FORMS
from innerloop.tasks import to_tokens
from innerloop.testing import check_sequence_layer
from oracles import gated_rnn as oracle

VARIANTS = {
    "gated": {},
    "complex": {"complex": True},
    "no input gate": {"input_gate": False},
    "no output gate": {"output_gate": False},
}


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), float)


def random_layer(name="gated", width=3):
    layer = GatedLinearRNN.random(width, 6, 5, 2, chunk_size=4, key=jax.random.key(0), **VARIANTS[name])
    return jax.tree.map(lambda leaf: leaf.astype(jnp.asarray(1.0).dtype), layer)


def attention_weights(width, key_size, value_size, seed=0):
    sizes = (key_size, key_size, value_size)
    return tuple(normal(width, size, seed=3 * seed + i) / width**0.5 for i, size in enumerate(sizes))


@eqx.filter_jit
def run(layer, xs):
    return layer(xs)[0]


def largest(difference):
    return float(np.max(np.abs(np.asarray(difference))))


# ---- the layer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gated", pytest.param("complex", marks=pytest.mark.slow)])
def test_battery(name):
    check_sequence_layer(random_layer(name), width=3, lengths=(0, 1, 9))


@pytest.mark.parametrize("name", VARIANTS)
def test_all_forms_are_the_kernel_sum(name, x64):
    layer, xs = random_layer(name), normal(13, 3)
    names = ("input", "input_gate", "output", "output_gate", "readout")
    weights = {name: value if (value := getattr(layer, name)) is None else np.asarray(value) for name in names}
    wanted = oracle.gated_rnn(np.asarray(xs), np.asarray(layer.multipliers), **weights)

    @eqx.filter_jit
    def in_all_ways(layer, xs):
        whole = [layer(xs, form=form)[0] for form in FORMS]
        for form in FORMS:
            for cut in (1, 6):
                first, state = layer(xs[:cut], form=form)
                whole.append(jnp.concatenate([first, layer(xs[cut:], state, form=form)[0]]))
        return whole

    for outputs in in_all_ways(layer, xs):
        assert largest(outputs - wanted) < 1e-10


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_zero_and_one_are_exact_multipliers_with_finite_gradients(dtype, x64):
    rates = rates_of(jnp.asarray([0.0, 1.0, 0.3], dtype))
    kept, gradient = jax.vmap(jax.value_and_grad(lambda rate: jnp.exp(-jnp.exp(rate))))(rates)
    assert kept[:2].tolist() == [0.0, 1.0] and largest(kept[2] - 0.3) < 1e-6
    assert bool(jnp.isfinite(rates).all()) and bool(jnp.isfinite(gradient).all())


def test_weights_that_do_not_fit_are_refused():
    layer = random_layer()
    with pytest.raises(ValueError, match="chunk_size"):
        GatedLinearRNN.random(3, 6, 5, chunk_size=0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="num_neurons must be at least 1"):
        GatedLinearRNN.random(3, 0, 5, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"output must be \(5, 6\)"):
        GatedLinearRNN(layer.rate, layer.input, None, layer.output[:, 1:], None, layer.readout)
    with pytest.raises(ValueError, match="num_context must be at least 1"):
        gated_rnn_from_gd(3, 2, 0, 1.0)
    with pytest.raises(ValueError, match="tolerance must lie"):
        prune(layer, normal(2, 3, 3), tolerance=2.0)


# ---- the constructions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("sizes", [(4, 4, 4), (3, 2, 5), (5, 7, 1)], ids=str)
def test_constructions_are_attention(sizes, compressed, x64):
    query, key, value = attention_weights(*sizes)
    layer = gated_rnn_from_attention(query, key, value, compressed=compressed)
    width, key_size, value_size = sizes
    expected = width * (width + 1) // 2 + width if compressed else value_size * key_size + key_size
    assert layer.num_neurons == expected
    xs = normal(64, width)  # causal, hence all lengths up to 64 at once
    wanted = oracle.attention(*map(np.asarray, (xs, query, key, value)))
    assert largest(run(layer, xs) - wanted) < 1e-10


@pytest.mark.parametrize("compressed", [False, True])
def test_constructions_with_singular_values(compressed, x64):
    query, key, value = attention_weights(4, 4, 4)
    value = value.at[:, 1].set(value[:, 0]).at[:, 2].set(0.0)
    xs = normal(9, 4)
    wanted = oracle.attention(*map(np.asarray, (xs, query, key, value)))
    layer = gated_rnn_from_attention(query, key, value, compressed=compressed)
    assert largest(run(layer, xs) - wanted) < 1e-10


@pytest.mark.parametrize("compressed", [False, True])
def test_fading_constructions_are_retention(compressed, x64):
    query, key, value = attention_weights(3, 2, 4)
    xs = normal(20, 3)
    layer = gated_rnn_from_attention(query, key, value, compressed=compressed, decay=0.8, scale=0.1)
    wanted = 0.1 * oracle.attention(*map(np.asarray, (xs, query, key, value)), decay=0.8)
    assert largest(run(layer, xs) - wanted) < 1e-10


def test_gradient_descent_construction(x64):
    x, y, query = normal(12, 3), normal(12, 2, seed=1), normal(3, seed=2)
    layer = gated_rnn_from_gd(3, 2, 12, 0.7)
    assert (layer.num_neurons, layer.num_products) == (9, 6)
    wanted = in_context_gd(x, y, query[None], learning_rate=0.7)[0]
    assert largest(run(layer, to_tokens(x, y, query))[-1] - wanted) < 1e-10


def test_no_network_with_fewer_memory_neurons_is_exact(x64):
    """The accumulated monomials span d(d+1)/2 dimensions, no less; and no more, however wide the keys are."""
    for width in (2, 4, 6):
        needed = width * (width + 1) // 2
        xs = normal(2 * needed, 20, width)
        sums = monomial_sums(xs).reshape(-1, needed)
        assert np.linalg.matrix_rank(np.asarray(sums)) == needed
        # The sums of all products of values and keys, d^2 of them, hold nothing more.
        redundant = gated_rnn_from_attention(*attention_weights(width, width, width), compressed=False)
        states = jax.vmap(redundant.states)(xs)[..., : width * width].reshape(-1, width * width)
        assert np.linalg.matrix_rank(np.asarray(states)) == needed


def test_lstm_approaches_attention_in_its_limit():
    query, key, value = map(np.asarray, attention_weights(3, 3, 3))
    xs = np.random.default_rng(5).standard_normal((10, 3))
    wanted = oracle.attention(xs, query, key, value)
    errors = [np.abs(oracle.lstm_as_attention(xs, query, key, value, e) - wanted).max() for e in (0.1, 0.05, 0.025)]
    assert errors[0] / errors[1] >= 3.5 and errors[1] / errors[2] >= 3.5


# ---- identification -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
def test_tensor_of_a_construction_is_that_of_attention(compressed, x64):
    weights = attention_weights(4, 3, 2)
    layer = gated_rnn_from_attention(*weights, compressed=compressed)
    wanted = attention_tensor(*weights)
    assert largest(cubic_tensor(layer) - wanted) < 1e-10
    # It is what attention computes ...
    xs = normal(7, 4)
    by_tensor = jnp.einsum("aijk,si,sj,k->a", wanted, xs, xs, xs[-1])
    assert largest(by_tensor - oracle.attention(*map(np.asarray, (xs, *weights)))[-1]) < 1e-10
    # ... and other weights are seen.
    assert float(tensor_error(cubic_tensor(layer), attention_tensor(*attention_weights(4, 3, 2, seed=1)))) > 0.5


def test_identity_does_not_depend_on_order_and_scale(x64):
    layer = random_layer(width=4)
    layer = eqx.tree_at(lambda layer: layer.rate, layer, rates_of(jnp.asarray([0.995, 0.01, 0.999, 0.0, 1.0, 0.5])))
    other = keep_neurons(layer, np.asarray([3, 0, 5, 1, 4, 2]))
    scale, products = jnp.exp(normal(6)), jnp.exp(normal(5, seed=1))
    other = GatedLinearRNN(
        rate=other.rate,
        input=other.input_gate * scale[:, None],  # the two sides are swapped, too
        input_gate=other.input,
        output=other.output_gate / scale[None] * products[:, None],
        output_gate=other.output / scale[None],
        readout=other.readout / products[None],
    )
    xs = normal(4, 9, 4)
    assert largest(run(layer, xs[0]) - run(other, xs[0])) < 1e-10
    assert largest(cubic_tensor(layer) - cubic_tensor(other)) < 1e-10 and largest(cubic_tensor(layer)) > 1e-3
    shares = [neuron_contributions(one, jax.vmap(one.states)(xs)) for one in (layer, other)]
    assert largest(shares[0][jnp.asarray([3, 0, 5, 1, 4, 2])] - shares[1]) < 1e-10


def test_identify_reads_a_construction_with_idle_neurons(x64):
    weights = attention_weights(4, 4, 4)
    layer = gated_rnn_from_attention(*weights)
    idle = random_layer(width=4)
    padded = GatedLinearRNN(
        rate=jnp.concatenate([layer.rate, rates_of(jnp.full(6, 0.5))]),
        input=jnp.concatenate([layer.input, idle.input]),
        input_gate=jnp.concatenate([layer.input_gate, idle.input_gate]),
        output=jnp.pad(layer.output, [(0, 0), (0, 6)], constant_values=1e-6),
        output_gate=jnp.pad(layer.output_gate, [(0, 0), (0, 6)], constant_values=1e-6),
        readout=layer.readout,
    )
    xs = normal(20, 16, 4)
    found = eqx.filter_jit(identify)(padded, xs)
    assert (int(found.is_memory.sum()), int(found.is_forget.sum())) == (10, 4)
    assert float(found.contribution[14:].sum()) < 1e-4
    assert float(found.remembered.min()) > 1 - 1e-10 and float(found.present.min()) > 1 - 1e-10
    assert found.remembered.shape == (10,) and found.present.shape == (4,)
    pruned = prune(padded, xs)
    assert pruned.num_neurons == 14
    assert largest(run(pruned, xs[0]) - run(layer, xs[0])) < 1e-10


def test_probes_of_an_untrained_network_fail(x64):
    layer = GatedLinearRNN.random(4, 8, 5, key=jax.random.key(3))
    layer = jax.tree.map(lambda leaf: leaf.astype(float), layer)
    found = eqx.filter_jit(identify)(layer, normal(40, 16, 4))
    assert float(found.remembered.min()) < 0.9 and float(found.present.min()) < 0.9


def test_rounded_multipliers(x64):
    layer = random_layer()
    kept = round_multipliers(layer).multipliers
    assert kept.tolist() == (layer.multipliers > 0.5).astype(float).tolist()


def test_complex_neurons_are_pruned_but_have_no_tensor():
    layer, xs = random_layer("complex"), normal(3, 7, 3)
    assert prune(layer, xs, tolerance=1.0).num_neurons == 1
    kept = keep_neurons(layer, np.arange(layer.num_neurons))
    assert largest(run(kept, xs[0]) - run(layer, xs[0])) == 0
    with pytest.raises(ValueError, match="real neurons"):
        cubic_tensor(layer)
