"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

from .exact_claims import CLAIMS as EXACT_CLAIMS
from .sampled.claims import CLAIMS as SAMPLED_CLAIMS

CLAIMS = (*EXACT_CLAIMS, *SAMPLED_CLAIMS)
