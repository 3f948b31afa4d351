"""What does each sequence layer cost, forward and backward, over lengths, per decoded token, to compile?

Shape: batch 2, 4 heads of width 64, float32, the memories alone (no projections). The peers are the naive PyTorch
functions of flash-linear-attention, the only ones of it that run on a CPU. They are measured if PyTorch and einops are
installed and INNERLOOP_PEER_FLA names a checkout of it; outputs are compared before anything is timed.
"""

import importlib.util
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import innerloop as il
from _measure import interleave, print_head, print_ratio, print_times, ratio

BATCH, HEADS, SIZE, LENGTH = 2, 4, 64, 1024
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
STEPS = 30
REPEATS = 5

RULES = {
    "linear attention": il.AdditiveMemory(),
    "gated, per head": il.AdditiveMemory(),
    "GLA, per channel": il.ChannelGatedMemory(),
    "DeltaNet": il.DeltaMemory(),
    "gated DeltaNet": il.DeltaMemory(),
    "mLSTM": il.NormalisedMemory(),
    "mesa, 30 steps": il.MesaMemory(HEADS, SIZE, solver=il.ConjugateGradients(STEPS, None, "zero")),
    "mesa, tolerance 1e-4": il.MesaMemory(HEADS, SIZE, solver=il.ConjugateGradients(STEPS, 1e-4)),
}
# Multiplications and additions per token and head, forward: of blocks of C tokens and heads of width D.
FLOPS = {
    "linear attention": lambda c, d: 4 * d * d + 4 * c * d,
    "gated, per head": lambda c, d: 4 * d * d + 4 * c * d,
    "GLA, per channel": lambda c, d: 4 * d * d + 4 * c * d,
    "DeltaNet": lambda c, d: 6 * d * d + 8 * c * d,
    "gated DeltaNet": lambda c, d: 6 * d * d + 8 * c * d,
    "mLSTM": lambda c, d: 4 * d * d + 4 * c * d,
    "mesa, 30 steps": lambda c, d: (STEPS + 2) * (2 * d * d + 4 * c * d),
}


def draw(length: int, name: str) -> il.MemoryInputs:
    """Inputs [batch, time, heads, width] as a layer would give them: unit keys, gates near one."""
    random = np.random.default_rng(0)
    query, key, value = random.standard_normal((3, BATCH, length, HEADS, SIZE)).astype(np.float32)
    query, key = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (query, key))
    shape = (BATCH, length, HEADS, SIZE) if "channel" in name else (BATCH, length, HEADS)
    gate = np.log(random.uniform(0.9, 1.0, shape)).astype(np.float32)
    strength = random.uniform(0.1, 1.0, (BATCH, length, HEADS)).astype(np.float32)
    ungated = name in ("linear attention", "DeltaNet")
    additive = name in ("linear attention", "gated, per head", "GLA, per channel")
    return il.MemoryInputs(
        *map(jnp.asarray, (query, key, value)),
        None if ungated else jnp.asarray(gate),
        None if additive else jnp.asarray(strength),
    )


def forward_of(rule, form="chunk"):
    """Outputs of a batch of sequences."""
    return lambda inputs: jax.vmap(lambda one: rule(one, form=form)[0])(inputs)


def training_of(rule, form="chunk"):
    """Gradients by everything that a token brings."""
    return jax.grad(lambda inputs: jnp.mean(forward_of(rule, form)(inputs) ** 2))


def compiled(function, inputs):
    """The compiled function with the seconds that compiling took and the bytes it needs beside its arguments."""
    start = time.perf_counter()
    program = jax.jit(function).lower(inputs).compile()
    return program, time.perf_counter() - start, program.memory_analysis().temp_size_in_bytes


def call(program, inputs):
    """A call that returns when the result is there."""
    return lambda: jax.block_until_ready(program(inputs))


