"""Gated recurrent neural networks discover attention (Zucchet et al., 2023, arXiv 2309.01775)."""

from ...lab.catalogue import PAPERS
from ...lab.study import Study
from .claims import CLAIMS
from .configuration import LAPTOP, PAPER, SMOKE, Config, variants
from .figures import FIGURES
from .measure import measure

__all__ = ["Config", "study"]

study = Study(
    name="rnn-attention",
    paper=PAPERS["rnn-attention"],
    configurations={"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER},
    seeds={"smoke": 3, "laptop": 5, "paper": 5},
    variants=variants,
    measure=measure,
    claims=CLAIMS,
    figures=FIGURES,
)
