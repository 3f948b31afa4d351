"""What `learning-aware` trains by exact gradients, and records."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from ...core.rng import named_key
from ...envs.matrix_games import PRISONERS_DILEMMA
from ...lab.cells import Cells
from ...rl.exact.returns import naive_gradient, stationary_rewards
from ...rl.exact.shaping import shaping_objective
from ...rl.exact.zero_determinant import fit_zero_determinant, zero_determinant
from .configuration import MIXED_SHARES, Config, ExactSettings
from .exact_training import (
    Naive,
    Training,
    against_naive,
    among_each_other,
    look_ahead_rule,
    meeting_rule,
    pool_rule,
    rates_of,
    shaping_rule,
)

RECORDS = 100  # points of a learning curve
STRATEGIES = ((1.0, 1 / 3), (3.0, 0.1), (2.0, 0.2))  # extortion factors and strengths of the identity


def measure_exact(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    groups = {"theory": _theory, "extortion": _extortion, "pure-pool": _pure_pool, "mixed-pool": _mixed_pool}
    groups.get(cells.variant, _look_ahead)(config.exact, cells)


# ---- exact statements, in float64 ----------------------------------------------------------------------------------


def _theory(settings: ExactSettings, cells: Cells) -> None:
    """The zero-determinant identity, and the signs of both gradients at pure defection."""
    with jax.enable_x64(True):
        keys = cells.keys("theory")
        found = jax.jit(jax.vmap(lambda key: {**_identity(key), **_signs(settings, key)}))(keys)
        cells.record({name: np.asarray(value) for name, value in found.items()})


def _identity(key: Key[Array, ""]) -> dict[str, Array]:
    """How far payoffs are from the line that a strategy forces, over random co-players; and with one entry moved."""
    others = jax.random.uniform(named_key(key, "others"), (32, 5), jnp.float64, 0.05, 0.95)

    def error(strategy: Float[Array, "5"], chi: float) -> Array:
        one = jax.vmap(lambda other: stationary_rewards(jax.scipy.special.logit(strategy), other, PRISONERS_DILEMMA))
        own, theirs = one(jax.scipy.special.logit(others)).T
        return jnp.abs(own - chi * theirs).max()

    errors, moved = [], []
    for chi, phi in STRATEGIES:
        strategy = zero_determinant(chi, phi, start=0.5)
        errors.append(error(strategy, chi))
        moved.append(error(strategy.at[4].add(0.05), chi))
    return {"line_error": jnp.stack(errors).max(), "moved_line_error": jnp.stack(moved).min()}


def _signs(settings: ExactSettings, key: Key[Array, ""]) -> dict[str, Array]:
    """How many entries of the gradients at pure defection do not have the sign that the paper states."""
    learners = jax.random.normal(named_key(key, "learners"), (64, 5), jnp.float64)
    defector = jnp.full(5, -34.0)
    slope = 1 / (jax.nn.sigmoid(defector) * jax.nn.sigmoid(-defector))  # from logits to probabilities
    game = (PRISONERS_DILEMMA, settings.discount)

    def shaping(num_steps: int) -> Array:
        def objective(policy: Float[Array, "5"]) -> Array:
            one = lambda other: shaping_objective(  # noqa: E731
                policy, other, *game, num_steps=num_steps, rate=settings.naive_rate
            )
            return jax.vmap(one)(learners).mean()

        return slope * jax.grad(objective)(defector)

    partial = slope * naive_gradient(defector, defector, *game, normalised=True)
    small = 1e-9
    wrong_partial = (partial[jnp.asarray([0, 3, 4])] > small).sum() + (jnp.abs(partial[1:3]) > small).sum()

    def wrong(gradient: Array) -> Array:
        return ((gradient > small) != (jnp.arange(5) == 3)).sum() + wrong_partial

    return {
        "wrong_signs": wrong(shaping(settings.naive_steps)).astype(jnp.float64),
        "wrong_signs_without_learning": wrong(shaping(0)).astype(jnp.float64),
        **{f"partial/{i}": partial[i] for i in range(5)},
        **{f"shaping/{i}": entry for i, entry in enumerate(shaping(settings.naive_steps))},
    }


# ---- trainings -----------------------------------------------------------------------------------------------------


def _train(cells: Cells, rule: Any, policies: Array, *, rate: float, steps: int, name: str, every: int = 0) -> Array:
    """Train groups `[seeds, k, 2, 5]` of policies; the records of a learning curve are means over its steps."""
    training = Training(rule, optax.adamw(rate))
    start = jax.jit(jax.vmap(training.init))(policies)
    every = every or max(1, steps // RECORDS)
    return cells.fit(training, start, steps=steps, name=name, record_every=every).carry.policies


def _draw(cells: Cells, settings: int) -> Array:
    """Pairs of policies with normally distributed logits, alike for all settings: `[seeds, k, 2, 5]`."""
    drawn = jax.vmap(lambda key: jax.random.normal(key, (2, 5)))(cells.keys("init"))
    return jnp.broadcast_to(drawn[:, None], (len(cells.seeds), settings, 2, 5))


def _extortion(settings: ExactSettings, cells: Cells) -> None:
    """Agents who begin near defection, or anywhere, learn to shape naive learners; then two of them meet."""
    rates = rates_of(settings)
    names = (*rates, "anywhere")  # the last one with raw steps
    steps = [*rates.values(), rates["raw"]]
    near = jnp.full((len(cells.seeds), len(rates), 2, 5), settings.start)
    start = jnp.concatenate([near, _draw(cells, 1)], axis=1)
    options: dict[str, Any] = dict(rate=settings.learning_rate, steps=settings.steps)
    naive = Naive(settings.naive_steps, np.asarray(steps))
    aware = _train(cells, shaping_rule(names, naive, settings), start, name="aware", **options)
    alone = Naive(settings.naive_steps, np.asarray([rates["raw"]]))
    rule = shaping_rule(("unaware",), alone, settings, aware=False)
    unaware = _train(cells, rule, start[:, :1], name="unaware", **options)
    policies = jnp.concatenate([aware, unaware], axis=1)
    names = (*names, "unaware")
    _record_exploitation(settings, cells, names, policies, [*steps, rates["raw"]])
    _record_fits(settings, cells, names, policies)

    every = max(1, settings.meeting_steps // 300)
    first = jax.jit(jax.vmap(lambda pairs: among_each_other(pairs, settings.discount).mean(axis=1)))(policies)
    cells.record({f"{name}/start": first[:, k] for k, name in enumerate(names)})
    met = _train(
        cells,
        meeting_rule(names, settings.discount),
        policies,
        rate=settings.learning_rate,
        steps=settings.meeting_steps,
        name="meeting",
        every=every,
    )
    cells.save(policies=policies, met=met)


def _pure_pool(settings: ExactSettings, cells: Cells) -> None:
    """Learning-aware agents among themselves. Claim 4."""
    options: dict[str, Any] = dict(rate=settings.pool_learning_rate, steps=settings.pool_steps)
    policies = _train(cells, meeting_rule(("0",), settings.discount), _draw(cells, 1), name="train", **options)
    _record_pairs(settings, cells, ("0",), policies)


def _mixed_pool(settings: ExactSettings, cells: Cells) -> None:
    """Learning-aware agents among themselves and with naive learners. Claim 4."""
    shares = settings.naive_shares
    naive = Naive(settings.naive_steps, np.full(len(shares), rates_of(settings)["scaled"]))
    options: dict[str, Any] = dict(rate=settings.pool_learning_rate, steps=settings.pool_steps)
    policies = _train(cells, pool_rule(shares, naive, settings), _draw(cells, len(shares)), name="train", **options)
    _record_pairs(settings, cells, tuple(f"{share:g}" for share in shares), policies)


def _look_ahead(settings: ExactSettings, cells: Cells) -> None:
    """LOLA with so many look-aheads on both sides, alone and mixed with the partial gradient. Claim 5."""
    look_aheads = int(cells.variant.removeprefix("lola-"))
    rates = rates_of(settings, look_aheads=look_aheads)
    share = MIXED_SHARES[look_aheads]
    names, shares = tuple(rates), [1.0, 1.0]
    steps = list(rates.values())
    if share < 1:
        names, shares, steps = (*names, *(f"mixed {name}" for name in rates)), [1.0, 1.0, share, share], steps * 2
    rule = look_ahead_rule(names, Naive(look_aheads, np.asarray(steps)), np.asarray(shares), settings.discount)
    options: dict[str, Any] = dict(rate=settings.learning_rate, steps=settings.steps)
    policies = _train(cells, rule, _draw(cells, len(names)), name="train", **options)
    _record_pairs(settings, cells, names, policies)
    usual = list(rates_of(settings).values())
    _record_exploitation(settings, cells, names, policies, usual * (len(names) // 2))


# ---- what is recorded of finished policies -------------------------------------------------------------------------


def _record_pairs(settings: ExactSettings, cells: Cells, names: tuple[str, ...], policies: Array) -> None:
    """What pairs earn from each other after training."""
    earned = jax.jit(jax.vmap(lambda pairs: among_each_other(pairs, settings.discount)))(policies)
    numbers = {f"{name}/pair": earned[:, k].mean(axis=1) for k, name in enumerate(names)}
    cells.record(numbers, step=settings.steps)
    cells.save(policies=policies)


def _record_exploitation(
    settings: ExactSettings, cells: Cells, names: tuple[str, ...], policies: Array, rates: list[float]
) -> None:
    """What finished policies and fresh naive learners earn while the latter learn, both agents of a pair alike."""
    naive = Naive(settings.naive_steps, np.asarray(rates))

    def judge(key: Key[Array, ""], policies: Float[Array, "k 2 5"]) -> Float[Array, "k m 2"]:
        learners = jax.random.normal(key, (settings.evaluation_naive, 5))
        shape = (*policies.shape[:2], *learners.shape)
        earned = against_naive(policies, jnp.broadcast_to(learners, shape), naive, settings.discount)
        return earned.mean(axis=(1, 2))

    curves = np.asarray(eqx.filter_jit(jax.vmap(judge))(cells.keys("evaluation"), policies))
    numbers = {}
    for k, name in enumerate(names):
        for i, who in enumerate(("ego", "naive")):
            numbers[f"{name}/{who}"] = curves[:, k, :, i].mean(axis=1)
            numbers[f"{name}/last_{who}"] = curves[:, k, -1, i]
    cells.record(numbers, step=settings.steps)
    cells.save(shaping_curves=curves)


def _record_fits(settings: ExactSettings, cells: Cells, names: tuple[str, ...], policies: Array) -> None:
    """How near policies are to zero-determinant strategies, compared with random policies."""

    def judge(key: Key[Array, ""], policies: Float[Array, "k 2 5"]) -> Float[Array, "k 4"]:
        chances = jax.random.uniform(key, (settings.random_policies, 5), minval=1e-6, maxval=1 - 1e-6)
        random = jax.vmap(lambda one: fit_zero_determinant(jax.scipy.special.logit(one)).loss)(chances)
        fits = jax.vmap(jax.vmap(fit_zero_determinant))(policies)
        worse = (random[None, None, :] > fits.loss[:, :, None]).astype(jnp.float32).mean(axis=(1, 2))
        return jnp.stack([fits.loss.mean(axis=1), worse, fits.phi.mean(axis=1), (fits.phi * fits.chi).mean(axis=1)], 1)

    found = np.asarray(jax.jit(jax.vmap(judge))(cells.keys("random"), policies))
    numbers = {}
    for k, name in enumerate(names):
        for i, what in enumerate(("fit_loss", "fits_better", "phi", "phi_chi")):
            numbers[f"{name}/{what}"] = found[:, k, i]
    cells.record(numbers, step=settings.steps)
