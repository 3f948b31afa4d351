"""The models of `state-soup` and how they are trained."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Key, PyTree

from ...lab.cells import Cells
from ...learn.backpropagation import Backpropagation
from ...nn.language.models import LanguageModel, OutputsOnly
from ...nn.memory.additive import AdditiveMemory
from ...nn.memory.gates import SigmoidGates
from ...nn.memory.multi_head import MultiHeadMemory
from ...nn.recurrent.selective import SelectiveSSM
from ...nn.sequence import AbstractSequenceLayer
from ...tasks.task import AbstractTask
from ...train.supervised import Supervised
from .configuration import Network, Training

RECORDS = 50  # points of a loss curve


def language_model(
    vocabulary: int, network: Network, *, forget_bias: float = 4.0, selective: bool = False, key: Key[Array, ""]
) -> LanguageModel:
    """A model of tokens whose layers are gated linear attention with one gate per head, or selective (Mamba)."""

    def layer(key: Key[Array, ""]) -> AbstractSequenceLayer:
        if selective:
            return SelectiveSSM(network.width, convolution=network.convolution, state_size=network.key_size, key=key)
        first, second = jax.random.split(key)
        return MultiHeadMemory(
            network.width,
            num_heads=network.heads,
            key_size=network.key_size,
            rule=AdditiveMemory(),
            gates=SigmoidGates(network.width, network.heads, write=False, forget_bias=forget_bias, key=first),
            convolution=network.convolution,
            convolve_values=True,
            key=second,
        )

    return LanguageModel(
        vocabulary, network.width, network.layers, layer, hidden_size=network.hidden_size, logit_cap=None, key=key
    )


def make(cells: Cells, build: Callable[[Key[Array, ""]], PyTree]) -> PyTree:
    """One freshly drawn model per seed."""
    return eqx.filter_jit(eqx.filter_vmap(build))(cells.keys("init"))


def train(cells: Cells, training: Training, task: AbstractTask, models: PyTree, *, name: str = "train") -> PyTree:
    """Train one model per seed; it returns outputs and a state, of which the task sees the outputs."""
    warm_up = min(training.warm_up, training.steps // 2)
    rate = optax.warmup_cosine_decay_schedule(0.0, training.learning_rate, warm_up, training.steps)
    optimiser = optax.chain(optax.clip_by_global_norm(training.clip_norm), optax.adamw(rate, weight_decay=0.01))
    step = Supervised(Backpropagation(), optimiser, task, training.batch_size)
    start = eqx.filter_jit(eqx.filter_vmap(step.init))(cells.keys("rule"), OutputsOnly(models))
    result = cells.fit(
        step,
        start,
        steps=training.steps,
        name=name,
        record_every=max(1, training.steps // RECORDS),
        one_by_one=True,
    )
    return result.carry.model.model


def over_seeds(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one seed's arguments (arrays, models) as one of all seeds, which are taken one by one."""

    @eqx.filter_jit
    def run(*arguments: Any) -> Any:
        arrays, static = eqx.partition(arguments, eqx.is_array)
        return jax.lax.map(lambda one: function(*eqx.combine(one, static)), arrays)

    return run
