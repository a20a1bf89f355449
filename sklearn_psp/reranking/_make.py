"""Re-rankers by name."""

from __future__ import annotations

import difflib

from sklearn_psp.reranking._database_augmentation import DatabaseAugmentation
from sklearn_psp.reranking._diffusion import Diffusion
from sklearn_psp.reranking._k_reciprocal import KReciprocal
from sklearn_psp.reranking._query_expansion import QueryExpansion

__all__ = ["RERANKERS", "make_reranker"]

RERANKERS = {
    "aqe": lambda: QueryExpansion(alpha=0.0),
    "alpha_qe": QueryExpansion,
    "dba": DatabaseAugmentation,
    "kreciprocal": KReciprocal,
    "diffusion": Diffusion,
}


def make_reranker(reranker):
    """Make a re-ranker from its name.

    Parameters
    ----------
    reranker : str, estimator or None
        "aqe" and "alpha_qe" (`QueryExpansion`, with alpha=0 and with its default), "dba" (`DatabaseAugmentation`),
        "kreciprocal" (`KReciprocal`), "diffusion" (`Diffusion`), each with its defaults; or a re-ranker; or None.

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
        close = difflib.get_close_matches(reranker.lower(), RERANKERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "or pass a re-ranker of sklearn_psp.reranking"
        names = ", ".join(map(repr, RERANKERS))
        raise ValueError(f"reranker has to be one of {names}, a re-ranker or None, got {reranker!r}; {hint}")
    if isinstance(reranker, type) or not (hasattr(reranker, "fit") and hasattr(reranker, "rerank")):
        raise TypeError(
            f"reranker has to be a name, None or an object with the methods fit and rerank, got {reranker!r}; "
            "derive your own from sklearn_psp.reranking.Reranker"
        )
    return reranker
