"""The claims about agents that learn from sampled games."""

from ....lab.study import Claim

CLAIMS: tuple[Claim, ...] = ()
