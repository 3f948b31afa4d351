"""What a study is: configurations per scale, cells to measure, claims to judge, figures to draw.

A study file ends with `study = Study(...)`; `innerloop new study NAME` writes a working one to start from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.errors import require
from .paper import Paper as Paper

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from .cells import Cells
    from .store import Records

Scale = Literal["smoke", "laptop", "paper"]
SCALES: tuple[Scale, ...] = ("smoke", "laptop", "paper")
Verdict = Literal["holds", "fails", "undecided", "not measured"]
Table = Mapping[str, Any]  # column name -> one-dimensional sequence; all columns have one length


@dataclass(frozen=True)
class Threshold:
    """The line that a claim's quantity must not cross: `at_most(1.02)` or `at_least(0.98)`."""

    direction: Literal["<=", ">="]
    value: float

    def allows(self, quantity: float) -> bool:
        return quantity <= self.value if self.direction == "<=" else quantity >= self.value

    def __str__(self) -> str:
        return f"{self.direction} {self.value:g}"


def at_most(value: float) -> Threshold:
    return Threshold("<=", value)


def at_least(value: float) -> Threshold:
    return Threshold(">=", value)


Measure = Callable[["Records"], np.ndarray]  # one value per seed, from stored records only


@dataclass(frozen=True)
class Control:
    """The same measurement where the claim must NOT hold."""

    statement: str
    measure: Measure


@dataclass(frozen=True)
class Claim:
    """One statement of a paper, one number, one threshold from its spec, one control that must fail.

    - `over_seeds="mean"`: judged by the 95% interval of the mean over seeds (Student's t): the verdict is
      `undecided` when the interval straddles the threshold.
    - `over_seeds="every"`: holds only if every single seed satisfies the threshold; the interval is the range.
    """

    id: str
    statement: str  # what the paper says
    source: str  # where it says so, and the spec's claim number
    paper: str  # the paper's own number or figure
    quantity: str  # what we measure, in words
    measure: Measure
    threshold: Threshold
    control: Control
    over_seeds: Literal["mean", "every"] = "mean"
    scales: tuple[Scale, ...] = SCALES


@dataclass(frozen=True)
class Figure:
    """One plot. `data` computes a table from stored records, `draw` sees nothing but that table.

    The table is stored as CSV beside the SVG, so whatever is in the picture is in the data.
    """

    id: str
    title: str
    caption: str
    paper: str  # which figure of the paper it answers, and what is seen there
    data: Callable[[Records], Table]
    draw: Callable[[Canvas, Table], None]
    size: tuple[float, float] = (6.4, 3.6)
    scales: tuple[Scale, ...] = SCALES


@dataclass(frozen=True)
class Study:
    """One paper as something one can run.

    - `configurations`: one frozen dataclass instance per scale; all of one type, whose fields become flags.
    - `seeds`: how many seeds per scale (seeds are 0, 1, 2, ...).
    - `variants`: the names of the trainings that a configuration asks for; a cell is one (variant, seed).
    - `measure`: does one variant for all seeds at once and records what the claims read.
    - `variant_seeds`: for a configuration and a variant, how many of the run's first seeds it is measured with;
      expensive variants may so have fewer than cheap ones. Claims are judged by the seeds that all of their cells have.
    """

    name: str
    paper: Paper
    configurations: Mapping[Scale, Any]
    seeds: Mapping[Scale, int]
    variants: Callable[[Any], tuple[str, ...]]
    measure: Callable[[Any, Cells], None]
    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...] = ()
    substitutes: str = ""  # data that stand for the paper's own, named beside it
    variant_seeds: Callable[[Any, str], int] | None = None  # default: all seeds of the run

    def __post_init__(self) -> None:
        kinds = {type(configuration) for configuration in self.configurations.values()}
        require(len(kinds) == 1, f"study {self.name}: all scales must share one configuration class, not {kinds}")
        require(
            set(self.configurations) <= set(SCALES) and set(self.seeds) == set(self.configurations),
            f"study {self.name}: configurations and seeds must be given for the same scales among {SCALES}",
        )
        for kind, items in (("claim", self.claims), ("figure", self.figures)):
            names = [item.id for item in items]
            require(len(set(names)) == len(names), f"study {self.name}: {kind} ids must differ: {names}")
        for claim in self.claims:
            require(
                math.isfinite(claim.threshold.value), f"study {self.name}: claim {claim.id} has no finite threshold"
            )

    def seeds_of(self, config: Any, variant: str, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """Those of a run's seeds with which a variant is measured."""
        return seeds if self.variant_seeds is None else seeds[: max(1, self.variant_seeds(config, variant))]
