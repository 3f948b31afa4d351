"""What `learning-aware` trains and records: exact and sampled games."""

from ...lab.cells import Cells
from .configuration import EXACT_VARIANTS, Config
from .exact_measure import measure_exact
from .sampled.measure import measure_sampled


def measure(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    (measure_exact if cells.variant in EXACT_VARIANTS else measure_sampled)(config, cells)
