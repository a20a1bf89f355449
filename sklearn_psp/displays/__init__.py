"""Results drawn as pictures. matplotlib is imported when something is drawn, not before."""

from sklearn_psp.displays._data import ShownQuery, ShownResult
from sklearn_psp.displays._part_weights import PartWeightsDisplay
from sklearn_psp.displays._retrieval import RetrievalDisplay
from sklearn_psp.displays._verification import VerificationDisplay

__all__ = ["PartWeightsDisplay", "RetrievalDisplay", "ShownQuery", "ShownResult", "VerificationDisplay"]
