"""State soup: in-context skill learning, retrieval and mixing (Pióro et al., 2024, arXiv 2406.08423)."""

from ...lab.catalogue import PAPERS
from ...lab.study import Study
from .claims import CLAIMS
from .configuration import LAPTOP, PAPER, SMOKE, Config
from .figures import FIGURES
from .measure import measure

__all__ = ["Config", "study"]

study = Study(
    name="state-soup",
    paper=PAPERS["state-soup"],
    configurations={"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER},
    seeds={"smoke": 3, "laptop": 3, "paper": 5},
    variants=lambda config: config.variants,
    measure=measure,
    claims=CLAIMS,
    figures=FIGURES,
    substitutes="Instead of the pretrained Mamba-2.8b and its word maps: small models of gated linear attention,"
    " trained here, and random maps from key symbols to value symbols; a character model of the Brown corpus for text."
    " At scale smoke sizes are halved, training is short, and the exact claims alone are judged.",
)
