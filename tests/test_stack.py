"""Parts that act on tokens, residual stacks, in-context regressors, and what the layer battery notices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.tree import trainable
from innerloop.nn import (
    AbstractMemoryLayer,
    InContextRegressor,
    LayerNorm,
    LinearSelfAttention,
    MultilayerPerceptron,
    Projections,
    ResidualStack,
    SoftmaxSelfAttention,
    deep_regressor,
    gd_construction,
    interleaved_regressor,
    one_layer_regressor,
    recurrent_regressor,
    sine_regressor,
    sinusoidal_encoding,
)
from innerloop.testing import check_sequence_layer

KEY = jax.random.key(0)
D, N = 3, 6


def layers(number, width=D + 1, **settings):
    keys = jax.random.split(KEY, number)
    return tuple(LinearSelfAttention(Projections.random(width, 1, 3, key=key, **settings)) for key in keys)


def tokens(length=N + 1, width=D + 1):
    return jnp.asarray(np.random.default_rng(0).standard_normal((length, width)), float)


# ---- parts -------------------------------------------------------------------------------------------------


def test_layer_norm(x64):
    norm = eqx.tree_at(lambda n: (n.scale, n.offset), LayerNorm(4), (jnp.arange(4.0), jnp.ones(4)))
    xs = np.asarray(tokens())
    wanted = (xs - xs.mean(1, keepdims=True)) / np.sqrt(xs.var(1, keepdims=True) + 1e-5) * np.arange(4) + 1
    np.testing.assert_allclose(norm(jnp.asarray(xs)), wanted, atol=1e-12)


def test_multilayer_perceptron(x64):
    network = MultilayerPerceptron(4, 7, 2, key=KEY)
    network = eqx.tree_at(lambda m: (m.hidden_bias, m.output_bias), network, (jnp.arange(7.0), jnp.ones(2)))
    hidden = np.asarray(tokens()) @ np.asarray(network.hidden) + np.arange(7)
    gelu = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    np.testing.assert_allclose(network(tokens()), gelu @ np.asarray(network.output) + 1, atol=1e-12)
    assert MultilayerPerceptron(4, 7, use_bias=False, key=KEY).hidden_bias is None


def test_sinusoidal_encoding():
    encoding = sinusoidal_encoding(5, 4)
    np.testing.assert_allclose(encoding[3], [np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)], rtol=1e-5)
    assert sinusoidal_encoding(5, 3).shape == (5, 3)


# ---- stacks ------------------------------------------------------------------------------------------------


def test_stack_by_hand(x64):
    first, second = layers(2)
    norms = (None, LayerNorm(D + 1))
    stack = ResidualStack((first, second), norms, num_repeats=2, activation_clip=0.8)
    hidden = tokens()
    states = [hidden]
    for layer, norm in [(first, None), (second, norms[1])] * 2:
        normed = hidden if norm is None else norm(hidden)
        hidden = jnp.clip(hidden + layer.read(layer.write(None, normed[:N]), normed), -0.8, 0.8)
        states.append(hidden)
    assert stack.depth == 4
    np.testing.assert_allclose(stack(tokens(), N), hidden, atol=1e-12)
    np.testing.assert_allclose(stack.last_token(tokens(), N), hidden[-1], atol=1e-12)
    np.testing.assert_allclose(stack.hidden_states(tokens(), N), jnp.stack(states), atol=1e-12)


def test_repeats_share_weights_and_add_gradients(x64):
    (layer,) = layers(1)
    shared = ResidualStack((layer,), num_repeats=3)
    separate = ResidualStack((layer, layer, layer))
    loss = eqx.filter_grad(lambda stack: jnp.sum(jnp.sin(stack.last_token(tokens(), N))))
    apart = loss(separate).layers
    summed = jax.tree.map(lambda *parts: sum(parts), *(trainable(part) for part in apart))
    given = jax.tree.leaves(trainable(loss(shared).layers[0]))
    for one, other in zip(given, jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_context_of_the_stack_is_the_first_tokens_only():
    stack = ResidualStack(layers(2, variance=1.0))
    changed = tokens().at[N].add(1.0)
    np.testing.assert_array_equal(stack(changed, N)[:N], stack(tokens(), N)[:N])
    with pytest.raises(ValueError, match="num_context is 8, but there are 7 tokens"):
        stack(tokens(), N + 2)


# ---- regressors --------------------------------------------------------------------------------------------


def test_prediction_is_minus_the_last_coordinates(x64):
    model = deep_regressor(D, 2, 2, variance=1.0, key=KEY)
    xs = tokens(width=D + 2)
    np.testing.assert_allclose(model(xs), -model.stack(xs, N)[-1, -2:], atol=1e-12)
    np.testing.assert_allclose(model.hidden_states(xs)[-1][-1, -2:], -model(xs), atol=1e-12)


def test_embedding_network_and_positions_keep_the_label_last():
    model = InContextRegressor(
        ResidualStack(layers(1, width=9)),
        embedding=jnp.asarray(np.random.default_rng(1).standard_normal((2, 5)), float),
        perceptron=MultilayerPerceptron(5, 8, key=KEY),
        position_size=4,
    )
    xs = tokens(width=2)
    hidden = model.embed(xs)
    embedded = xs @ model.embedding
    np.testing.assert_allclose(hidden[:, :4], sinusoidal_encoding(N + 1, 4))
    np.testing.assert_allclose(hidden[:, 4:], embedded + model.perceptron(embedded), rtol=1e-6)
    with pytest.raises(ValueError, match=r"reads tokens \[t 2\], not an array of shape \(7, 3\)"):
        model(tokens(width=3))


@pytest.mark.parametrize(
    ("make", "shape", "parameters"),
    [
        (lambda: one_layer_regressor(10, key=KEY), (11, 11), 4 * 121),
        (lambda: recurrent_regressor(10, 2, key=KEY), (11, 11), 4 * 121),
        (lambda: deep_regressor(10, 5, key=KEY), (11, 11), 5 * 4 * 121),
        (
            lambda: one_layer_regressor(10, num_heads=2, use_bias=True, key=KEY),
            (11, 11),
            8 * 121 + 6 * 11 + 11,
        ),
        (lambda: interleaved_regressor(10, 10, key=KEY), (21, 10), 2 * 4 * 400),
        (lambda: sine_regressor(key=KEY), (11, 2), 80 + 2 * 6400 + 200 + 4 * 1600),
        (
            lambda: sine_regressor(gd_construction(39, 1, 10, 1.0), key=KEY),
            (11, 2),
            80 + 2 * 6400 + 200 + 6400,
        ),
    ],
)
def test_settings_of_the_paper(make, shape, parameters):
    model = make()
    assert sum(leaf.size for leaf in jax.tree.leaves(trainable(model))) == parameters
    assert model(tokens(*shape)).shape == (1,)
    batch = jnp.stack([tokens(*shape), 2 * tokens(*shape)])
    assert bool(jnp.all(jnp.isfinite(jax.jit(jax.vmap(model))(batch))))


def test_details_of_the_settings():
    assert deep_regressor(D, 3, key=KEY).stack.activation_clip is None
    assert deep_regressor(D, 4, key=KEY).stack.activation_clip == 10.0
    first, second = interleaved_regressor(D, N, key=KEY).stack.layers
    assert isinstance(first, SoftmaxSelfAttention) and isinstance(second, LinearSelfAttention)
    deviations = [np.std(deep_regressor(60, layers, key=KEY).stack.layers[0].projections.query) for layers in (1, 4)]
    np.testing.assert_allclose(deviations, np.sqrt(0.002 / 61 / np.array([1, 4])), rtol=0.05)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        ResidualStack(())
    with pytest.raises(ValueError, match=r"share one width, but theirs are \[4, 5\]"):
        ResidualStack((*layers(1), *layers(1, width=5)))
    with pytest.raises(ValueError, match="1 layers need as many norms, not 2"):
        ResidualStack(layers(1), (None, None))
    with pytest.raises(ValueError, match="activation_clip must be above 0"):
        ResidualStack(layers(1), activation_clip=-1.0)
    stack = ResidualStack(layers(1))
    with pytest.raises(ValueError, match="the embedding makes tokens of width 5, but the stack reads 4"):
        InContextRegressor(stack, embedding=jnp.zeros((2, 5)))
    with pytest.raises(ValueError, match="labels of size 5 do not fit"):
        InContextRegressor(stack, outputs=5)
    with pytest.raises(ValueError, match="the perceptron makes tokens of width 2, but the stack reads 4"):
        InContextRegressor(stack, perceptron=MultilayerPerceptron(4, 3, 2, key=KEY))


# ---- the battery notices -----------------------------------------------------------------------------------


class _Broken(AbstractMemoryLayer):
    """A linear layer with one fault."""

    layer: LinearSelfAttention
    fault: str = eqx.field(static=True)

    @property
    def width(self):
        return self.layer.width

    def init_state(self):
        return self.layer.init_state()

    def write(self, state, xs):
        written = self.layer.write(state, xs)
        return 2.0 * written if self.fault == "write" else written

    def read(self, state, xs):
        return self.layer.read(state, xs)

    def attend(self, context, tokens):
        return self.layer.attend(context, tokens)

    def step(self, state, x):
        return self.layer.step(state, x)

    def __call__(self, xs, state=None, *, form="chunk", resets=None):
        if self.fault == "not causal":
            return self.layer.attend(xs, xs), self.layer.write(state, xs)
        if self.fault == "no segments":
            resets = None
        outputs, final = self.layer(xs, state, form=form, resets=resets)
        if self.fault == "gradient" and form == "chunk":
            final = jax.lax.stop_gradient(final)
        if self.fault == "forgets" and state is not None:
            outputs, final = self.layer(xs, None, form=form, resets=resets)
        return outputs, final


@pytest.mark.parametrize(
    ("fault", "checks"),
    [
        ("gradient", ["gradients_agree"]),
        ("forgets", ["state_hand_over"]),
        ("not causal", ["step_is_recurrent", "causality"]),
        ("write", ["memory"]),
        ("no segments", ["segments"]),
    ],
)
def test_the_battery_sees_faults(fault, checks):
    layer = _Broken(LinearSelfAttention(Projections.random(4, 1, 3, key=KEY), chunk_size=3), fault)
    with pytest.raises(AssertionError) as error:
        check_sequence_layer(layer, width=4, lengths=(0, 5))
    for check in checks:
        assert f"\n- {check}: AssertionError" in str(error.value)
