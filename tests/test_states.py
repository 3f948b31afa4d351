"""States as things to keep: exact composition, mixing, similarity, and the library."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.core.errors import InnerloopError, UnknownNameError
from innerloop.nn.memory.gates import SigmoidGates
from innerloop.nn.memory.mlstm import NormalisedState
from innerloop.nn.states.similarity import similarity
from innerloop.nn.states.transition import memory_of

HEADS, KEYS, VALUES = 2, 3, 4


def tokens(seed, length, *, gate="head", dtype=jnp.float64, strength=True):
    """Random tokens of a memory, with keys of length one."""
    keys = jax.random.split(jax.random.key(seed), 5)
    query, key = (jax.random.normal(one, (length, HEADS, KEYS), dtype) for one in keys[:2])
    key = key / jnp.linalg.norm(key, axis=-1, keepdims=True)
    value = jax.random.normal(keys[2], (length, HEADS, VALUES), dtype)
    shape = {"head": (length, HEADS), "channel": (length, HEADS, KEYS)}.get(gate)
    log_gate = None if shape is None else jnp.log(jax.random.uniform(keys[3], shape, dtype, 0.01, 1.0))
    beta = jax.random.uniform(keys[4], (length, HEADS), dtype) if strength else None
    return il.MemoryInputs(query, key, value, log_gate, beta)


def join(*parts):
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


@eqx.filter_jit
def encode(rule, inputs):
    """A memory read from the beginning, with its transition."""
    return il.EncodedContext(rule(inputs)[1], il.memory_transition(rule, inputs))


def rules():
    """Every rule whose memory is linear in its past, with a kind of gate that it takes."""
    yield "additive", lambda: il.AdditiveMemory(), "head"
    yield "additive, no gate", lambda: il.AdditiveMemory(), None
    yield "delta", lambda: il.DeltaMemory(), None
    yield "gated delta", lambda: il.DeltaMemory(), "head"
    yield "mesa", lambda: il.MesaMemory(HEADS, KEYS), "head"
    yield "channel gated", lambda: il.ChannelGatedMemory(), "channel"
    yield "mlstm", lambda: il.NormalisedMemory(), "head"


RULES = [pytest.param(make, gate, id=name) for name, make, gate in rules()]


def meant(memory):
    """What a memory of mLSTM stands for, whatever its scale; any other memory as it is."""
    if isinstance(memory, NormalisedState):
        scale = jnp.exp(memory.maximum)
        return scale[:, None, None] * memory.memory, scale[:, None] * memory.normaliser
    return memory


def close(a, b, tolerance=1e-10):
    a, b = (jax.tree.map(meant, tree, is_leaf=lambda x: isinstance(x, NormalisedState)) for tree in (a, b))
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


# ---- memories ----


@pytest.mark.parametrize(("make", "gate"), RULES)
def test_contexts_follow_each_other_exactly(x64, make, gate):
    """Composition is running over both, wherever the sequence is split; it is associative."""
    rule = make()
    parts = [tokens(seed, length, gate=gate) for seed, length in enumerate((5, 1, 7))]
    first, second, third = (encode(rule, part) for part in parts)
    whole = encode(rule, join(*parts))
    close(il.compose(il.compose(first, second), third), whole)
    close(il.compose(first, il.compose(second, third)), whole)
    close(il.mix_states([first, second, third], mode="decay"), whole)
    # and from a memory that was there before
    before = encode(rule, tokens(9, 4, gate=gate)).state
    inputs = join(*parts)
    close(il.compose(il.EncodedContext(before, whole.transition), whole).state, rule(inputs, before)[1])


def test_transition_of_the_delta_rule_is_a_product_of_matrices(x64):
    inputs = tokens(0, 6)
    expected = np.stack([np.eye(KEYS)] * HEADS)
    key, beta, gate = (np.asarray(part) for part in (inputs.key, inputs.strength, inputs.log_gate))
    for t in range(6):
        for h in range(HEADS):
            step = np.exp(gate[t, h]) * (np.eye(KEYS) - beta[t, h] * np.outer(key[t, h], key[t, h]))
            expected[h] = step @ expected[h]
    close(il.memory_transition(il.DeltaMemory(), inputs), expected)


def test_transitions_do_not_underflow():
    inputs = tokens(0, 400, dtype=jnp.float32)._replace(log_gate=jnp.full((400, HEADS), np.log(0.01), jnp.float32))
    transition = il.memory_transition(il.AdditiveMemory(), inputs)
    np.testing.assert_allclose(transition, 400 * np.log(0.01), rtol=1e-5)
    forgotten = il.compose(encode(il.AdditiveMemory(), inputs), encode(il.AdditiveMemory(), inputs))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(forgotten))


def test_a_gate_of_zero_forgets_what_came_before(x64):
    inputs = tokens(1, 5)
    inputs = inputs._replace(log_gate=inputs.log_gate.at[2].set(-jnp.inf))
    for rule in (il.AdditiveMemory(), il.DeltaMemory(), il.MesaMemory(HEADS, KEYS)):
        both = il.compose(encode(rule, tokens(0, 5)), encode(rule, inputs))
        close(both.state, encode(rule, inputs).state)


def test_many_contexts_are_joined_by_an_associative_scan(x64):
    rule, parts = il.AdditiveMemory(), [tokens(seed, 3) for seed in range(5)]
    contexts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[encode(rule, part) for part in parts])
    scanned = jax.jit(lambda xs: jax.lax.associative_scan(jax.vmap(il.compose), xs))(contexts)
    expected = [encode(rule, join(*parts[: number + 1])) for number in range(5)]
    close(scanned, jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected))


def test_without_gates_the_sum_is_the_concatenation_and_reading_is_linear(x64):
    rule = il.AdditiveMemory()
    one, two = tokens(0, 5, gate=None), tokens(1, 8, gate=None)
    first, second = encode(rule, one), encode(rule, two)
    for order in ((first, second), (second, first)):
        close(il.mix_states(order, mode="sum").state, encode(rule, join(one, two)).state)
    reader = tokens(2, 6, gate=None)._replace(strength=jnp.zeros((6, HEADS)))
    mixed = il.mix_states([first, second], 0.3, mode="interpolate").state

    def read(memory):
        return rule(reader, memory)[0]

    close(read(mixed), 0.7 * read(first.state) + 0.3 * read(second.state))


def test_mixed_statistics_of_the_mesa_memory_are_the_ridge_regression_on_the_union(x64):
    rule = il.MesaMemory(HEADS, KEYS, regulariser=0.5, solver=il.ConjugateGradients(tolerance=1e-12))
    one, two = tokens(0, 6, gate=None), tokens(1, 9, gate=None)
    union = join(one, two)
    query = tokens(2, 1, gate=None)._replace(strength=jnp.zeros((1, HEADS)))
    contexts = [encode(rule, one), encode(rule, two)]
    for h in range(HEADS):
        k, v, beta = (np.asarray(part)[:, h] for part in (union.key, union.value, union.strength))
        map_ = np.linalg.solve((k.T * beta) @ k + 0.5 * np.eye(KEYS), (k.T * beta) @ v)
        expected = np.asarray(query.query)[0, h] @ map_
        summed = rule(query, il.mix_states(contexts, mode="sum").state)[0]
        np.testing.assert_allclose(summed[0, h], expected, rtol=1e-9)
        halved = il.MesaMemory(HEADS, KEYS, regulariser=0.25, lower=0.0, solver=il.ConjugateGradients(tolerance=1e-12))
        averaged = halved(query, il.mix_states(contexts).state)[0]
        np.testing.assert_allclose(averaged[0, h], expected, rtol=1e-9)


def test_endpoints_and_copies(x64):
    first, second = (encode(il.AdditiveMemory(), tokens(seed, 5)) for seed in (0, 1))
    for weight, end in ((0.0, first), (1.0, second)):
        assert np.array_equal(il.mix_states([first, second], weight, mode="interpolate").state, end.state)
        traced = jax.jit(lambda w: il.mix_states([first, second], w, mode="interpolate").state)(jnp.asarray(weight))
        assert np.array_equal(traced, end.state)
    close(il.mix_states([first] * 3).state, first.state)
    close(il.mix_states([first] * 3, mode="sum").state, 3 * first.state)
    close(il.mix_states([first] * 2, [0.25, 0.75], rescale=True).state, first.state)


def test_rescaled_heads_have_the_mean_norm(x64):
    contexts = [encode(il.AdditiveMemory(), tokens(seed, 5)) for seed in range(3)]
    norms = [np.linalg.norm(np.asarray(one.state).reshape(HEADS, -1), axis=1) for one in contexts]
    mixed = il.mix_states(contexts, rescale=True).state
    close(np.linalg.norm(np.asarray(mixed).reshape(HEADS, -1), axis=1), np.mean(norms, axis=0))
    plain = il.mix_states(contexts).state
    close(mixed / jnp.linalg.norm(mixed, axis=(1, 2))[:, None, None],
          plain / jnp.linalg.norm(plain, axis=(1, 2))[:, None, None])  # fmt: skip


# ---- models ----


def model(rule="additive", *, convolution=4, num_layers=2, seed=0):
    def make(key):
        first, second = jax.random.split(key)
        return il.MultiHeadMemory(
            8,
            num_heads=HEADS,
            key_size=KEYS,
            rule={
                "additive": il.AdditiveMemory(4),
                "delta": il.DeltaMemory(4),
                "mesa": il.MesaMemory(HEADS, KEYS),
            }[rule],
            gates=SigmoidGates(8, HEADS, forget_bias=2.0, key=first),
            convolution=convolution,
            key=second,
        )

    return eqx.filter_jit(lambda key: il.LanguageModel(11, 8, num_layers, make, key=key))(jax.random.key(seed))


encode_context = eqx.filter_jit(il.encode_context)


def text(seed, length):
    return jax.random.randint(jax.random.key(seed), (length,), 0, 11)


@pytest.mark.parametrize("rule", ["additive", "delta", "mesa"])
def test_the_first_layer_is_exact_and_deeper_ones_are_not(x64, rule):
    network, both = model(rule, convolution=None), text(0, 12)
    whole = encode_context(network, both)
    for split in (1, 5):
        composed = il.compose(encode_context(network, both[:split]), encode_context(network, both[split:]))
        close(memory_of(composed.state[0]), memory_of(whole.state[0]))
        close(composed.transition[0], whole.transition[0])
        parts = zip(jax.tree.leaves(composed.state[1]), jax.tree.leaves(whole.state[1]), strict=True)
        assert max(float(jnp.max(jnp.abs(a - b))) for a, b in parts) > 1e-3


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda key: il.mamba2_layer(8, num_heads=HEADS, key_size=KEYS, key=key), id="mamba2"),
        pytest.param(lambda key: il.SelectiveSSM(8, state_size=3, key=key), id="selective"),
        pytest.param(lambda key: il.HawkLayer(8, key=key), id="hawk"),
    ],
)
def test_convolutions_are_continued_or_start_from_zeros(x64, make):
    """Encoded after the first context, the second one is joined exactly; from zeros, what is near the seam is not."""
    stack = eqx.filter_jit(lambda key: il.Stack((make(key),)))(jax.random.key(0))
    both = jax.random.normal(jax.random.key(1), (12, 8))
    first, whole = encode_context(stack, both[:6]), encode_context(stack, both)
    close(il.compose(first, encode_context(stack, both[6:], after=first.state)), whole)
    torn = il.compose(first, encode_context(stack, both[6:])).state
    error = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), memory_of(torn[0]), memory_of(whole.state[0]))
    assert float(error) > 1e-4


def test_only_some_layers_and_what_convolutions_remember():
    network = model()
    first, second = (encode_context(network, text(seed, 6)) for seed in (0, 1))
    mixed = il.mix_states([first, second], layers=[0]).state
    close(mixed[0].memory, 0.5 * (first.state[0].memory + second.state[0].memory), 1e-6)
    assert np.array_equal(mixed[1].memory, second.state[1].memory)
    assert all(np.array_equal(one.tail, two.tail) for one, two in zip(mixed, second.state, strict=True))
    reset = il.mix_states([first, second], conv="reset").state
    assert all(not np.any(one.tail) for one in reset)


def family():
    """Every recurrent layer, as a function of a key."""
    names = ("linear_attention", "retention", "mamba2", "gated_linear_attention", "delta_net", "gated_delta_net",
             "mlstm", "mesa")  # fmt: skip
    for name in names:
        yield name, functools.partial(getattr(il, f"{name}_layer"), 8, num_heads=HEADS, key_size=KEYS)
    yield "selective", functools.partial(il.SelectiveSSM, 8, state_size=3)
    yield "hawk", functools.partial(il.HawkLayer, 8)
    yield "lru", functools.partial(il.LRULayer, 8, 6)


@pytest.mark.parametrize(("name", "make_layer"), [pytest.param(*one, id=one[0]) for one in family()])
def test_a_stored_state_goes_on_as_if_nothing_had_happened(tmp_path, name, make_layer):
    network = eqx.filter_jit(lambda key: il.LanguageModel(11, 8, 1, lambda key: make_layer(key=key), key=key))(
        jax.random.key(0)
    )
    sequence = text(0, 12)
    run = eqx.filter_jit(lambda tokens, state: network(tokens, state))
    _, before = run(sequence[:6], network.init_state())
    library = il.StateLibrary()
    library.add(name, before)
    stored = il.StateLibrary.load(library.save(tmp_path / name), network.init_state())[name]
    ways = [run(sequence[6:], before), run(sequence[6:], stored)]
    for uninterrupted, continued in zip(*(jax.tree.leaves(way) for way in ways), strict=True):
        assert np.array_equal(uninterrupted, continued)


def test_layers_of_any_kind_are_mixed():
    """Every linear layer has a transition; its mixed state is one that the model goes on from."""
    makers = [make for name, make in family() if name in ("mlstm", "hawk", "selective")]
    stack = eqx.filter_jit(lambda key: il.Stack(tuple(make(key=key) for make in makers)))(jax.random.key(0))

    @eqx.filter_jit
    def mix_and_go_on(stack, xs):
        contexts = [il.encode_context(stack, one) for one in xs]
        mixed = [il.mix_states(contexts, mode=mode) for mode in ("average", "sum", "decay", "interpolate")]
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[one.state for one in mixed])
        return [one.transition for one in mixed], jax.vmap(lambda state: stack(xs[0], state)[0])(states)

    transitions, outputs = mix_and_go_on(stack, jax.random.normal(jax.random.key(1), (2, 6, 8)))
    assert all(part is not None for one in transitions for part in one)
    assert bool(jnp.all(jnp.isfinite(outputs)))


# ---- the library ----


def some_library(number=5):
    library = il.StateLibrary()
    for seed in range(number):
        library.add(
            f"skill {seed}", encode(il.AdditiveMemory(), tokens(seed, 5, dtype=jnp.float32)).state, {"seed": seed}
        )
    return library


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("centre", [True, False])
def test_states_of_the_library_find_themselves(metric, centre):
    library = some_library()
    for name in library.names:
        assert library.retrieve(library[name], metric=metric, centre=centre)[0][0] == name
        scaled = library.retrieve(3.5 * library[name], k=5, centre=False)
        assert [found for found, _ in scaled] == [
            found for found, _ in library.retrieve(library[name], 5, centre=False)
        ]
    similar = np.asarray(library.similarity(library.stacked(), metric="cosine", centre=centre))
    np.testing.assert_allclose(np.diagonal(similar), 1.0, rtol=1e-5)
    np.testing.assert_allclose(similar, similar.T, atol=1e-5)


def test_centring_takes_away_what_all_have_in_common():
    rng = np.random.default_rng(0)
    own, common = rng.normal(size=(4, 6)), 50 * rng.normal(size=(1, 6))
    states = own + common
    raw = np.asarray(similarity(jnp.asarray(states, jnp.float32), jnp.asarray(states, jnp.float32), centre=False))
    centred = np.asarray(similarity(jnp.asarray(states, jnp.float32), jnp.asarray(states, jnp.float32)))

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    deviations = unit(unit(states) - unit(states).mean(0))
    assert raw.min() > 0.98
    np.testing.assert_allclose(centred, deviations @ deviations.T, atol=1e-3)


def test_similarity_by_layer_and_over_layers(x64):
    network = model()
    passages = jnp.stack([text(i, 6) for i in range(4)])
    states = eqx.filter_jit(lambda m, xs: jax.vmap(lambda one: il.encode_context(m, one).state)(xs))(network, passages)
    each = [il.state_similarity(states, states, layers=[layer]) for layer in (0, 1)]
    close(il.state_similarity(states, states), 0.5 * (each[0] + each[1]))
    vectors = jax.vmap(il.memory_vectors)(states)
    flat = jnp.concatenate(vectors, axis=1)
    close(il.state_similarity(states, states, combine="concatenate"), similarity(flat, flat))
    larger = tuple(one._replace(memory=one.memory * jnp.asarray([1.0, 9.0])[None, :, None, None]) for one in states)
    close(
        il.state_similarity(states, states, normalise_heads=True, centre=False),
        il.state_similarity(larger, states, normalise_heads=True, centre=False),
    )


def test_libraries_are_read_back_as_they_were(tmp_path):
    library = some_library()
    path = library.save(tmp_path / "skills")
    assert path.name == "skills.npz"
    read = il.StateLibrary.load(path, library["skill 0"])
    assert read.names == library.names and read.meta("skill 3") == {"seed": 3}
    assert all(np.array_equal(read[name], library[name]) for name in library.names)


def test_nothing_is_overwritten_silently(tmp_path):
    library = some_library(2)
    path = library.save(tmp_path / "skills.npz")
    before = path.read_bytes()
    with pytest.raises(InnerloopError, match="exists already"):
        library.save(path)
    assert path.read_bytes() == before
    library.save(path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["skills.npz"]


def test_bad_input_is_refused(tmp_path):
    library = some_library(3)
    memory = library["skill 0"]
    with pytest.raises(ValueError, match="already"):
        library.add("skill 0", memory)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 3\), not \(2, 3, 4\)"):
        library.add("other", memory[..., :3])
    with pytest.raises(UnknownNameError, match="did you mean 'skill 2'"):
        library["skil 2"]
    with pytest.raises(ValueError, match="between 1 and the 3 states"):
        library.retrieve(memory, k=4)
    with pytest.raises(UnknownNameError, match="cosine"):
        library.retrieve(memory, metric="cosin")
    path = library.save(tmp_path / "skills")
    with pytest.raises(InnerloopError, match="is it of another model"):
        il.StateLibrary.load(path, model().init_state())
    with pytest.raises(InnerloopError, match="there is no library"):
        il.StateLibrary.load(tmp_path / "none.npz", memory)
    (tmp_path / "junk.npz").write_bytes(b"not an archive")
    with pytest.raises(InnerloopError, match="is not a library"):
        il.StateLibrary.load(tmp_path / "junk.npz", memory)
    np.savez(tmp_path / "objects.npz", names=np.asarray([{}, []], dtype=object))
    with pytest.raises(InnerloopError, match="is not a library"):
        il.StateLibrary.load(tmp_path / "objects.npz", memory)


def test_bad_mixtures_are_refused():
    first, second = (encode(il.AdditiveMemory(), tokens(seed, 5, dtype=jnp.float32)) for seed in (0, 1))
    with pytest.raises(UnknownNameError, match="did you mean 'average'"):
        il.mix_states([first, second], mode="avarage")
    with pytest.raises(UnknownNameError, match="conv"):
        il.mix_states([first, second], conv="first")
    with pytest.raises(ValueError, match="sum to one"):
        il.mix_states([first, second], [0.5, 0.6])
    with pytest.raises(ValueError, match="one number for each of 2"):
        il.mix_states([first, second], [0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="between two contexts"):
        il.mix_states([first, second, first], mode="interpolate")
    with pytest.raises(ValueError, match="leave weights out"):
        il.mix_states([first, second], [0.5, 0.5], mode="decay")
    with pytest.raises(ValueError, match="numbered from 0 to 0"):
        il.mix_states([first, second], layers=[1])
    with pytest.raises(ValueError, match="different structure"):
        il.mix_states([first, encode(il.MesaMemory(HEADS, KEYS), tokens(0, 5, dtype=jnp.float32))])
    with pytest.raises(ValueError, match="no linear transition"):
        il.compose(first, second._replace(transition=None))
    with pytest.raises(ValueError, match="do not belong together"):
        il.compose(first, second._replace(transition=jnp.zeros((HEADS, KEYS, KEYS))))
