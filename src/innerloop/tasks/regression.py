"""Regression in context: each example is a small data set, a query and its label."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..core.errors import UnknownNameError, require
from .task import AbstractTask, Example, Split, split_key

INPUT_LAWS = ("uniform", "normal", "exponential", "laplace")
LAYOUTS = ("joint", "interleaved")


class RegressionData(NamedTuple):
    """A data set and an input to predict for."""

    x: Float[Array, "n d"]
    y: Float[Array, "n o"]
    query: Float[Array, "d"]


def to_tokens(
    x: Float[Array, "n d"], y: Float[Array, "n o"], query: Float[Array, "d"], *, layout: str = "joint"
) -> Float[Array, "t w"]:
    r"""A data set and a query as tokens.

    - `"joint"`: $[x_1, y_1], \dots, [x_N, y_N], [x_q, 0]$, of width $d + o$.
    - `"interleaved"`: $x_1, [0, y_1], x_2, \dots, [0, y_N], x_q$, of width $d$: labels are padded in front.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.tasks import to_tokens
    >>> x, y, query = jnp.array([[1.0, 2.0]]), jnp.array([[3.0]]), jnp.array([4.0, 5.0])
    >>> to_tokens(x, y, query).tolist()
    [[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]]
    >>> to_tokens(x, y, query, layout="interleaved").tolist()
    [[1.0, 2.0], [0.0, 3.0], [4.0, 5.0]]

    ```

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677.

    **Errors:** `UnknownNameError` for another layout, `ValueError` for axes that do not fit.
    """
    _check_layout(layout, x.shape[1], y.shape[1])
    require(x.shape[0] == y.shape[0], f"axis 'n' has size {x.shape[0]} in x, but {y.shape[0]} in y")
    require(
        x.shape[1] == query.shape[0],
        f"axis 'd' has size {x.shape[1]} in x, but {query.shape[0]} in the query",
    )
    if layout == "joint":
        last = jnp.concatenate([query, jnp.zeros_like(y, shape=(y.shape[1],))])
        return jnp.concatenate([jnp.concatenate([x, y], axis=1), last[None]])
    labels = jnp.pad(y, [(0, 0), (x.shape[1] - y.shape[1], 0)])
    pairs = jnp.stack([x, labels], axis=1).reshape(2 * x.shape[0], x.shape[1])
    return jnp.concatenate([pairs, query[None]])


def from_tokens(tokens: Float[Array, "t w"], *, outputs: int = 1, layout: str = "joint") -> RegressionData:
    """The data set and the query that `to_tokens` made tokens of; what a comparator without tokens needs.

    **Errors:** `UnknownNameError` for another layout, `ValueError` for labels that do not fit.
    """
    width = tokens.shape[1]
    if layout == "joint":
        require(1 <= outputs < width, f"labels of size {outputs} leave no input in tokens of width {width}")
        inputs, labels = tokens[:, :-outputs], tokens[:-1, -outputs:]
        return RegressionData(inputs[:-1], labels, inputs[-1])
    _check_layout(layout, width, outputs)
    require(tokens.shape[0] % 2 == 1, f"interleaved tokens are odd in number, not {tokens.shape[0]}")
    return RegressionData(tokens[:-1:2], tokens[1::2, width - outputs :], tokens[-1])


class LinearRegression(AbstractTask):
    r"""Noiseless linear regression in context.

    $$x \sim U(-r/2, r/2)^d, \quad w \sim \mathcal N(0, s^2 I), \quad y = w \cdot x$$

    with `input_range` $r$ and `weight_scale` $s$; `inputs` are the tokens of the data set and the query,
    `target` is the query's label.

    ```python
    >>> import jax
    >>> from innerloop.tasks import LinearRegression
    >>> example = LinearRegression(dim=3, num_context=5).sample(jax.random.key(0), "test")
    >>> example.inputs.shape, example.target.shape
    ((6, 4), (1,))

    ```

    **Arguments:**

    - `dim`, `num_context`, `outputs`: the sizes $d$, $N$ and $o$.
    - `input_range`: $r$; 1 in the paper's code.
    - `weight_scale`: $s$.
    - `noisy_labels`: how many labels of the context, at random places, are replaced by standard normal noise.
    - `input_law`: `"uniform"`, or another law for tests out of distribution: `"normal"`, `"exponential"` or
      `"laplace"`, where all inputs are divided by the Frobenius norm of the context and multiplied by $r$.
    - `layout`: of the tokens, see `to_tokens`.
    - `shuffle_labels`: give every label of the context to another example: the control in which the pairs
      say nothing about the query.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677 (out of distribution).

    **Errors:** `ValueError` for sizes out of range, `UnknownNameError` for an unknown law or layout.
    """

    dim: int = eqx.field(static=True)
    num_context: int = eqx.field(static=True)
    outputs: int = eqx.field(static=True, default=1)
    input_range: float | Float[Array, ""] = 1.0
    weight_scale: float | Float[Array, ""] = 1.0
    noisy_labels: int | Int[Array, ""] = 0
    input_law: str = eqx.field(static=True, default="uniform")
    layout: str = eqx.field(static=True, default="joint")
    shuffle_labels: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        for name in ("dim", "num_context", "outputs"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        _check_layout(self.layout, self.dim, self.outputs)
        if self.input_law not in INPUT_LAWS:
            raise UnknownNameError("input law", self.input_law, INPUT_LAWS)
        for name in ("input_range", "weight_scale"):
            value = getattr(self, name)
            require(not isinstance(value, float) or value > 0, f"{name} must be above 0, not {value}")
        _check_spoiling(self.noisy_labels, self.shuffle_labels, self.num_context)

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One data set, as tokens, with the label of its query."""
        input_key, weight_key, label_key = jax.random.split(split_key(key, split), 3)
        x = self._inputs(input_key)
        weights = self.weight_scale * jax.random.normal(weight_key, (self.dim, self.outputs))
        y = x @ weights
        labels = _spoil(label_key, y[:-1], self.noisy_labels, self.shuffle_labels)
        return Example(to_tokens(x[:-1], labels, x[-1], layout=self.layout), y[-1])

    def loss(self, prediction: Float[Array, "o"], example: Example) -> Float[Array, ""]:
        r"""$\tfrac12 \lVert \hat y - y \rVert^2$ on the query."""
        return _half_square(prediction, example)

    def metrics(self, prediction: Float[Array, "o"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss` and `absolute_error`, the latter summed over outputs."""
        return _metrics(prediction, example)

    def data(self, example: Example) -> RegressionData:
        """The data set and the query behind an example's tokens."""
        return from_tokens(example.inputs, outputs=self.outputs, layout=self.layout)

    def _inputs(self, key: Key[Array, ""]) -> Float[Array, "t d"]:
        shape = (self.num_context + 1, self.dim)
        if self.input_law == "uniform":
            return self.input_range * jax.random.uniform(key, shape, minval=-0.5, maxval=0.5)
        draw = getattr(jax.random, self.input_law)
        x = draw(key, shape)
        return self.input_range * x / jnp.linalg.norm(x[:-1])


