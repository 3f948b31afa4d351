"""Random dynamical systems: sequences that can be predicted only by one who learns the system on the way."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ..core.errors import UnknownNameError, require
from ..core.rng import named_key
from .task import AbstractTask, Example, Split, split_key

TRANSITIONS = ("orthogonal", "contracting", "fixed")
TOKENS = ("standard", "constructed")


def random_transition(key: Key[Array, ""], size: int, law: str = "orthogonal") -> Float[Array, "n n"]:
    r"""A random square matrix that does not explode when it is applied again and again.

    - `"orthogonal"`: uniform over all orthogonal matrices (Haar), by the QR decomposition of a normal matrix
        with the signs of $R$ moved into $Q$, without which it is not uniform.
    - `"contracting"`: $Q B Q^\top$ with Haar $Q$ and a block-diagonal $B$ of plane rotations, each times a
        modulus drawn from $U(0.3, 0.9)$: the moduli of the eigenvalues. In an odd dimension one block is a
        number of random sign.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> matrix = il.random_transition(jax.random.key(0), 3)
    >>> bool(jnp.allclose(matrix @ matrix.T, jnp.eye(3), atol=1e-6))
    True

    ```

    **Reference:** Mezzadri (2007), arXiv math-ph/0609050, on the signs; von Oswald et al. (2023),
    arXiv 2309.05858, on the laws.

    **Errors:** `ValueError` for a size below one, `UnknownNameError` for another law.
    """
    require(size >= 1, f"size must be at least 1, not {size}")
    if law == "orthogonal":
        return jax.random.orthogonal(key, size)
    if law != "contracting":
        raise UnknownNameError("law of transitions", law, TRANSITIONS[:2])
    basis_key, modulus_key, angle_key = jax.random.split(key, 3)
    basis = jax.random.orthogonal(basis_key, size)
    pairs = (size + 1) // 2
    moduli = jax.random.uniform(modulus_key, (pairs,), minval=0.3, maxval=0.9)
    angles = jax.random.uniform(angle_key, (pairs,), minval=-jnp.pi, maxval=jnp.pi)
    if size % 2:  # the last block is cut to one number: its sign is all that is left of an angle
        angles = angles.at[-1].set(jnp.where(angles[-1] > 0, jnp.pi, 0.0).astype(angles.dtype))
    first, cosine, sine = 2 * jnp.arange(pairs), moduli * jnp.cos(angles), moduli * jnp.sin(angles)
    blocks = jnp.zeros((2 * pairs, 2 * pairs), basis.dtype)
    blocks = blocks.at[first, first].set(cosine).at[first + 1, first + 1].set(cosine)
    blocks = blocks.at[first, first + 1].set(-sine).at[first + 1, first].set(sine)
    return basis @ blocks[:size, :size] @ basis.T


def constructed_tokens(
    observations: Float[Array, "t n"], *, start: Float[Array, "n n"] | None = None
) -> Float[Array, "t 4*n"]:
    r"""Tokens in which neighbouring observations are bound together: $e_t = [\Phi_0 s_t, s_t, s_t, s_{t-1}]$.

    The first block is where the prediction grows, the second a working copy that layers may transform. There is
    no observation before the first: $s_0 = 0$.

    ```python
    >>> import jax.numpy as jnp
    >>> import innerloop as il
    >>> il.constructed_tokens(jnp.asarray([[1.0], [2.0]])).tolist()
    [[0.0, 1.0, 1.0, 0.0], [0.0, 2.0, 2.0, 1.0]]

    ```

    **Arguments:**

    - `observations`: $s_1, \dots, s_T$.
    - `start`: $\Phi_0$, by default zero.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 (token construction).
    """
    prediction = jnp.zeros_like(observations) if start is None else observations @ start.T
    before = jnp.concatenate([jnp.zeros_like(observations[:1]), observations[:-1]])
    return jnp.concatenate([prediction, observations, observations, before], axis=-1)


class LinearSystem(AbstractTask):
    r"""Predict the next observation of a random dynamical system.

    $$h_{t+1} = W f(h_t) + \varepsilon_t, \qquad s_t = C h_t + \epsilon_t, \qquad h_1 \sim \mathcal N(0, I)$$

    $W$ is drawn anew for every sequence, so a prediction must be learned from the context. `inputs` are $T$
    tokens made of $s_1, \dots, s_T$, and `target[t]` is the observation after token $t$.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> task = il.LinearSystem(5, length=20)
    >>> example = task.sample(jax.random.key(0), "test")
    >>> example.inputs.shape, example.target.shape
    ((20, 5), (20, 5))

    ```

    **Arguments:**

    - `state_size`: the size of $h$.
    - `observed_size`: the size of $s$, with $C_{ij} \sim \mathcal N(0, v)$ drawn for every sequence; `None` is
        $C = I$.
    - `length`: $T$.
    - `process_noise`, `observation_noise`: the variances of $\varepsilon$ and $\epsilon$.
    - `observation_variance`: $v$. The paper's $\mathcal N(0, 0.5)$ is taken as a variance.
    - `transition`: the law of $W$: `"orthogonal"`, `"contracting"` (see `random_transition`) or `"fixed"`, one
        orthogonal matrix for all sequences: the control in which there is nothing to learn in context.
    - `state_limit`: the largest magnitude of an entry of $h$; 2 in the paper with contracting transitions.
    - `network_size`: the hidden size of $f(h) = B \, \mathrm{gelu}(A h)$; `None` is the linear system, $f(h) = h$.
    - `network_gain`: the standard deviation of the entries of $A$ and $B$, times the root of their fan-in.
    - `family`: the seed of what all sequences share: $A$, $B$, and a fixed $W$.
    - `tokens`: `"standard"`, $e_t = s_t$, or `"constructed"`, see `constructed_tokens`.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858. The noise levels of its main runs and the size of
    the network are not stated; the defaults here are ours.

    **Errors:** `ValueError` for sizes or variances out of range, `UnknownNameError` for other tokens or laws.
    """

    state_size: int = eqx.field(static=True)
    observed_size: int | None = eqx.field(static=True, default=None)
    length: int = eqx.field(static=True, default=20, kw_only=True)
    process_noise: float | Float[Array, ""] = eqx.field(default=0.01, kw_only=True)
    observation_noise: float | Float[Array, ""] = eqx.field(default=0.0, kw_only=True)
    observation_variance: float | Float[Array, ""] = eqx.field(default=0.5, kw_only=True)
    transition: str = eqx.field(static=True, default="orthogonal", kw_only=True)
    state_limit: float | None = eqx.field(static=True, default=None, kw_only=True)
    network_size: int | None = eqx.field(static=True, default=None, kw_only=True)
    network_gain: float | Float[Array, ""] = eqx.field(default=1.1, kw_only=True)
    family: int | Int[Array, ""] = eqx.field(default=0, kw_only=True)
    tokens: str = eqx.field(static=True, default="standard", kw_only=True)

    def __check_init__(self):
        for name in ("state_size", "observed_size", "length", "network_size"):
            size = getattr(self, name)
            require(size is None or size >= 1, f"{name} must be at least 1, not {size}")
        for name in ("process_noise", "observation_noise", "observation_variance", "network_gain"):
            value = getattr(self, name)
            require(not isinstance(value, float) or value >= 0, f"{name} must not be negative, but is {value}")
        if self.state_limit is not None:
            require(self.state_limit > 0, f"state_limit must be above 0, not {self.state_limit}")
        if self.transition not in TRANSITIONS:
            raise UnknownNameError("law of transitions", self.transition, TRANSITIONS)
        if self.tokens not in TOKENS:
            raise UnknownNameError("tokens", self.tokens, TOKENS)

    @property
    def size(self) -> int:
        """The size of an observation."""
        return self.state_size if self.observed_size is None else self.observed_size

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One sequence as tokens, and the same sequence one observation later."""
        observations = self.observe(split_key(key, split))
        tokens = observations[:-1] if self.tokens == "standard" else constructed_tokens(observations[:-1])
        return Example(tokens, observations[1:])

    def observe(self, key: Key[Array, ""]) -> Float[Array, "s n"]:
        r"""The observations $s_1, \dots, s_{T+1}$ of one system."""
        return _observe(self, key)

    def _observe(self, key):
        transition_key, map_key, start_key, process_key, noise_key = jax.random.split(key, 5)
        transition = self._transition(transition_key)
        start = jax.random.normal(start_key, (self.state_size,))
        noise = jax.random.normal(process_key, (self.length, self.state_size))
        noise = jnp.sqrt(jnp.asarray(self.process_noise, noise.dtype)) * noise
        network = self._network()

        def advance(state, noise):
            after = transition @ network(state) + noise
            if self.state_limit is not None:
                after = jnp.clip(after, -self.state_limit, self.state_limit)
            return after, after

        _, states = jax.lax.scan(advance, start, noise)
        observations = jnp.concatenate([start[None], states])
        if self.observed_size is not None:
            scale = jnp.sqrt(jnp.asarray(self.observation_variance, start.dtype))
            observations = observations @ (scale * jax.random.normal(map_key, (self.state_size, self.observed_size)))
        if isinstance(self.observation_noise, float) and self.observation_noise == 0.0:
            return observations
        scale = jnp.sqrt(jnp.asarray(self.observation_noise, start.dtype))
        return observations + scale * jax.random.normal(noise_key, observations.shape)

    def loss(self, prediction: Float[Array, "t n"], example: Example) -> Float[Array, ""]:
        r"""$\tfrac1{2T} \sum_t \lVert s_{t+1} - \hat s_{t+1} \rVert^2$: summed over coordinates, averaged over time."""
        return jnp.mean(self.losses(prediction, example))

    def losses(self, prediction: Float[Array, "t n"], example: Example) -> Float[Array, "t"]:
        """The loss at each position."""
        return 0.5 * jnp.sum((prediction - example.target) ** 2, axis=-1)

    def metrics(self, prediction: Float[Array, "t n"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss`, and `last_loss` at the last position alone, where most is known."""
        losses = self.losses(prediction, example)
        return {"loss": jnp.mean(losses), "last_loss": losses[-1]}

    def _transition(self, key):
        if self.transition == "fixed":
            return random_transition(named_key(self.family, "transition"), self.state_size)
        return random_transition(key, self.state_size, self.transition)

    def _network(self):
        if self.network_size is None:
            return lambda state: state
        sizes = (self.network_size, self.state_size)
        inner, outer = (
            self.network_gain * fan_in**-0.5 * jax.random.normal(named_key(self.family, name), shape)
            for name, shape, fan_in in (("inner", sizes, sizes[1]), ("outer", sizes[::-1], sizes[0]))
        )
        return lambda state: outer @ jax.nn.gelu(inner @ state)


# Compiled as a whole: a scan outside of any compiled function would be compiled anew at every call.
_observe = eqx.filter_jit(LinearSystem._observe)


class RegressionSequence(AbstractTask):
    r"""Few-shot regression as a sequence of observations: $x_1, y_1, x_2, y_2, \dots$ with $y_i = W x_i$.

    $x \sim \mathcal N(0, I)$ and $W$ has the law of the transitions that a model was trained on, but a sequence
    of pairs is no system: after $y_i$ comes an $x_{i+1}$ that nobody can predict. `inputs` are all pairs
    `[i 2 n]`, `target` the labels. What a model does with them is up to it; see `PromptedRegression`.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> example = il.RegressionSequence(5, num_pairs=20).sample(jax.random.key(0))
    >>> example.inputs.shape, example.target.shape
    ((20, 2, 5), (20, 5))

    ```

    **Arguments:**

    - `size`: of $x$ and $y$.
    - `num_pairs`: how many pairs, over all tasks.
    - `num_tasks`: how many different $W$ follow each other in one sequence.
    - `transition`: the law of $W$, see `random_transition`.

    **Reference:** von Oswald et al. (2023), arXiv 2309.05858 (in-context learning of a trained model).

    **Errors:** `ValueError` for sizes out of range or pairs that do not fit to the tasks, `UnknownNameError` for
    another law.
    """

    size: int = eqx.field(static=True)
    num_pairs: int = eqx.field(static=True, default=20)
    num_tasks: int = eqx.field(static=True, default=1)
    transition: str = eqx.field(static=True, default="orthogonal")

    def __check_init__(self):
        for name in ("size", "num_pairs", "num_tasks"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        require(
            self.num_pairs % self.num_tasks == 0,
            f"{self.num_pairs} pairs cannot be shared out evenly among {self.num_tasks} tasks",
        )
        if self.transition not in TRANSITIONS[:2]:
            raise UnknownNameError("law of transitions", self.transition, TRANSITIONS[:2])

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """The pairs of one sequence, and their labels."""
        input_key, weight_key = jax.random.split(split_key(key, split))
        x = jax.random.normal(input_key, (self.num_tasks, self.num_pairs // self.num_tasks, self.size))
        weights = jax.vmap(lambda one: random_transition(one, self.size, self.transition))(
            jax.random.split(weight_key, self.num_tasks)
        )
        y = jnp.einsum("kij,knj->kni", weights, x)
        pairs = jnp.stack([x, y], axis=2).reshape(self.num_pairs, 2, self.size)
        return Example(pairs, pairs[:, 1])

    def loss(self, prediction: Float[Array, "i n"], example: Example) -> Float[Array, ""]:
        r"""$\tfrac12 \lVert \hat y_i - y_i \rVert^2$, averaged over the pairs."""
        return jnp.mean(self.losses(prediction, example))

    def losses(self, prediction: Float[Array, "i n"], example: Example) -> Float[Array, "i"]:
        """The loss of each pair."""
        return 0.5 * jnp.sum((prediction - example.target) ** 2, axis=-1)

    def metrics(self, prediction: Float[Array, "i n"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss` and `last_loss`, of the last pair alone."""
        losses = self.losses(prediction, example)
        return {"loss": jnp.mean(losses), "last_loss": losses[-1]}
