"""MesaNet: sequence modelling by locally optimal test-time training (von Oswald et al., 2025, arXiv 2506.05233)."""

from ...lab.catalogue import PAPERS
from ...lab.study import Study
from .claims import CLAIMS
from .configuration import LAPTOP, PAPER, SMOKE, Config
from .figures import FIGURES
from .measure import measure

__all__ = ["Config", "study"]

study = Study(
    name="mesanet",
    paper=PAPERS["mesanet"],
    configurations={"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER},
    seeds={"smoke": 3, "laptop": 3, "paper": 3},
    variants=lambda config: config.variants,
    measure=measure,
    claims=CLAIMS,
    figures=FIGURES,
    substitutes="SlimPajama: characters of the Brown corpus (or of the King James Bible), and models of 0.1 million"
    " parameters instead of 140 to 940 million",
)