class SineRegression(AbstractTask):
    r"""Regression of sine waves in context.

    $$y = A \sin(x + \varphi), \quad A \sim U(a_0, a_1), \quad \varphi \sim U(0, \varphi_1), \quad
      x \sim U(-r/2, r/2)$$

    Amplitude and phase are **independent**. The official code draws both with one key, which makes each a
    function of the other, an easier task.

    **Arguments:**

    - `num_context`: $N$.
    - `input_range`: $r$; 10 in the paper.
    - `min_amplitude`, `max_amplitude`: $a_0$ and $a_1$.
    - `max_phase`: $\varphi_1$.
    - `noisy_labels`, `shuffle_labels`: as in `LinearRegression`.

    **Reference:** von Oswald et al. (2023), arXiv 2212.07677.

    **Errors:** `ValueError` for sizes or ranges out of range.
    """

    num_context: int = eqx.field(static=True)
    input_range: float | Float[Array, ""] = 10.0
    min_amplitude: float | Float[Array, ""] = 0.1
    max_amplitude: float | Float[Array, ""] = 0.5
    max_phase: float | Float[Array, ""] = math.pi
    noisy_labels: int | Int[Array, ""] = 0
    shuffle_labels: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        require(self.num_context >= 1, f"num_context must be at least 1, not {self.num_context}")
        require(
            not isinstance(self.input_range, float) or self.input_range > 0,
            f"input_range must be above 0, not {self.input_range}",
        )
        if isinstance(self.min_amplitude, float) and isinstance(self.max_amplitude, float):
            require(
                self.min_amplitude <= self.max_amplitude,
                f"min_amplitude {self.min_amplitude} is above max_amplitude {self.max_amplitude}",
            )
        _check_spoiling(self.noisy_labels, self.shuffle_labels, self.num_context)

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One data set, as joint tokens, with the label of its query."""
        input_key, amplitude_key, phase_key, label_key = jax.random.split(split_key(key, split), 4)
        x = self.input_range * jax.random.uniform(input_key, (self.num_context + 1, 1), minval=-0.5, maxval=0.5)
        spread = self.max_amplitude - self.min_amplitude
        amplitude = self.min_amplitude + spread * jax.random.uniform(amplitude_key)
        phase = self.max_phase * jax.random.uniform(phase_key)
        y = amplitude * jnp.sin(x + phase)
        labels = _spoil(label_key, y[:-1], self.noisy_labels, self.shuffle_labels)
        return Example(to_tokens(x[:-1], labels, x[-1]), y[-1])

    def loss(self, prediction: Float[Array, "o"], example: Example) -> Float[Array, ""]:
        r"""$\tfrac12 (\hat y - y)^2$ on the query."""
        return _half_square(prediction, example)

    def metrics(self, prediction: Float[Array, "o"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss` and `absolute_error`."""
        return _metrics(prediction, example)

    def data(self, example: Example) -> RegressionData:
        """The data set and the query behind an example's tokens."""
        return from_tokens(example.inputs)


