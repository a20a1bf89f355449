"""Faces: found and brought upright, verified, identified. Importing this loads neither dlib nor torch."""

from sklearn_psp.faces._aligner import FaceAligner
from sklearn_psp.faces._describing import make_face_featurizer
from sklearn_psp.faces._identifier import FaceIdentifier
from sklearn_psp.faces._verifier import FaceVerifier, Verification

__all__ = ["FaceAligner", "FaceIdentifier", "FaceVerifier", "Verification", "make_face_featurizer"]
