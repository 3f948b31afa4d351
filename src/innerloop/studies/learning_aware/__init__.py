"""Cooperation through learning-aware policy gradients (Meulemans et al., 2025, arXiv 2410.18636)."""

from ...lab.catalogue import PAPERS
from ...lab.study import Study
from .claims import CLAIMS
from .configuration import LAPTOP, PAPER, SMOKE, Config, variant_seeds
from .figures import FIGURES
from .measure import measure

__all__ = ["Config", "study"]

study = Study(
    name="learning-aware",
    paper=PAPERS["learning-aware"],
    configurations={"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER},
    seeds={"smoke": 2, "laptop": 64, "paper": 64},
    variants=lambda config: config.variants,
    measure=measure,
    claims=CLAIMS,
    figures=FIGURES,
    variant_seeds=variant_seeds,
)
