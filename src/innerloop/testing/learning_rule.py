"""The public conformance battery of learning rules."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..core.tree import all_finite, inner_product, trainable
from ..learn.rule import AbstractLearningRule
from ..tasks.task import Example
from .battery import run_checks


class _Network(eqx.Module):
    """Two layers, a part that is not trained, and a part that is not an array."""

    first: Float[Array, "hidden inputs"]
    second: Float[Array, "outputs hidden"]
    calls: Array  # an integer: nothing an optimiser may move
    name: str

    def __call__(self, inputs: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        return self.second @ jnp.tanh(self.first @ inputs)


def _make(key: Key[Array, ""]) -> _Network:
    a, b = jax.random.split(key)
    return _Network(
        0.5 * jax.random.normal(a, (6, 4)), 0.5 * jax.random.normal(b, (3, 6)), jnp.asarray(0, jnp.int32), "network"
    )


def _loss(prediction: Float[Array, " outputs"], example: Example) -> Float[Array, ""]:
    return 0.5 * jnp.sum((prediction - example.target) ** 2)


def _batch(key: Key[Array, ""], size: int) -> Example:
    inputs = jax.random.normal(key, (size, 4))
    teacher = jax.random.normal(jax.random.key(7), (3, 4))
    return Example(inputs, jnp.tanh(inputs @ teacher.T))


def check_learning_rule(rule: AbstractLearningRule, *, expected_failures: Mapping[str, str] | None = None) -> None:
    """Raise an `AssertionError` that names everything in which a learning rule breaks the interface.

    Checked on a small two-layer network: structure and dtype of updates and state, sign (updates descend), batches
    of one, determinism, `jit`, `vmap` over networks, finiteness, and that a hundred steps lower the loss.

    ```python
    >>> from innerloop import Backpropagation
    >>> from innerloop.testing import check_learning_rule
    >>> check_learning_rule(Backpropagation())

    ```
    """
    model, key = _make(jax.random.key(0)), jax.random.key(1)
    batch = _batch(jax.random.key(2), 16)
    state = rule.init(key, model)

    def updated(key=key, state=state, model=model, batch=batch):
        return rule.update(key, state, model, batch, _loss)

    def same_layout(a, b, what):
        assert jax.tree.structure(a) == jax.tree.structure(b), f"{what} has another tree structure"
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert jnp.shape(x) == jnp.shape(y), f"{what}: shape {jnp.shape(x)} instead of {jnp.shape(y)}"
            assert jnp.result_type(x) == jnp.result_type(y), f"{what}: {jnp.result_type(x)}, not {jnp.result_type(y)}"

    def structure():
        same_layout(updated()[0], trainable(model), "updates")

    def state_is_stable():
        same_layout(eqx.filter(updated()[1], eqx.is_array), eqx.filter(state, eqx.is_array), "the new state")

    def reports_loss():
        info = updated()[2]
        assert "loss" in info, f"info has {sorted(info)}, but no 'loss'"
        for name, value in info.items():
            assert jnp.shape(value) == (), f"info[{name!r}] has shape {jnp.shape(value)}, not a scalar"
        mean = float(jnp.mean(jax.vmap(lambda example: _loss(model(example.inputs), example))(batch)))
        np.testing.assert_allclose(float(info["loss"]), mean, rtol=1e-4)

    def descends():
        exact = eqx.filter_grad(
            lambda model: jnp.mean(jax.vmap(lambda example: _loss(model(example.inputs), example))(batch))
        )(model)
        product = float(inner_product(updated()[0], exact))
        assert product > 0, f"updates must have the sign of a gradient; their product with it is {product:.3g}"

    def deterministic():
        for a, b in zip(jax.tree.leaves(updated()[0]), jax.tree.leaves(updated()[0]), strict=True):
            np.testing.assert_array_equal(a, b)

    def finite():
        assert bool(all_finite(updated()[0])), "an update is not finite"

    def batch_of_one():
        updates = updated(batch=_batch(jax.random.key(3), 1))[0]
        assert bool(all_finite(updates)), "an update from a batch of one example is not finite"

    def under_jit():
        plain, jitted = updated()[0], eqx.filter_jit(updated)()[0]
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(jitted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    def under_vmap():
        keys = jax.random.split(jax.random.key(4), 3)
        models = eqx.filter_vmap(_make)(keys)
        states = eqx.filter_vmap(rule.init)(keys, models)
        together = eqx.filter_vmap(lambda key, state, model: updated(key, state, model)[0])(keys, states, models)
        one = updated(keys[1], rule.init(keys[1], _make(keys[1])), _make(keys[1]))[0]
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-6)

    def learns():
        @eqx.filter_jit
        def hundred_steps(model, state):
            arrays, static = eqx.partition((model, state), eqx.is_array)

            def advance(arrays, step):
                model, state = eqx.combine(arrays, static)
                batch = _batch(jax.random.fold_in(key, step), 32)
                updates, state, info = rule.update(jax.random.fold_in(key, 1000 + step), state, model, batch, _loss)
                model = eqx.apply_updates(model, jax.tree.map(lambda update: -0.1 * update, updates))
                return eqx.filter((model, state), eqx.is_array), info["loss"]

            return jax.lax.scan(advance, arrays, jnp.arange(100))[1]

        losses = np.asarray(hundred_steps(model, state))
        first, last = losses[:5].mean(), losses[-5:].mean()
        assert last < 0.7 * first, f"a hundred steps took the loss from {first:.3g} to {last:.3g}, not below 70%"

    checks = {
        check.__name__: check
        for check in (
            structure,
            state_is_stable,
            reports_loss,
            descends,
            deterministic,
            finite,
            batch_of_one,
            under_jit,
            under_vmap,
            learns,
        )
    }
    run_checks(type(rule).__name__, checks, expected_failures)
