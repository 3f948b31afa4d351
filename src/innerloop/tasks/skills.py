"""Key-value skills: random maps shown as pairs of tokens, to be learned in context and never from the weights."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from ..core.errors import UnknownNameError, require
from .task import Example, Split
from .tokens import IGNORE, AbstractTokenTask, example_key

CONTEXT_KINDS = ("complementary", "overlapping")


class SkillContexts(NamedTuple):
    """One skill, and two contexts that show parts of it.

    - `skill`: the value token of every key.
    - `first`, `second`: the contexts, keys and values alternating.
    - `first_seen`, `second_seen`: which keys each of them shows.
    """

    skill: Int[Array, "keys"]
    first: Int[Array, "t"]
    second: Int[Array, "t"]
    first_seen: Bool[Array, "keys"]
    second_seen: Bool[Array, "keys"]


class KeyValueSkills(AbstractTokenTask):
    r"""A skill is a random map $f$ from key tokens to value tokens, shown as $x_1 f(x_1) x_2 f(x_2) \dots$

    Keys are the tokens $0, \dots, K - 1$, drawn with replacement; values the tokens $K, \dots, K + V - 1$. At each
    key its value is asked for. There are $V^K$ skills, so nothing but the context tells them apart.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> task = il.KeyValueSkills(num_keys=4, num_values=4, num_pairs=3)
    >>> tokens, target = task.sample(jax.random.key(0))
    >>> bool((tokens[1::2] == target[::2]).all()), target[1::2].tolist()
    (True, [-1, -1, -1])

    ```

    **Arguments:**

    - `num_keys`, `num_values`: $K$ and $V$.
    - `num_pairs`: how many pairs one example shows.
    - `noise`: the probability that a shown value is a wrong one; the target is always the right one.
    - `change`: the probability that a key has a new value when it is shown; the target is the new one. The order of
        pairs matters then: what was shown last counts.

    **Reference:** Pióro et al. (2024), arXiv 2406.08423, which uses natural word maps and a pretrained model; this
    family of maps stands for them where models are trained from nothing.

    **Errors:** `ValueError` for sizes or a noise out of range.
    """

    num_keys: int = eqx.field(static=True, default=16)
    num_values: int = eqx.field(static=True, default=16)
    num_pairs: int = eqx.field(static=True, default=32)
    noise: float | Float[Array, ""] = 0.0
    change: float | Float[Array, ""] = 0.0
    vocabulary: int = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.vocabulary = self.num_keys + self.num_values

    def __check_init__(self):
        for name, least in dict(num_keys=1, num_values=2, num_pairs=1).items():
            require(getattr(self, name) >= least, f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("noise", "change"):
            value = getattr(self, name)
            require(not isinstance(value, float) or 0 <= value <= 1, f"{name} must lie in [0, 1], not {value}")

    def skill(self, key: Key[Array, ""]) -> Int[Array, "keys"]:
        """A random skill: the value token of every key."""
        return self.num_keys + jax.random.randint(key, (self.num_keys,), 0, self.num_values)

    def show(self, key: Key[Array, ""], keys: Int[Array, "n"], values: Int[Array, "n"]) -> Int[Array, "t"]:
        """The tokens that show `keys` and their `values`; with `noise`, some of the values are wrong."""
        if not (isinstance(self.noise, float) and self.noise == 0):
            which, other = jax.random.split(key)
            step = jax.random.randint(other, keys.shape, 1, self.num_values)
            wrong = self.num_keys + (values - self.num_keys + step) % self.num_values
            values = jnp.where(jax.random.uniform(which, keys.shape) < self.noise, wrong, values)
        return jnp.stack([keys, values], axis=1).reshape(2 * keys.shape[0])

    def random_keys(self, key: Key[Array, ""], count: int) -> Int[Array, "n"]:
        """Keys drawn uniformly, with replacement."""
        return jax.random.randint(key, (count,), 0, self.num_keys)

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One skill, shown by random pairs; the values are asked for at the keys."""
        skill_key, pair_key, noise_key, change_key = jax.random.split(example_key(key, split), 4)
        keys = self.random_keys(pair_key, self.num_pairs)
        values = self._changing(change_key, self.skill(skill_key), keys)
        asked = jnp.stack([values, jnp.full_like(values, IGNORE)], axis=1)
        return Example(self.show(noise_key, keys, values), asked.reshape(2 * self.num_pairs))

    def _changing(self, key: Key[Array, ""], skill: Int[Array, "keys"], keys: Int[Array, "n"]) -> Int[Array, "n"]:
        """The value of each shown key: that of the skill, or the one it was last changed to."""
        values = skill[keys]
        if isinstance(self.change, float) and self.change == 0:
            return values
        which, new = jax.random.split(key)
        count = keys.shape[0]
        changed = jax.random.uniform(which, (count,)) < self.change
        drawn = self.num_keys + jax.random.randint(new, (count,), 0, self.num_values)
        # The last place, up to its own, at which each key was changed; -1 where it was not.
        place = jnp.arange(count)
        counts = (keys[None] == keys[:, None]) & changed[None] & (place[None] <= place[:, None])
        last = jnp.max(jnp.where(counts, place[None], -1), axis=1)
        return jnp.where(last >= 0, drawn[last], values)

    def contexts(
        self, key: Key[Array, ""], kind: str = "complementary", *, num_pairs: int | None = None
    ) -> SkillContexts:
        """A random skill and two contexts of it.

        **Arguments:**

        - `kind`: `"complementary"`: no key is in both contexts, and none twice in one; `"overlapping"`: both show
          keys drawn with replacement.
        - `num_pairs`: how many pairs each context shows; by default half of the keys.

        **Errors:** `UnknownNameError` for another kind, `ValueError` for more pairs than there are keys.
        """
        if kind not in CONTEXT_KINDS:
            raise UnknownNameError("kind of contexts", kind, CONTEXT_KINDS)
        count = self.num_keys // 2 if num_pairs is None else num_pairs
        require(count >= 1, f"num_pairs must be at least 1, not {count}")
        skill_key, pair_key, first_key, second_key = jax.random.split(key, 4)
        skill = self.skill(skill_key)
        if kind == "complementary":
            require(
                2 * count <= self.num_keys,
                f"complementary contexts of {count} pairs each need {2 * count} keys, but there are {self.num_keys}",
            )
            keys = jax.random.permutation(pair_key, self.num_keys)[: 2 * count]
        else:
            keys = self.random_keys(pair_key, 2 * count)
        first, second = keys[:count], keys[count:]
        nothing = jnp.zeros((self.num_keys,), bool)
        return SkillContexts(
            skill,
            self.show(first_key, first, skill[first]),
            self.show(second_key, second, skill[second]),
            nothing.at[first].set(True),
            nothing.at[second].set(True),
        )

    def bayes_losses(self) -> np.ndarray:
        r"""The least possible expected cross-entropy at each pair, without noise and change.

        $$\ell_i = \left(1 - \tfrac1K\right)^i \ln V, \quad i = 0, \dots, n - 1$$

        A key that has been shown is certain, any other is a uniform guess.
        """
        return math.log(self.num_values) * (1 - 1 / self.num_keys) ** np.arange(self.num_pairs)

    def bayes_loss(self) -> float:
        """The mean of `bayes_losses`: what a perfect learner's `loss` is on average."""
        return float(self.bayes_losses().mean())
