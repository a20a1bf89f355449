"""Figures of results. matplotlib is imported when something is drawn, not before."""

from sklearn_psp.displays._identification_display import IdentificationDisplay
from sklearn_psp.displays._match_display import MatchDisplay, ShownMatch
from sklearn_psp.displays._part_weights_display import PartWeightsDisplay
from sklearn_psp.displays._retrieval_display import RetrievalDisplay
from sklearn_psp.displays._shown import ShownQuery, ShownResult
from sklearn_psp.displays._verification_display import VerificationDisplay

__all__ = [
    "IdentificationDisplay",
    "MatchDisplay",
    "PartWeightsDisplay",
    "RetrievalDisplay",
    "ShownMatch",
    "ShownQuery",
    "ShownResult",
    "VerificationDisplay",
]
