"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

from .sampled.claims import CLAIMS as SAMPLED_CLAIMS

CLAIMS = (*SAMPLED_CLAIMS,)
