"""Search, classify and match images with scikit-learn: part-sequence pyramid pooling.

Importing this package loads none of torch, numba or matplotlib: public names are resolved when first used (PEP 562).
"""

from importlib import import_module as _import_module

__version__ = "0.1.0.dev0"

_WHERE = {
    "FaceAligner": "sklearn_psp.faces",
    "FaceIdentifier": "sklearn_psp.faces",
    "FaceVerifier": "sklearn_psp.faces",
    "NearestImageRetriever": "sklearn_psp._retriever",
    "PSPNetClassifier": "sklearn_psp._classifier",
    "PSPNetFeaturizer": "sklearn_psp._featurizer",
    "load": "sklearn_psp._persistence",
    "register_backbone_library": "sklearn_psp._nets",
    "register_engine": "sklearn_psp._indexes",
    "register_reranker": "sklearn_psp.reranking",
    "retrieve": "sklearn_psp._retriever",
    "save": "sklearn_psp._persistence",
}

__all__ = [*_WHERE, "__version__"]


def __getattr__(name):
    if name in _WHERE:
        value = getattr(_import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
