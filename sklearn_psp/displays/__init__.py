"""Results drawn as images. matplotlib is imported when something is drawn, not before."""

from sklearn_psp.displays._identification import IdentificationDisplay
from sklearn_psp.displays._match import MatchDisplay, ShownMatch
from sklearn_psp.displays._part_weights import PartWeightsDisplay
from sklearn_psp.displays._retrieval import RetrievalDisplay
from sklearn_psp.displays._shown import ShownQuery, ShownResult
from sklearn_psp.displays._verification import VerificationDisplay

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
