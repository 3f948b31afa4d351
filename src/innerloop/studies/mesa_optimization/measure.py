"""What `mesa-optimization` trains and records: one function per group of variants."""

from ...lab.cells import Cells
from .configuration import Config
from .constructed import measure_fixed_system, measure_linear, measure_mesa
from .observed import measure_few_shot, measure_observed
from .predictors import measure_predictors


def measure(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    kind, _, detail = cells.variant.partition("-")
    if cells.variant == "predictors":
        measure_predictors(config, cells)
    elif cells.variant == "fixed-system":
        measure_fixed_system(config, cells)
    elif cells.variant == "mesa":
        measure_mesa(config, cells)
    elif cells.variant == "few-shot":
        measure_few_shot(config, cells)
    elif kind == "linear":
        measure_linear(config, cells, int(detail))
    else:
        measure_observed(config, cells, kind, "full" if detail == "shallow" else detail)