def products(flops: float):
    """As many operations in products of 64 x 64 matrices that fit into the cache: the floor of layers made of them."""
    count = 128
    a, b = np.random.default_rng(0).standard_normal((2, count, SIZE, SIZE)).astype(np.float32)
    program = jax.jit(jnp.matmul)
    program(a, b).block_until_ready()
    one = 2 * SIZE**3 * count
    times = max(1, round(flops / one))

    def run():
        for _ in range(times):
            result = program(a, b)
        result.block_until_ready()

    return run, flops / (one * times)


def costs_of_layers() -> None:
    """Forward and forward+backward at one shape, against the floor and, where there is one, the peer."""
    peers = load_peers()
    for name, rule in RULES.items():
        inputs = draw(LENGTH, name)
        forward, _, _ = compiled(forward_of(rule), inputs)
        training, compile_seconds, scratch = compiled(training_of(rule), inputs)
        sides = {"forward": call(forward, inputs), "forward+backward": call(training, inputs)}
        scale = 1.0
        if name in FLOPS:
            chunk = rule.chunk_size
            # The backward pass of a solve is one more solve, that of a product two more products.
            backward = 2 if name.startswith("mesa") else 3
            flops = backward * FLOPS[name](chunk, SIZE) * BATCH * HEADS * LENGTH
            sides["floor"], scale = products(flops)
        peer = peers.get(name)
        if peer is not None:
            error = peer.difference(inputs, forward(inputs))
            sides["peer forward"], sides["peer forward+backward"] = peer.forward(inputs), peer.training(inputs)
        interleave(sides, repeats=1)
        costs = interleave(sides, repeats=REPEATS)
        print(f"\n{name}: compiled in {compile_seconds:.2f} s, {scratch / LENGTH / 1024:.0f} KiB scratch per token")
        print_times(costs)
        if "floor" in sides:
            print(f"  forward+backward / floor: {ratio(costs, 'forward+backward', 'floor', times=scale)}   goal 2.5")
        if peer is not None:
            print(f"  outputs differ by {error:.1e} of the peer's norm")
            for part in ("forward", "forward+backward"):
                goal = peer.goal if part == "forward+backward" else ""
                print_ratio(costs, part, f"peer {part}", goal=goal)


def costs_over_lengths() -> None:
    """Time and scratch of forward+backward: both must grow linearly."""
    for name in ("gated, per head", "GLA, per channel", "gated DeltaNet", "mesa, tolerance 1e-4"):
        programs = {}
        scratch = {}
        for length in LENGTHS:
            inputs = draw(length, name)
            program, _, scratch[length] = compiled(training_of(RULES[name]), inputs)
            programs[f"{length}"] = call(program, inputs)
        interleave(programs, repeats=1)
        costs = interleave(programs, repeats=3)
        print(f"\n{name}, forward+backward over lengths")
        for length in LENGTHS:
            best = min(cost.wall for cost in costs[f"{length}"])
            print(
                f"  {length:5d} tokens: {1e3 * best:8.1f} ms, {1e6 * best / length:6.1f} us and "
                f"{scratch[length] / length / 1024:6.1f} KiB per token"
            )


def cost_per_decoded_token() -> None:
    """A whole layer of width 256, one token at a time in a compiled loop, batch 1."""
    width, tokens = HEADS * SIZE, 512
    sizes = dict(num_heads=HEADS, key_size=SIZE, key=jax.random.key(0))
    layers = {
        "gated, per head": il.gated_linear_attention_layer(width, channel_gates=False, **sizes),
        "GLA, per channel": il.gated_linear_attention_layer(width, **sizes),
        "gated DeltaNet": il.gated_delta_net_layer(width, **sizes),
        "mLSTM": il.mlstm_layer(width, **sizes),
        "mesa, tolerance 1e-4": il.mesa_layer(width, solver=il.ConjugateGradients(STEPS, 1e-4), **sizes),
        "softmax, 1024 places": il.softmax_attention_layer(width, capacity=1024, **sizes),
    }
    print("\none decoded token of a layer of width 256, batch 1 (goal: at most 40 us)")
    for name, layer in layers.items():

        def decode(state, layer=layer):
            def advance(carry, _):
                state, x = carry
                return layer.step(state, x), None

            return jax.lax.scan(advance, (state, jnp.ones((width,))), None, length=tokens)[0]

        program, _, _ = compiled(decode, layer.init_state())
        costs = interleave({name: call(program, layer.init_state())}, repeats=REPEATS)[name]
        print(f"  {name}: {1e6 * min(cost.wall for cost in costs) / tokens:.1f} us")


