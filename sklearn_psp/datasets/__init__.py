"""Images that need no download, in scikit-learn's conventions."""

from sklearn_psp.datasets._distortions import make_distorted_copies
from sklearn_psp.datasets._photographs import load_photographs

__all__ = ["load_photographs", "make_distorted_copies"]
