"""Which form of linear attention is fastest, and how far is in-context training from the flop floor?

Forms are compared at several lengths. The floor of the second question is the time in which this machine, in
this run, does as many floating-point operations (as XLA counts them) in a matrix product of 512 x 512 x 512.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import innerloop as il
from _measure import interleave, print_head, print_times, ratio

BATCH, HEADS, HEAD_WIDTH = 2, 4, 64
LENGTHS = (128, 512, 2048)
FORMS = ("recurrent", "chunk", "parallel")
REPEATS = 7


def ready(function, *arguments):
    """A call of a compiled function that returns when the result is there."""

    def call():
        jax.block_until_ready(function(*arguments))

    return call


def causal_forms() -> None:
    width = HEADS * HEAD_WIDTH
    layer = il.LinearSelfAttention(il.Projections.random(width, HEADS, HEAD_WIDTH, key=jax.random.key(0)))
    print(f"causal forms: batch {BATCH}, {HEADS} heads of {HEAD_WIDTH}, projections included, float32")
    for length in LENGTHS:
        xs = jax.random.normal(jax.random.key(1), (BATCH, length, width))
        sides = {}
        for form in FORMS:

            def forward(layer, xs, form=form):
                return jax.vmap(lambda one: layer(one, form=form)[0])(xs)

            def loss(layer, xs, forward=forward):
                return jnp.mean(forward(layer, xs) ** 2)

            sides[f"{form} forward"] = ready(eqx.filter_jit(forward), layer, xs)
            sides[f"{form} forward+backward"] = ready(eqx.filter_jit(eqx.filter_grad(loss)), layer, xs)
        outputs = [np.asarray(eqx.filter_jit(jax.vmap(lambda one, f=f: layer(one, form=f)[0]))(xs)) for f in FORMS]
        error = max(np.linalg.norm(other - outputs[0]) / np.linalg.norm(outputs[0]) for other in outputs[1:])
        interleave(sides, repeats=1)  # compiles
        costs = interleave(sides, repeats=REPEATS)
        print(f"\n length {length} (the forms differ by {error:.1e} of the norm)")
        print_times(costs)
        for part in ("forward", "forward+backward"):
            for form in ("recurrent", "parallel"):
                print(f"  {form} / chunk, {part}: {ratio(costs, f'{form} {part}', f'chunk {part}')}")


def in_context_batch() -> None:
    size, batch = 512, 2048
    task = il.LinearRegression(dim=10, num_context=10)
    model = il.one_layer_regressor(dim=10, key=jax.random.key(0))
    arrays, static = eqx.partition(model, eqx.is_array)
    examples = jax.vmap(task.sample)(jax.random.split(jax.random.key(1), batch))

    def mean_loss(arrays, examples):
        model = eqx.combine(arrays, static)
        return jnp.mean(jax.vmap(lambda one: task.loss(model(one.inputs), one))(examples))

    training = jax.jit(jax.value_and_grad(mean_loss)).lower(arrays, examples).compile()
    flops = training.cost_analysis()["flops"]
    matrix = jax.random.normal(jax.random.key(2), (size, size))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    repeated = max(1, round(flops / (2 * size**3)))

    def products():
        for _ in range(repeated):
            result = product(matrix, matrix)
        jax.block_until_ready(result)

    sides = {"value and gradient": ready(training, arrays, examples), "matrix products": products}
    interleave(sides, repeats=3)
    costs = interleave(sides, repeats=4 * REPEATS)
    same_flops = 2 * size**3 * repeated / flops
    print(f"\nin-context regression, one layer, d = N = 10, batch {batch}: {flops / 1e6:.1f} Mflop")
    print_times(costs)
    print(f"  times the flop floor: {ratio(costs, 'value and gradient', 'matrix products', times=same_flops)}")


def main() -> None:
    print_head("Which form of linear attention is fastest, and how far is in-context training from the flop floor?")
    causal_forms()
    in_context_batch()


if __name__ == "__main__":
    main()
