"""What can be chosen about agents that learn from sampled games, and what each scale chooses."""

from dataclasses import dataclass

from ...core.errors import require

VARIANTS: tuple[str, ...] = ()
# What each scale measures of them.
SMOKE_VARIANTS: tuple[str, ...] = ()
LAPTOP_VARIANTS: tuple[str, ...] = VARIANTS
PAPER_VARIANTS: tuple[str, ...] = VARIANTS


@dataclass(frozen=True)
class SampledSettings:
    """Trainings from sampled games."""

    seeds: int = 5
    """How many of the run's seeds they are measured with."""

    def __post_init__(self):
        require(self.seeds >= 1, f"--sampled.seeds must be at least 1, not {self.seeds}")


SMOKE = SampledSettings(seeds=2)
LAPTOP = SampledSettings()
PAPER = SampledSettings()
