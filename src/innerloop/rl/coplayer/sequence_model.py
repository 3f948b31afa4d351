"""A learned world model: a sequence layer over the stream of own observations and actions."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...nn.initialise import truncated_normal
from ...nn.recurrent.gru import GRU
from ...nn.sequence import AbstractSequenceLayer, Form
from ..policy import log_probability
from .world_model import AbstractWorldModel


class StreamLosses(NamedTuple):
    """The losses at each round of one player's stream."""

    observation: Float[Array, "t"]  # nats for what followed each action
    action: Float[Array, "t"]  # nats for each own action
    reward: Float[Array, "t"]  # squared errors of the rewards, which come with the observations


class SequenceModel(AbstractWorldModel):
    r"""Predicts one player's stream $o_1, a_1, o_2, a_2, \ldots$ with a sequence layer and one head per modality.

    Each token is a row of its modality's embedding. The layer's output goes through Swish; after an observation it
    predicts the own action and the reward that came with the observation, after an action the next observation.
    Rewards are predicted, not read: in a matrix game the observation says it all.

    A vector that tells who the co-player is may be given (`identity_size`): it is added to every observation token
    through a linear map of its own, so that it is there at every step.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> model = il.rl.SequenceModel.random(5, 2, width=8, key=jax.random.key(0))
    >>> losses = model.losses(jnp.asarray([0, 1, 3]), jnp.asarray([0, 1]), jnp.asarray([1.0, 2.0]))
    >>> losses.action.shape
    (2,)

    ```

    **Reference:** Weis et al. (2026), arXiv 2602.16301 (embeddings of size 32, a GRU of size 128).
    """

    observation_embedding: Float[Array, "o d"]
    action_embedding: Float[Array, "a d"]
    identity_embedding: Float[Array, "i d"] | None
    layer: AbstractSequenceLayer
    observation_head: Float[Array, "e o"]
    observation_bias: Float[Array, "o"]
    action_head: Float[Array, "e a"]
    action_bias: Float[Array, "a"]
    reward_head: Float[Array, "e"]
    reward_bias: Float[Array, ""]
    form: Form = eqx.field(static=True)

    @classmethod
    def random(
        cls,
        num_observations: int,
        num_actions: int,
        make_layer: Callable[[Key[Array, ""]], AbstractSequenceLayer] | None = None,
        *,
        width: int = 32,
        identity_size: int = 0,
        form: Form = "chunk",
        key: Key[Array, ""],
    ) -> "SequenceModel":
        """**Arguments:**

        - `num_observations`, `num_actions`: how many of each there are.
        - `make_layer`: draws a sequence layer from a key; by default a GRU with `width` neurons.
        - `width`: of an embedding, where `make_layer` is not given.
        - `identity_size`: the size of a vector that tells who the co-player is; 0 for none.
        - `form`: how `losses` runs the layer.
        - `key`: a random key.
        """
        sizes = dict(num_observations=num_observations, num_actions=num_actions, width=width)
        for name, size in sizes.items():
            require(size >= 1, f"{name} must be at least 1, not {size}")
        require(identity_size >= 0, f"identity_size must not be negative, but is {identity_size}")
        keys = jax.random.split(key, 7)
        layer = GRU(width, width, key=keys[0]) if make_layer is None else make_layer(keys[0])
        width = layer.width
        out = jax.eval_shape(lambda xs: layer(xs)[0], jax.ShapeDtypeStruct((1, width), jnp.zeros(()).dtype)).shape[-1]
        return cls(
            observation_embedding=truncated_normal(keys[1], (num_observations, width), fan_in=1),
            action_embedding=truncated_normal(keys[2], (num_actions, width), fan_in=1),
            identity_embedding=truncated_normal(keys[3], (identity_size, width), fan_in=identity_size)
            if identity_size
            else None,
            layer=layer,
            observation_head=truncated_normal(keys[4], (out, num_observations), fan_in=out),
            observation_bias=jnp.zeros(num_observations),
            action_head=truncated_normal(keys[5], (out, num_actions), fan_in=out),
            action_bias=jnp.zeros(num_actions),
            reward_head=truncated_normal(keys[6], (out, 1), fan_in=out)[:, 0],
            reward_bias=jnp.zeros(()),
            form=form,
        )

    def init_memory(self) -> PyTree:
        """The state of the layer before the first token."""
        return self.layer.init_state()

    def see(
        self, memory: PyTree, observation: Int[Array, ""], identity: Float[Array, "i"] | None = None
    ) -> tuple[PyTree, Float[Array, "a"], Float[Array, ""]]:
        """An observation."""
        memory, hidden = self.layer.step(memory, self._observed(observation, identity))
        read = jax.nn.swish(hidden)
        return memory, read @ self.action_head + self.action_bias, read @ self.reward_head + self.reward_bias

    def do(self, memory: PyTree, action: Int[Array, ""]) -> tuple[PyTree, Float[Array, "o"]]:
        """An own action."""
        memory, hidden = self.layer.step(memory, self.action_embedding[action])
        return memory, jax.nn.swish(hidden) @ self.observation_head + self.observation_bias

    def losses(
        self,
        observations: Int[Array, "s"],
        actions: Int[Array, "t"],
        rewards: Float[Array, "t"],
        identity: Float[Array, "i"] | None = None,
    ) -> StreamLosses:
        """What the model says about a stream that has happened.

        **Arguments:**

        - `observations`: one more than there are actions: the last one follows the last action.
        - `actions`: what was done at each of the others.
        - `rewards`: what each action earned.
        - `identity`: who the co-player was, where the model reads that.
        """
        length = actions.shape[0]
        require(observations.shape == (length + 1,), f"{length} actions have {length + 1} observations around them")
        seen = self._observed(observations[:-1], identity)
        tokens = jnp.stack([seen, self.action_embedding[actions]], axis=1).reshape(2 * length, -1)
        last = self._observed(observations[-1:], identity)
        hidden, _ = self.layer(jnp.concatenate([tokens, last]), form=self.form)
        read = jax.nn.swish(hidden)
        after_observation, after_action = read[:-1].reshape(length, 2, -1)[:, 0], read[1::2]
        acts = after_observation @ self.action_head + self.action_bias[None]
        sees = after_action @ self.observation_head + self.observation_bias[None]
        earned = read[2::2] @ self.reward_head + self.reward_bias
        return StreamLosses(
            -log_probability(sees, observations[1:]), -log_probability(acts, actions), (earned - rewards) ** 2
        )

    def _observed(self, observation: Int[Array, "*t"], identity: Float[Array, "i"] | None) -> Float[Array, "*t d"]:
        token = self.observation_embedding[observation]
        if self.identity_embedding is None or identity is None:
            return token
        known = identity @ self.identity_embedding
        return token + jnp.broadcast_to(known, token.shape)


class IdentifiedModel(AbstractWorldModel):
    """A `SequenceModel` that is told in each episode who the co-player is."""

    model: SequenceModel
    identity: Float[Array, "i"]

    def init_memory(self) -> PyTree:
        """That of the model."""
        return self.model.init_memory()

    def see(self, memory: PyTree, observation: Int[Array, ""]) -> tuple[PyTree, Float[Array, "a"], Float[Array, ""]]:
        """An observation, and who it is that one plays with."""
        return self.model.see(memory, observation, self.identity)

    def do(self, memory: PyTree, action: Int[Array, ""]) -> tuple[PyTree, Float[Array, "o"]]:
        """An own action."""
        return self.model.do(memory, action)
