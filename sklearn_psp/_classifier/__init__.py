"""Classification of images: parts, a trained network where it is asked for, and a linear head."""

from sklearn_psp._classifier._estimator import PSPNetClassifier

__all__ = ["PSPNetClassifier"]