def _half_square(prediction, example: Example) -> Float[Array, ""]:
    return 0.5 * jnp.sum((prediction - example.target) ** 2)


def _metrics(prediction, example: Example) -> dict[str, Float[Array, ""]]:
    return {
        "loss": _half_square(prediction, example),
        "absolute_error": jnp.sum(jnp.abs(prediction - example.target)),
    }


def _spoil(key: Key[Array, ""], y: Float[Array, "n o"], noisy_labels, shuffle_labels: bool) -> Float[Array, "n o"]:
    """Labels with some replaced by noise, or all permuted; untouched by default, and then for free."""
    noise_key, place_key, order_key = jax.random.split(key, 3)
    if shuffle_labels:
        # A random rotation, not any permutation: no label stays with its own input.
        y = jnp.roll(y, jax.random.randint(order_key, (), 1, y.shape[0]), axis=0)
    if not (isinstance(noisy_labels, int) and noisy_labels == 0):
        spoilt = jax.random.permutation(place_key, y.shape[0]) < noisy_labels
        y = jnp.where(spoilt[:, None], jax.random.normal(noise_key, y.shape), y)
    return y


def _check_spoiling(noisy_labels, shuffle_labels: bool, num_context: int) -> None:
    if isinstance(noisy_labels, int):
        require(
            0 <= noisy_labels <= num_context,
            f"noisy_labels must lie between 0 and num_context = {num_context}, not {noisy_labels}",
        )
    require(not shuffle_labels or num_context >= 2, "labels are shuffled among two examples at least, not one")


def _check_layout(layout: str, dim: int, outputs: int) -> None:
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    require(
        layout == "joint" or outputs <= dim,
        f"labels of size {outputs} do not fit into interleaved tokens of width {dim}",
    )
