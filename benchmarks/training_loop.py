"""What does `fit` cost beyond a hand-written jitted scan of the same step, and eight seeds beyond one?

Both sides of the first question do the same steps with the same keys; their final weights are compared before
anything is timed. The step is the usual one on in-context regression. Compilation is left out: the clock of
`fit` starts after its first chunk of one record, so the growth of its chunks is in.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import innerloop as il
from _measure import Cost, clock, interleave, print_head, print_ratio, print_times

STEPS, RECORD_EVERY, BATCH, REPEATS = 2000, 10, 256, 5


def make(key: jax.Array):
    """The step and what it carries at first."""
    step = il.Supervised(il.Backpropagation(), optax.adam(1e-3), il.LinearRegression(10, 10), batch_size=BATCH)
    model = il.one_layer_regressor(10, variance=0.1, key=key)
    return step, step.init(key, model)


def timed_fit(step, carry, seeds, steps: int) -> tuple[Cost, il.Fit]:
    """What `fit` took per `steps` steps, its first chunk and compilation left out."""
    marks = []
    result = il.fit(
        step,
        carry,
        steps=steps,
        seeds=seeds,
        record_every=RECORD_EVERY,
        on_progress=lambda progress: None if progress.compiling else marks.append((progress.step, clock())),
    )
    (first, start), (last, end) = marks[0], marks[-1]
    share = steps / (last - first)
    return Cost(share * (end.wall - start.wall), share * (end.cpu - start.cpu)), result


def hand_written(step, carry, steps: int):
    """The whole training as one compiled scan."""
    arrays, static = eqx.partition(carry, eqx.is_array)

    def body(arrays, position):
        carry, info = step(il.named_key(0, "train", position), eqx.combine(arrays, static))
        return eqx.filter(carry, eqx.is_array), info

    scan = jax.jit(lambda arrays: jax.lax.scan(body, arrays, jnp.arange(steps, dtype=jnp.int32)))
    return scan.lower(arrays).compile(), arrays


def main() -> None:
    print_head("What does `fit` cost beyond a hand-written jitted scan, and eight seeds beyond one?")
    step, carry = make(jax.random.key(0))
    scan, arrays = hand_written(step, carry, STEPS)
    expected = scan(arrays)[0]
    found = eqx.filter(timed_fit(step, carry, 0, STEPS)[1].carry, eqx.is_array)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    costs = interleave(
        {
            "fit": lambda: timed_fit(step, carry, 0, STEPS)[0],
            "hand-written": lambda: jax.block_until_ready(scan(arrays)),
        },
        repeats=REPEATS,
    )
    print(f"{STEPS} steps, batch {BATCH}; both sides end with the same weights")
    print_times(costs)
    print_ratio(costs, "fit", "hand-written", goal="at most 1.05")

    def seeds(count: int):
        many = eqx.filter_vmap(lambda key: make(key)[1])(jax.random.split(jax.random.key(0), count))
        return lambda: timed_fit(step, many, range(count), STEPS // 4)[0]

    costs = interleave({"eight seeds": seeds(8), "one seed": seeds(1)}, repeats=REPEATS)
    print(f"\n{STEPS // 4} steps of each seed, trained together by vmap")
    print_times(costs)
    print_ratio(costs, "eight seeds", "one seed", goal="at most 5")


if __name__ == "__main__":
    main()
