"""The second family of `state-soup`: maps learned in context, whose states are statistics that add up."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...lab.cells import Cells
from ...nn.memory.additive import AdditiveMemory
from ...nn.memory.covariance import DirectSolve
from ...nn.memory.mesa import MesaMemory
from ...nn.memory.multi_head import MultiHeadMemory
from ...nn.states.context import EncodedContext
from ...nn.states.mixing import mix_states
from ...tasks.task import AbstractTask, Example, Split, split_key
from .configuration import Config, Regression
from .training import make, over_seeds, train

QUERIES = 8
WAYS = ("first", "second", "average", "sum", "sequential", "average, half the ridge", "foreign sum")


class MapTask(AbstractTask):
    r"""A random linear map $y = W x + \epsilon$ shown by examples, and inputs to answer."""

    dim: int = eqx.field(static=True)
    examples: int = eqx.field(static=True)
    noise: float

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """Examples as tokens $[x, y]$, and queries with the answers of the map."""
        keys = jax.random.split(split_key(key, split), 3)
        weight = jax.random.normal(keys[0], (self.dim,)) / self.dim**0.5
        xs = jax.random.normal(keys[1], (self.examples + QUERIES, self.dim))
        ys = xs @ weight
        noisy = ys + self.noise * jax.random.normal(keys[2], ys.shape)
        tokens = jnp.concatenate([xs, noisy[:, None]], axis=1)[: self.examples]
        return Example((tokens, xs[self.examples :]), ys[self.examples :])

    def loss(self, prediction: Float[Array, "n"], example: Example) -> Float[Array, ""]:
        """Mean squared error of the queries."""
        return jnp.mean((prediction - example.target) ** 2)

    def metrics(self, prediction: Float[Array, "n"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss`."""
        return {"loss": self.loss(prediction, example)}


class MapReader(eqx.Module):
    """One layer that writes examples and answers queries: queries read, and do not write."""

    layer: MultiHeadMemory

    def encode(self, tokens: Float[Array, "t d"]) -> Any:
        """The memory of the examples."""
        return self.layer(tokens)[1].memory

    def answer(self, memory: Any, queries: Float[Array, "n d"]) -> Float[Array, "n"]:
        """The predictions for inputs, read from a memory."""
        tokens = jnp.pad(queries, [(0, 0), (0, 1)])
        inputs = self.layer.inputs(tokens)
        read, _ = self.layer.rule(inputs._replace(strength=jnp.zeros(inputs.key.shape[:2])), memory)
        return self.layer.projections.merge(jnp.swapaxes(read, 0, 1))[:, -1]

    def __call__(self, inputs: tuple[Float[Array, "t d"], Float[Array, "n e"]]) -> tuple[Float[Array, "n"], None]:
        """Predictions, and no state, as of any model that is trained here."""
        examples, queries = inputs
        return self.answer(self.encode(examples), queries), None


class Judged(NamedTuple):
    """Mean squared errors of every way of mixing, and of ridge regression on the union of the examples."""

    errors: Float[Array, "ways"]
    ridge: Float[Array, ""]


def map_reader(settings: Regression, *, mesa: bool, key: Key[Array, ""]) -> MapReader:
    """A single mesa or linear attention layer without convolution, norms or gates."""
    width = settings.dim + 1
    # Twice as many key channels as inputs: random projections then lose no direction of them.
    rule = MesaMemory(1, 2 * width, lower=0.0, solver=DirectSolve()) if mesa else AdditiveMemory()
    layer = MultiHeadMemory(
        width,
        num_heads=1,
        key_size=2 * width,
        value_size=width,
        rule=rule,
        convolution=None,
        normalise=False,
        output_norm=False,
        key=key,
    )
    return MapReader(layer)


def measure_regression(config: Config, cells: Cells) -> None:
    """Train a mesa layer and a linear attention layer, and mix what they remember of two contexts."""
    settings = config.regression
    task = MapTask(settings.dim, 2 * settings.examples, settings.noise)
    for name, mesa in (("mesa", True), ("linear", False)):
        models = make(cells, lambda key, mesa=mesa: map_reader(settings, mesa=mesa, key=key))
        model = train(cells, settings.training, task, models, name=name)
        judged = over_seeds(lambda key, model: judge(model, task, key, settings.tasks))(cells.keys("test"), model)
        numbers = {f"{name}/{way}": judged.errors[:, number] for number, way in enumerate(WAYS)}
        cells.record({**numbers, f"{name}/ridge": judged.ridge}, step=settings.training.steps)


def judge(model: MapReader, task: MapTask, key: Key[Array, ""], count: int) -> Judged:
    """Mix the memories of the two halves of the examples in every way, and answer the same queries."""
    examples = jax.vmap(lambda one: task.sample(one, "test"))(jax.random.split(key, count))
    tokens, queries = examples.inputs
    first, second = jnp.split(tokens, 2, axis=1)
    half = _half_ridge(model)

    def errors(first: Any, second: Any, other: Any, queries: Any, target: Any) -> Float[Array, "ways"]:
        a, b, c = (EncodedContext(model.encode(part), None) for part in (first, second, other))
        together = model.encode(jnp.concatenate([first, second]))
        memories = [a.state, b.state, mix_states([a, b]).state, mix_states([a, b], mode="sum").state, together]
        found = [model.answer(memory, queries) for memory in memories]
        found += [half.answer(memories[2], queries), model.answer(mix_states([a, c], mode="sum").state, queries)]
        return jnp.mean((jnp.stack(found) - target[None]) ** 2, axis=1)

    def ridge(tokens: Any, queries: Any, target: Any) -> Float[Array, ""]:
        xs, ys = tokens[:, :-1], tokens[:, -1]
        amount = max(task.dim * task.noise**2, 1e-6)  # the best one for weights of variance 1 / dim
        weight = jnp.linalg.solve(xs.T @ xs + amount * jnp.eye(task.dim), xs.T @ ys)
        return jnp.mean((queries @ weight - target) ** 2)

    all_errors = jax.vmap(errors)(first, second, jnp.roll(second, 1, axis=0), queries, examples.target)
    return Judged(jnp.mean(all_errors, axis=0), jnp.mean(jax.vmap(ridge)(tokens, queries, examples.target)))


def _half_ridge(model: MapReader) -> MapReader:
    """The same layer with half the regulariser; without one, the same layer."""
    rule = model.layer.rule
    if not isinstance(rule, MesaMemory):
        return model
    wanted = 0.5 * rule.regulariser - rule.lower
    raw = wanted + jnp.log(-jnp.expm1(-wanted))
    return eqx.tree_at(lambda model: model.layer.rule.raw_regulariser, model, raw)