class Peer:
    """A naive function of flash-linear-attention for one layer."""

    def __init__(self, function, goal: str = ""):
        self.function, self.goal = function, goal

    def tensors(self, inputs):
        import torch

        parts = [None if part is None else torch.from_numpy(np.array(part)) for part in inputs[:5]]
        return [None if part is None else part.requires_grad_() for part in parts]

    def difference(self, inputs, wanted) -> float:
        given = self.function(*self.tensors(inputs)).detach().numpy()
        return float(np.linalg.norm(given - np.asarray(wanted)) / np.linalg.norm(given))

    def forward(self, inputs):
        import torch

        tensors = self.tensors(inputs)

        def run():
            with torch.no_grad():
                self.function(*tensors)

        return run

    def training(self, inputs):
        tensors = self.tensors(inputs)
        return lambda: (self.function(*tensors) ** 2).mean().backward()


def load_peers() -> dict[str, Peer]:
    """The peers by layer; none without PyTorch or a checkout, and then it says so."""
    folder = os.environ.get("INNERLOOP_PEER_FLA", "")
    if not folder or importlib.util.find_spec("torch") is None or importlib.util.find_spec("einops") is None:
        print("no peers: install torch and einops, and set INNERLOOP_PEER_FLA to a checkout of flash-linear-attention")
        return {}
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f"peers: flash-linear-attention's naive functions, torch {torch.__version__}")

    def module(name: str):
        path = Path(folder) / "fla" / "ops" / name / "naive.py"
        specification = importlib.util.spec_from_file_location(f"peer_{name}", path)
        assert specification is not None and specification.loader is not None, path
        loaded = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(loaded)
        return loaded

    def heads_first(*tensors):
        return [tensor.transpose(1, 2) for tensor in tensors]

    linear, simple, delta, gated, mesa = map(
        module, ("linear_attn", "simple_gla", "delta_rule", "gated_delta_rule", "mesa_net")
    )
    regulariser = torch.ones(HEADS, SIZE)
    root = SIZE**0.5  # the delta rule's peer scales queries by its inverse and cannot be told not to
    return {
        "linear attention": Peer(lambda q, k, v, g, b: linear.naive_chunk_linear_attn(q, k, v, scale=1.0)),
        "gated, per head": Peer(lambda q, k, v, g, b: simple.naive_chunk_simple_gla(q, k, v, g, scale=1.0)[0]),
        "DeltaNet": Peer(
            lambda q, k, v, g, b: delta.delta_rule_chunkwise(
                *heads_first(root * q, k, v), b.transpose(1, 2), chunk_size=64
            )[0].transpose(1, 2),
            "0.25",
        ),
        "gated DeltaNet": Peer(
            lambda q, k, v, g, b: gated.naive_chunk_gated_delta_rule(q, k, v, g, b, chunk_size=64, scale=1.0)[0],
            "0.25",
        ),
        "mesa, 30 steps": Peer(
            lambda q, k, v, g, b: mesa.naive_mesa_net_CG(q, k, v, g, regulariser, b, 64, STEPS)[0], "0.12"
        ),
    }


def main() -> None:
    print_head(
        f"What does each sequence layer cost? Batch {BATCH}, {HEADS} heads of width {SIZE}, length {LENGTH}, float32."
    )
    costs_of_layers()
    costs_over_lengths()
    cost_per_decoded_token()


if __name__ == "__main__":
    main()
