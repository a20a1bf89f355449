"""The command `search`: the nearest images in a folder."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_psp._cli._files import display_name, find_gallery, find_queries
from sklearn_psp._cli._output import Page, print_results, print_unreadable, write_page
from sklearn_psp._featurizer import PSPNetFeaturizer
from sklearn_psp._images import read_image
from sklearn_psp._retriever import NearestImageRetriever
from sklearn_psp.displays import ShownQuery, ShownResult
from sklearn_psp.exceptions import ImageInputError, ImageReadError

__all__ = ["search"]


def search(args: argparse.Namespace) -> int:
    """Search a folder, print and show what was found.

    Parameters
    ----------
    args : argparse.Namespace
        `images`, `also`, `queries`, `n_neighbors`, `output`, `no_page`, `backbone`, `weights`, `device`, `quiet`.

    Returns
    -------
    int
        Exit status 0.

    Raises
    ------
    PSPError
        If there is nothing to search, or to search for.
    """
    folders = [args.images, *args.also]
    gallery = find_gallery(folders)
    queries, named = find_queries(args.queries, folders)
    # Before the gallery is described, which may take long.
    _check_queries(named)

    featurizer = PSPNetFeaturizer(args.backbone, weights=args.weights, device=args.device, verbose=not args.quiet)
    start = time.perf_counter()
    rows, failures = featurizer.fit_describe([str(path) for path in gallery])
    query_rows, query_failures = featurizer.describe([str(path) for path in queries])
    if len(query_failures) == len(queries):
        raise ImageReadError("QUERY: none of the images to search for could be read", query_failures)
    retriever = NearestImageRetriever(args.n_neighbors, on_invalid="skip").fit(rows)
    # One more than asked for: a query that is in the gallery finds itself.
    found = retriever.retrieve(query_rows, args.n_neighbors + 1)
    seconds = time.perf_counter() - start
    found = _without_own(found, queries, gallery, args.n_neighbors)
    # An image that is searched for and in the gallery too has failed twice.
    failed = pd.concat([failures, query_failures]).drop_duplicates("source")
    unreadable = [(display_name(row.source), row.reason) for row in failed.itertuples()]

    found["name"] = [display_name(gallery[position], folders) for position in found["id"]]
    for query, results in found.groupby("query"):
        print_results(display_name(queries[query]), results)
    print_unreadable(unreadable)
    summary = f"{len(gallery) - len(failures):,} images searched for {found['query'].nunique():,} in {seconds:.1f} s"
    print(summary)
    if not args.no_page:
        page = Page(
            title="Nearest images",
            introduction=f"{summary}, in {', '.join(display_name(folder) for folder in folders)}.",
            queries=_shown_queries(found, queries, gallery),
            unreadable=unreadable,
        )
        print(f"Page written to {display_name(write_page(page, args.output, verbose=not args.quiet))}")
    return 0


def _check_queries(paths: set[Path]) -> None:
    """Refuse files that were named as queries and are no images."""
    for path in sorted(paths):
        try:
            read_image(path)
        except ImageReadError as error:
            raise ImageInputError(f"QUERY: {error}") from error


def _without_own(
    found: pd.DataFrame, queries: Sequence[Path], gallery: Sequence[Path], n_neighbors: int
) -> pd.DataFrame:
    """Take each query's own file out of its results, and cut them to the number asked for."""
    own = {os.path.realpath(path): position for position, path in enumerate(gallery)}
    own_position = [own.get(os.path.realpath(path), -1) for path in queries]
    found = found[found["id"].to_numpy() != np.asarray(own_position)[found["query"].to_numpy(dtype=np.intp)]]
    found = found.assign(rank=found.groupby("query").cumcount() + 1)
    return found[found["rank"] <= n_neighbors].reset_index(drop=True)


def _shown_queries(found: pd.DataFrame, queries: Sequence[Path], gallery: Sequence[Path]) -> list[ShownQuery]:
    return [
        ShownQuery(
            str(queries[query]),
            display_name(queries[query]),
            [ShownResult(str(gallery[row.id]), row.name, row.distance) for row in results.itertuples(index=False)],
        )
        for query, results in found.groupby("query")
    ]
