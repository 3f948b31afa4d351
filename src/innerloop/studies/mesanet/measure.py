"""What each variant of `mesanet` measures."""

from ...lab.cells import Cells
from .benchmarks import measure_mad, measure_regbench, measure_text
from .configuration import Config
from .parity import measure_parity
from .training_free import measure_recall, measure_stability

_ALONE = {
    "recall-error": measure_recall,
    "stability": measure_stability,
    "parity-signed": measure_parity,
    "parity-positive": measure_parity,
}
_COMPARISONS = {"mad": measure_mad, "regbench": measure_regbench, "text": measure_text}


def measure(config: Config, cells: Cells) -> None:
    """Measure one variant and record what its claims read."""
    if cells.variant in _ALONE:
        _ALONE[cells.variant](config, cells)
    else:
        benchmark, layer = cells.variant.split("-", 1)
        _COMPARISONS[benchmark](config, cells, layer)
