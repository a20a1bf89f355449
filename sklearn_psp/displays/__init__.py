"""Results drawn as pictures. matplotlib is imported when something is drawn, not before."""

from sklearn_psp.displays._data import ShownQuery, ShownResult
from sklearn_psp.displays._part_weights import PartWeightsDisplay
from sklearn_psp.displays._retrieval import RetrievalDisplay

__all__ = ["PartWeightsDisplay", "RetrievalDisplay", "ShownQuery", "ShownResult"]
