"""One variant in which a seed becomes NaN at a known step, one that raises, one that is fine."""

import os
from dataclasses import dataclass

import jax.numpy as jnp

from innerloop.lab.study import Claim, Control, Paper, Study, at_least

FAILING_SEED, FAILING_STEP = 1, 12


@dataclass(frozen=True)
class Config:
    variants: tuple[str, ...] = ("nan", "raises", "fine")
    all_seeds: bool = False


def measure(config, cells):
    if cells.variant == "raises" and "INNERLOOP_TEST_MENDED" not in os.environ:
        raise RuntimeError("this variant is broken\nand says so in two lines")

    def step(key, carry):
        seed, count = carry
        fails = (seed == FAILING_SEED) | config.all_seeds
        bad = fails & (count == FAILING_STEP) & (cells.variant == "nan")
        return (seed, count + 1), {"loss": jnp.where(bad, jnp.nan, 1.0 / (count + 1).astype(jnp.float32))}

    seeds = jnp.asarray(cells.seeds, jnp.int32)
    result = cells.fit(step, (seeds, jnp.zeros_like(seeds)), steps=30, record_every=3, chunk_seconds=0.0)
    cells.record({"count": result.carry[1]})


def count_of(variant):
    return lambda records: records.final(variant, "count")


def claim(variant):
    return Claim(
        id=variant,
        statement=f"{variant} counts to thirty",
        source="here",
        paper="thirty",
        quantity="the count",
        measure=count_of(variant),
        threshold=at_least(30.0),
        control=Control("one less", lambda records: count_of(variant)(records) - 1),
        over_seeds="every",
    )


study = Study(
    name="failing",
    paper=Paper(study="failing", title="Failures", authors=("A. Author",), year=2026, arxiv="0000.00000"),
    configurations={"smoke": Config()},
    seeds={"smoke": 3},
    variants=lambda config: config.variants,
    measure=measure,
    claims=tuple(map(claim, ("nan", "raises", "fine"))),
)
