"""What `coplayer-inference` trains and records: one function per kind of variant."""

from ...lab.cells import Cells
from .configuration import Config
from .exact import measure_exact
from .learned import measure_improvement, measure_prediction


def measure(config: Config, cells: Cells) -> None:
    """Do one variant and record what its claims read."""
    kinds = {"exact": measure_exact, "prediction": measure_prediction}
    kinds.get(cells.variant, measure_improvement)(config, cells)
