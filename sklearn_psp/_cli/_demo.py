"""The command `demo`: photographs searched with distorted copies of them, and measured against global pooling."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from sklearn_psp._cli._files import display_name
from sklearn_psp._cli._output import Page, print_results, write_page
from sklearn_psp._featurizer import PSPNetFeaturizer
from sklearn_psp._retriever import NearestImageRetriever
from sklearn_psp.datasets import load_photographs, make_distorted_copies
from sklearn_psp.displays import ShownQuery, ShownResult
from sklearn_psp.metrics import average_precision, mean_average_precision, recall_at_k, relevance_from_labels

__all__ = ["Outcome", "compare", "demo"]

_OURS = "part sequence (default)"
_PLAIN = "global average pooling"
# Global average pooling as it is usually taken from a network, without the steps of our default.
_PLAIN_PARAMETERS = {"bin_sizes": (1,), "pooling": "avg", "center": False, "scales": (1.0,)}


class Outcome(NamedTuple):
    """The result of one search with one descriptor.

    Parameters
    ----------
    retriever : NearestImageRetriever
        Fitted to the gallery.
    descriptors : ndarray of shape (n_queries, n_features), float32
        The queries.
    relevance : ndarray of shape (n_queries, n_gallery), bool
        Whether each image of the full ranking is right, nearest first.
    """

    retriever: NearestImageRetriever
    descriptors: np.ndarray
    relevance: np.ndarray


def compare(gallery: Bunch, queries: Bunch, **parameters: Any) -> dict[str, Outcome]:
    """Search with the default featurizer and with global average pooling.

    Parameters
    ----------
    gallery : Bunch
        With `filenames` and `target`.
    queries : Bunch
        With `images` and `target`.
    **parameters : dict
        Of both featurizers.

    Returns
    -------
    dict of str to Outcome
        Plain first.
    """
    outcomes = {}
    for name, ours in ((_PLAIN, _PLAIN_PARAMETERS), (_OURS, {})):
        featurizer = PSPNetFeaturizer(**parameters, **ours)
        retriever = NearestImageRetriever().fit(featurizer.fit_transform(gallery.filenames), gallery.target)
        descriptors = featurizer.transform(queries.images)
        relevance = np.concatenate(
            [
                relevance_from_labels(queries.target[rows], ranked)
                for rows, ranked in retriever.ranked_labels(descriptors)
            ]
        )
        outcomes[name] = Outcome(retriever, descriptors, relevance)
    return outcomes


def demo(args: argparse.Namespace) -> int:
    """Show a search on photographs that installed packages bring.

    Parameters
    ----------
    args : argparse.Namespace
        `n_neighbors`, `output`, `no_page`, `backbone`, `weights`, `device`, `quiet`.

    Returns
    -------
    int
        Exit status: 1 if global average pooling is better, else 0.
    """
    photographs = load_photographs()
    copies = make_distorted_copies(photographs.filenames, photographs.target)
    start = time.perf_counter()
    outcomes = compare(
        photographs,
        copies,
        backbone=args.backbone,
        weights=args.weights,
        device=args.device,
        verbose=not args.quiet,
    )
    seconds = time.perf_counter() - start
    scores = pd.DataFrame(
        {
            "recall@1": {name: recall_at_k(outcome.relevance) for name, outcome in outcomes.items()},
            "mAP": {name: mean_average_precision(outcome.relevance) for name, outcome in outcomes.items()},
        }
    )
    by_kind = pd.DataFrame(
        {name: average_precision(outcome.relevance) for name, outcome in outcomes.items()}, index=copies.kind
    )
    by_kind = by_kind.groupby(level=0, sort=False).mean()
    ours = outcomes[_OURS]
    found = ours.retriever.retrieve(ours.descriptors, args.n_neighbors)
    found["name"] = np.asarray(photographs.titles)[found["id"]]

    for query, results in found.groupby("query"):
        # One of each kind; the page has them all.
        if query // by_kind.shape[0] == query % by_kind.shape[0]:
            print_results(_caption(photographs, copies, query), results)
    summary = (
        f"{len(photographs.filenames)} photographs, searched for with {len(copies.images)} distorted copies of them"
    )
    print(f"\n{summary}, in {seconds:.1f} s\n")
    print(scores.to_string(float_format="{:.4f}".format))
    print("\nMean average precision by kind of copy\n")
    print(by_kind.to_string(float_format="{:.3f}".format))
    print("\nPhotographs")
    for title, credit in zip(photographs.titles, photographs.credits, strict=True):
        print(f"  {title}: {credit}")
    if not args.no_page:
        page = Page(
            title="Photographs found by distorted copies",
            introduction=f"{summary}: crops, flips, rotations and re-compressed copies. Each query stands beside the "
            "nearest photographs with their cosine distances; a tick marks the photograph that it was made from.",
            queries=_shown_queries(found, photographs, copies),
            tables=[("All queries", scores), ("Mean average precision by kind of copy", by_kind)],
            credits=list(zip(photographs.titles, photographs.credits, strict=True)),
        )
        print(f"\nPage written to {display_name(write_page(page, args.output, verbose=not args.quiet))}")
    return _verdict(scores)


def _verdict(scores: pd.DataFrame) -> int:
    worse = [name for name in scores if scores.loc[_OURS, name] < scores.loc[_PLAIN, name]]
    if not worse:
        return 0
    print(f"error: {_OURS} is below {_PLAIN} in {' and '.join(worse)}", file=sys.stderr)
    return 1


def _caption(photographs: Bunch, copies: Bunch, query: int) -> str:
    return f"{photographs.titles[copies.target[query]]}, {copies.kind[query]}"


def _shown_queries(found: pd.DataFrame, photographs: Bunch, copies: Bunch) -> list[ShownQuery]:
    return [
        ShownQuery(
            copies.images[query],
            _caption(photographs, copies, query),
            [
                ShownResult(
                    photographs.filenames[row.id],
                    row.name,
                    row.distance,
                    row.label,
                    bool(row.label == copies.target[query]),
                )
                for row in results.itertuples(index=False)
            ],
            copies.target[query],
        )
        for query, results in found.groupby("query")
    ]
