"""Parity: mesa layers whose forget gates may be negative, and ones whose gates may not."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ...lab.cells import Cells
from ...nn.initialise import truncated_normal
from ...nn.language import LanguageModel
from ...nn.memory.gates import AbstractGates, Gates, SigmoidGates, linear
from ...nn.memory.mesa import ConjugateGradients, MesaMemory
from ...nn.memory.multi_head import MultiHeadMemory
from ...tasks import Parity
from .benchmarks import draw, predict
from .configuration import Config
from .configuration import Parity as Settings
from .training import Lessons, as_sequences, read, train


class SignedGates(AbstractGates):
    r"""Forget gates between -1 and 1, and write strengths between 0 and 1, each of a linear map of the token.

    $$\gamma = \tanh(x W_\gamma), \qquad \beta = \sigma(x W_\beta + b_\beta)$$

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233; Grazzi et al. (2024), arXiv 2411.12537.
    """

    forget: Float[Array, "d h"]
    positive: SigmoidGates

    def __init__(self, width: int, num_heads: int, *, key: Key[Array, ""]):
        """**Arguments:** the size of a token, the number of heads, and a random key."""
        first, second = jax.random.split(key)
        self.forget = truncated_normal(first, (width, num_heads), fan_in=width)
        self.positive = SigmoidGates(width, num_heads, forget=False, key=second)

    def __call__(self, xs: Float[Array, "t d"]) -> Gates:
        """The gates of a sequence."""
        gate = jnp.tanh(linear(xs, self.forget, jnp.zeros(self.forget.shape[1])))
        log_gate = jnp.log(jnp.maximum(jnp.abs(gate), 1e-6))
        return Gates(log_gate, self.positive(xs).strength, negative=gate < 0)


def measure_parity(config: Config, cells: Cells) -> None:
    """Train at one length; accuracy at that length and at a longer one."""
    parity, signed = config.parity, cells.variant == "parity-signed"
    task = Parity(length=parity.length)
    learn = as_sequences([draw(task, "bits", parity.training.examples, "train")])
    _, after = train(
        cells, Lessons(("parity",), predict, parity.training, learn), lambda key: _model(parity, signed, key)
    )
    for length in (parity.length, parity.long_length):
        test = as_sequences([draw(Parity(length=length), "bits", parity.training.test_examples, "test")])
        hits = read(predict, after, test.inputs)[:, 0].argmax(axis=-1) == np.asarray(test.target)[0]
        name = "short" if length == parity.length else "long"
        cells.record({f"accuracy/{name}": hits.mean(axis=(1, 2))}, step=parity.training.steps)
        cells.save(**{f"{name}_accuracy_at": hits.mean(axis=1)})


def _model(parity: Settings, signed: bool, key: Key[Array, ""]) -> LanguageModel:
    sizes = parity.sizes

    def layer(key: Key[Array, ""]) -> MultiHeadMemory:
        first, second = jax.random.split(key)
        options = dict(regulariser=parity.regulariser, lower=parity.regulariser - 1.0) if signed else {}
        rule = MesaMemory(
            sizes.num_heads,
            sizes.key_size,
            solver=ConjugateGradients(max_steps=sizes.max_steps, tolerance=sizes.tolerance),
            chunk_size=sizes.chunk_size,
            **options,
        )
        gates = SignedGates if signed else SigmoidGates
        return MultiHeadMemory(
            sizes.width,
            num_heads=sizes.num_heads,
            key_size=sizes.key_size,
            rule=rule,
            gates=gates(sizes.width, sizes.num_heads, key=first),
            key=second,
        )

    return LanguageModel(3, sizes.width, sizes.num_layers, layer, hidden_size=sizes.hidden_size, key=key)
