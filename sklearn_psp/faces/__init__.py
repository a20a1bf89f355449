"""Faces: found, brought upright and cut out. Importing this loads neither dlib nor torch."""

from sklearn_psp.faces._aligner import FaceAligner

__all__ = ["FaceAligner"]
