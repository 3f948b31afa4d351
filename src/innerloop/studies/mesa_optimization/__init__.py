"""Uncovering mesa-optimization algorithms in Transformers (von Oswald et al., 2023, arXiv 2309.05858)."""

from ...lab.catalogue import PAPERS
from ...lab.study import Study
from .claims import CLAIMS
from .configuration import LAPTOP, PAPER, SMOKE, Config
from .figures import FIGURES
from .measure import measure

__all__ = ["Config", "study"]

study = Study(
    name="mesa-optimization",
    paper=PAPERS["mesa-optimization"],
    configurations={"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER},
    seeds={"smoke": 3, "laptop": 3, "paper": 5},
    variants=lambda config: config.variants,
    measure=measure,
    claims=CLAIMS,
    figures=FIGURES,
)
