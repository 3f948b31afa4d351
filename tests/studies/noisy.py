"""Two variants with noise from keys in every step, evaluations and arrays: what an interrupted run must repeat."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from innerloop.core.errors import require
from innerloop.lab.study import Claim, Control, Paper, Study, at_most


@dataclass(frozen=True)
class Config:
    steps: int = 60
    width: int = 3
    chunk_seconds: float = 0.0  # 0: every window of records is a chunk of its own, with a checkpoint if asked for

    def __post_init__(self):
        require(self.steps >= 0, f"steps must not be negative, not {self.steps}")
        require(self.width > 0, f"width must be positive, not {self.width}")


def measure(config, cells):
    decay = 0.5 if cells.variant == "contracting" else 1.0

    def step(key, carry):
        carry = decay * carry + jax.random.normal(key, carry.shape)
        return carry, {
            "norm": jnp.linalg.norm(carry),
            "largest": jnp.max(carry),
            "smallest": jnp.min(carry),
            "spread": jnp.std(carry),
            "mean": jnp.mean(carry),
        }

    def evaluate(key, carry):
        return {"overlap": jnp.vdot(carry, jax.random.normal(key, carry.shape))}

    start = jax.vmap(lambda key: jax.random.normal(key, (config.width,)))(cells.keys("init"))
    result = cells.fit(
        step,
        start,
        steps=config.steps,
        record_every=5,
        evaluate=evaluate,
        evaluate_every=20,
        chunk_seconds=config.chunk_seconds,
    )
    cells.record({"size": jnp.linalg.norm(result.carry, axis=1)})
    cells.save(carry=result.carry)


def size_of(variant):
    return lambda records: records.final(variant, "size")


study = Study(
    name="noisy",
    paper=Paper(study="noisy", title="Noise", authors=("A. Author",), year=2026, arxiv="0000.00000"),
    configurations={"smoke": Config()},
    seeds={"smoke": 2},
    variants=lambda config: ("contracting", "walking"),
    measure=measure,
    claims=(
        Claim(
            id="1",
            statement="a contraction stays small",
            source="here",
            paper="small",
            quantity="the norm of the last state",
            measure=size_of("contracting"),
            threshold=at_most(6.0),
            control=Control("a random walk", size_of("walking")),
            over_seeds="every",
        ),
    ),
)
