"""Cooperation through in-context co-player inference (Weis et al., 2026, arXiv 2602.16301)."""

from ...lab.catalogue import PAPERS
from ...lab.study import Study
from .claims import CLAIMS
from .configuration import LAPTOP, PAPER, SMOKE, Config
from .figures import FIGURES
from .measure import measure

__all__ = ["Config", "study"]

study = Study(
    name="coplayer-inference",
    paper=PAPERS["coplayer-inference"],
    configurations={"smoke": SMOKE, "laptop": LAPTOP, "paper": PAPER},
    seeds={"smoke": 3, "laptop": 3, "paper": 10},
    variants=lambda config: config.variants,
    measure=measure,
    claims=CLAIMS,
    figures=FIGURES,
    substitutes="At scale laptop the entries of tabular co-players are drawn from a U-shaped Beta law instead of the"
    " uniform one, against which always defecting is nearly the best one can do; games are shorter, networks smaller,"
    " phases fewer, and the tilt is stronger in return. Agents that infer exactly (Beta posteriors and dynamic"
    " programming) stand beside the learned ones; the extorted agent is such an exact one.",
)
