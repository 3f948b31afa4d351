"""Recurrent policies: any sequence layer as an agent's memory."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from ..core.errors import require
from ..nn.feedforward import RootMeanSquareNorm
from ..nn.initialise import truncated_normal
from ..nn.language import Stack, make_blocks
from ..nn.sequence import AbstractSequenceLayer, Form
from .policy import AbstractPolicy, PolicyOutput


class SequencePolicy(AbstractPolicy):
    r"""A linear embedding, sequence layers, a norm, and two linear heads for logits and value.

    The heads start at zero: every agent begins by choosing uniformly and expecting nothing. Observations are indices
    (a row of the embedding each) or arrays, which are flattened.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> make = lambda key: il.HawkLayer(8, num_heads=2, key=key)
    >>> policy = il.SequencePolicy.random(5, 2, make, key=jax.random.key(0))
    >>> output, memory = policy.unroll(jax.numpy.asarray([0, 3, 1]))
    >>> output.logits.shape, output.value.shape
    ((3, 2), (3,))

    ```

    **Reference:** the architecture, with a Hawk layer, of Meulemans et al. (2024), arXiv 2410.18636, appendix B.
    """

    embedding: Float[Array, "o d"]
    stack: Stack
    norm: RootMeanSquareNorm | None
    logits: Float[Array, "d a"]
    logits_bias: Float[Array, "a"]
    value: Float[Array, "d"]
    value_bias: Float[Array, ""]
    form: Form = eqx.field(static=True)

    @classmethod
    def random(
        cls,
        observation_size: int,
        num_actions: int,
        make_layer: Callable[[Key[Array, ""]], AbstractSequenceLayer],
        *,
        num_layers: int = 1,
        hidden_size: int | None = None,
        form: Form = "chunk",
        key: Key[Array, ""],
    ) -> "SequencePolicy":
        """Pre-norm blocks around the layers that `make_layer` draws.

        **Arguments:**

        - `observation_size`: how many indices there are, or the size of a flattened observation.
        - `num_actions`: how many actions there are.
        - `make_layer`: draws a sequence layer from a key; its width is the policy's.
        - `num_layers`: how many of them.
        - `hidden_size`: of the gated perceptron after each layer; by default the width.
        - `form`: how `unroll` computes.
        - `key`: a random key.
        """
        for name, size in dict(observation_size=observation_size, num_actions=num_actions).items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        first, second = jax.random.split(key)
        if hidden_size is None:
            hidden_size = jax.eval_shape(make_layer, first).width
        stack = make_blocks(make_layer, num_layers, hidden_size=hidden_size, key=first)
        return cls(
            embedding=truncated_normal(second, (observation_size, stack.width), fan_in=observation_size),
            stack=stack,
            norm=RootMeanSquareNorm(stack.width),
            logits=jnp.zeros((stack.width, num_actions)),
            logits_bias=jnp.zeros(num_actions),
            value=jnp.zeros(stack.width),
            value_bias=jnp.zeros(()),
            form=form,
        )

    def init_memory(self) -> PyTree:
        """The states of the layers before the first observation."""
        return self.stack.init_state()

    def look(self, memory: PyTree, observation: Array) -> tuple[PyTree, PolicyOutput]:
        """One observation."""
        memory, hidden = self.stack.step(memory, self._embed(observation[None])[0])
        return memory, self._read(hidden)

    def unroll(
        self, observations: Array, memory: PyTree | None = None, *, resets: Bool[Array, "t"] | None = None
    ) -> tuple[PolicyOutput, PyTree]:
        """A sequence of observations."""
        hidden, memory = self.stack(self._embed(observations), memory, form=self.form, resets=resets)
        return self._read(hidden), memory

    def _embed(self, observations: Array) -> Float[Array, "t d"]:
        if jnp.issubdtype(observations.dtype, jnp.integer):
            return self.embedding[observations]
        return observations.reshape(observations.shape[0], -1) @ self.embedding

    def _read(self, hidden: Float[Array, "*t d"]) -> PolicyOutput:
        read = hidden if self.norm is None else self.norm(hidden)
        logits = read @ self.logits
        return PolicyOutput(
            logits + jnp.broadcast_to(self.logits_bias, logits.shape), read @ self.value + self.value_bias
        )
