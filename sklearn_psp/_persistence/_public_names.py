"""Names of types in saved files: public ones, which stay when a class moves, and the list of those that are trusted.

A class or function of sklearn_psp is written under its public name, `sklearn_psp.faces.FaceVerifier`, and found by it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from inspect import isfunction
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_psp.utils._names import registered_types

__all__ = ["class_name", "name_in_file", "named_nodes", "rename_types", "trusted_types"]

# What files hold besides things with public names: where they stand may change here, their name in files may not.
_PRIVATE = {
    "sklearn_psp.Gallery": ("sklearn_psp._retriever._gallery", "Gallery"),
    "sklearn_psp.StoredArray": ("sklearn_psp._persistence._stored_arrays", "stored_array"),
    "sklearn_psp.metrics.RetrievalScorer": ("sklearn_psp.metrics._scorers", "_RetrievalScorer"),
}
# Names that things had in older files. Format 1 named the private modules that classes stood in.
_ALIASES = {
    "sklearn_psp._classifier._estimator.PSPNetClassifier": "sklearn_psp.PSPNetClassifier",
    "sklearn_psp._featurizer._estimator.PSPNetFeaturizer": "sklearn_psp.PSPNetFeaturizer",
    "sklearn_psp._retriever._estimator.NearestImageRetriever": "sklearn_psp.NearestImageRetriever",
    "sklearn_psp._retriever._gallery.Gallery": "sklearn_psp.Gallery",
    "sklearn_psp.faces._aligner.FaceAligner": "sklearn_psp.faces.FaceAligner",
    "sklearn_psp.faces._identifier.FaceIdentifier": "sklearn_psp.faces.FaceIdentifier",
    "sklearn_psp.faces._verifier.FaceVerifier": "sklearn_psp.faces.FaceVerifier",
    "sklearn_psp.metrics._retrieval.mean_average_precision": "sklearn_psp.metrics.mean_average_precision",
    "sklearn_psp.metrics._retrieval.mean_reciprocal_rank": "sklearn_psp.metrics.mean_reciprocal_rank",
    "sklearn_psp.metrics._retrieval.recall_at_k": "sklearn_psp.metrics.recall_at_k",
    "sklearn_psp.metrics._scorers._RetrievalScorer": "sklearn_psp.metrics.RetrievalScorer",
    "sklearn_psp.reranking._database_augmentation.DatabaseAugmentation": "sklearn_psp.reranking.DatabaseAugmentation",
    "sklearn_psp.reranking._diffusion.Diffusion": "sklearn_psp.reranking.Diffusion",
    "sklearn_psp.reranking._k_reciprocal.KReciprocal": "sklearn_psp.reranking.KReciprocal",
    "sklearn_psp.reranking._query_expansion.QueryExpansion": "sklearn_psp.reranking.QueryExpansion",
}
# Folds and scorers of a fitted GridSearchCV, which skops does not list. All are passive: taking their attributes opens
# nothing and calls nothing that comes out of the file. Functions are scores: they compute a number from arrays.
_SKLEARN = frozenset(
    f"sklearn.{module}.{name}"
    for module, names in {
        "model_selection._split": (
            "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut PredefinedSplit "
            "RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold StratifiedKFold "
            "StratifiedShuffleSplit"
        ),
        "metrics._scorer": "_PassthroughScorer _Scorer",
        # scikit-learn 1.6 keeps them in every scorer, later versions only where metadata is asked for.
        "utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
        "metrics._classification": (
            "accuracy_score balanced_accuracy_score brier_score_loss f1_score jaccard_score log_loss matthews_corrcoef "
            "precision_score recall_score"
        ),
        "metrics._ranking": "average_precision_score roc_auc_score top_k_accuracy_score",
        "metrics._regression": (
            "explained_variance_score mean_absolute_error mean_squared_error median_absolute_error r2_score "
            "root_mean_squared_error"
        ),
    }.items()
    for name in names.split()
)
_PACKAGE = "sklearn_psp"


def class_name(value: Any) -> str:
    """Dotted name of an object's class."""
    return _dotted(type(value))


def name_in_file(thing: Any) -> tuple[str, str] | None:
    """Return the module and name under which files hold a class or function of this package.

    Parameters
    ----------
    thing : type or function
        Any.

    Returns
    -------
    (str, str) or None
        Module and name; None for what is not of this package or has no name that may stand in a file.
    """
    path = thing.__module__.split(".") if isinstance(thing.__module__, str) else [""]
    if path[0] != _PACKAGE:
        return None
    for public, private in _PRIVATE.items():
        if private == (thing.__module__, thing.__qualname__):
            module, _, name = public.rpartition(".")
            return module, name
    # The longest public part of the path: a verifier is of `faces`, though `sklearn_psp` exports it too.
    n_public = next((n for n, part in enumerate(path) if part.startswith("_")), len(path))
    for n in range(n_public, 0, -1):
        module = ".".join(path[:n])
        if _public(module, thing.__name__) is thing:
            return module, thing.__name__
    return None


def named_nodes(schema: Any) -> Iterator[dict]:
    """Yield the parts of a description by skops that name a type."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("__module__"), str) and isinstance(item.get("__class__"), str):
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def rename_types(schema: Any) -> set[str]:
    """Put where things stand now in the place of the names in a file.

    Parameters
    ----------
    schema : dict
        What `schema.json` of skops holds; changed in place.

    Returns
    -------
    set of str
        Dotted names of the types of this package, and of the tables that other packages extend, that it asks for.
        What it asks for beyond these has kept its name, and is not trusted.
    """
    nodes: dict[str, list[dict]] = {}
    for node in named_nodes(schema):
        nodes.setdefault(f"{node['__module__']}.{node['__class__']}", []).append(node)
    found = {name: _find(_ALIASES.get(name, name)) for name in nodes if name.startswith(_PACKAGE + ".")}
    for name, thing in found.items():
        for node in nodes[name] if thing is not None else ():
            node["__module__"], node["__class__"] = thing.__module__, thing.__name__
    # After the names of this package were looked up: what they belong to is imported, with its tables.
    trusted = {_dotted(thing) for thing in found.values() if thing is not None}
    return trusted | {_dotted(thing) for thing in registered_types()} & nodes.keys()


def trusted_types(names: Iterable[str] = ()) -> list[str]:
    """List the types that are made without being asked, beyond what skops itself takes for harmless.

    Parameters
    ----------
    names : iterable of str, default=()
        What `rename_types` returned.

    Returns
    -------
    list of str
        Dotted names.
    """
    return [*_SKLEARN, *names]


def _find(name):
    """Return the class or function of this package that may be made for a name in a file; None if there is none."""
    if name in _PRIVATE:
        module, attribute = _PRIVATE[name]
        return getattr(importlib.import_module(module), attribute)
    module, _, short = name.rpartition(".")
    thing = _public(module, short)
    if isinstance(thing, type) and issubclass(thing, BaseEstimator):
        return thing
    # A file may have a function called: those that compute a number from arrays, and no other.
    is_score = module == f"{_PACKAGE}.metrics" and isfunction(thing) and not short.startswith(("make_", "read_"))
    return thing if is_score else None


def _public(module, name):
    if any(part.startswith("_") for part in module.split(".")):
        return None
    try:
        room = importlib.import_module(module)
    except ImportError:
        return None
    return getattr(room, name, None) if name in getattr(room, "__all__", ()) else None


def _dotted(thing):
    return f"{thing.__module__}.{thing.__qualname__}"
