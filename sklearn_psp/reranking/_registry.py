"""Table of the re-rankers that can be chosen by name, which other packages can extend."""

from __future__ import annotations

from typing import Any

from sklearn_psp.reranking._database_augmentation import DatabaseAugmentation
from sklearn_psp.reranking._diffusion import Diffusion
from sklearn_psp.reranking._k_reciprocal import KReciprocal
from sklearn_psp.reranking._query_expansion import QueryExpansion
from sklearn_psp.utils._names import Registry, did_you_mean

__all__ = ["RERANKERS", "make_reranker", "register_reranker"]


def _average_query_expansion() -> QueryExpansion:
    return QueryExpansion(alpha=0.0)


def _check_kind(reranker: Any) -> None:
    """Refuse, before it is called, what makes no re-ranker: a name may come out of a file."""
    if isinstance(reranker, type) and callable(getattr(reranker, "fit", None)) and hasattr(reranker, "rerank"):
        return
    raise TypeError(
        f"a re-ranker must be a class with the methods fit and rerank, got {reranker!r}; derive it from "
        "sklearn_psp.reranking.Reranker"
    )


RERANKERS = Registry(
    "re-ranker",
    "sklearn_psp.rerankers",
    {
        "aqe": _average_query_expansion,
        "alpha_qe": QueryExpansion,
        "dba": DatabaseAugmentation,
        "kreciprocal": KReciprocal,
        "diffusion": Diffusion,
    },
    _check_kind,
)


def register_reranker(name: str, reranker: type) -> None:
    """Let a re-ranker of your own be chosen by name.

    The name then works wherever a re-ranker is named: `NearestImageRetriever(reranker="mine")`, `make_reranker("mine")`
    and a grid of parameters. A retriever that holds an instance of the class can be loaded without `trusted`.

    Registering is for this process. Worker processes of joblib start without it; there, and in files that others
    load, name the class by where it stands, `reranker="package.module:Mine"`, or let your package declare an entry
    point, which needs no call of this function:

    .. code-block:: toml

        [project.entry-points."sklearn_psp.rerankers"]
        mine = "package.module:Mine"

    Parameters
    ----------
    name : str
        The name. One of your own that was registered before is replaced.
    reranker : class
        Has the methods `fit` and `rerank` and can be made without arguments; derive it from `Reranker`.

    Raises
    ------
    ValueError
        If the name is empty, has a colon, or is that of a re-ranker of this package.
    TypeError
        If the name is no str, or `reranker` is no class with the methods `fit` and `rerank`.

    See Also
    --------
    Reranker : The class to derive from.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp import NearestImageRetriever, register_reranker
    >>> from sklearn_psp.reranking import Reranker
    >>> class Backwards(Reranker):
    ...     "Puts the last of the shortlist first."
    ...     shortlist = 2
    ...     def shortlist_distances(self, query, positions, distances, own=-1):
    ...         return -distances.astype(np.float64)
    >>> register_reranker("backwards", Backwards)
    >>> X = np.array([[1, 0], [0.8, 0.6], [0, 1]])
    >>> NearestImageRetriever(2, reranker="backwards").fit(X).kneighbors(X[:1], return_distance=False)
    array([[1, 0]])
    """
    RERANKERS.register(name, reranker)


def make_reranker(reranker: Any) -> Any:
    """Make a re-ranker from its name.

    Parameters
    ----------
    reranker : str, estimator or None
        "aqe" and "alpha_qe" (`QueryExpansion`, with alpha=0 and with its default), "dba" (`DatabaseAugmentation`),
        "kreciprocal" (`KReciprocal`), "diffusion" (`Diffusion`), each with its defaults; the name of one that was
        registered, or "package.module:Name"; or a re-ranker; or None.

    Returns
    -------
    estimator or None
        A new re-ranker for a name, else what was given.

    Raises
    ------
    ValueError
        If there is no re-ranker of this name.
    TypeError
        If `reranker` is neither a name nor None nor has the methods `fit` and `rerank`.

    See Also
    --------
    register_reranker : Add a name.

    Examples
    --------
    >>> from sklearn_psp.reranking import make_reranker
    >>> make_reranker("aqe")
    QueryExpansion(alpha=0.0)
    """
    if reranker is None:
        return None
    if isinstance(reranker, str):
        if reranker in RERANKERS:
            return RERANKERS[reranker]()
        names = ", ".join(map(repr, RERANKERS))
        hint = did_you_mean(reranker.lower(), RERANKERS, cutoff=0.6).rstrip() or (
            "or pass a re-ranker of sklearn_psp.reranking, or 'package.module:Name' for one of your own"
        )
        raise ValueError(f"reranker has to be one of {names}, a re-ranker or None, got {reranker!r}; {hint}")
    if isinstance(reranker, type) or not (hasattr(reranker, "fit") and hasattr(reranker, "rerank")):
        raise TypeError(
            f"reranker has to be a name, None or an object with the methods fit and rerank, got {reranker!r}; "
            "derive your own from sklearn_psp.reranking.Reranker"
        )
    return reranker
