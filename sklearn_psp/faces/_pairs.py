"""Parse image pairs and report failures per pair."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.faces._reasons import holding_reasons, reasons_of
from sklearn_psp.utils._pairs import Pairs

__all__ = ["failed_pairs", "naming_pairs"]

_SIDES = ("first", "second")
_ITEM = re.compile(r"\bX\[(\d+)\]")


def failed_pairs(pairs: Pairs, reasons: Mapping[int, str]) -> pd.DataFrame:
    """Tabulate the pairs that cannot be compared.

    Parameters
    ----------
    pairs : Pairs
        The pairs.
    reasons : dict of int to str
        Why an image cannot be used, by its place in `items`.

    Returns
    -------
    DataFrame
        One row for each such image of a pair: `index` (position of the pair), `side` ("first" or "second"), `source`
        and `reason`.
    """
    from sklearn_psp._images import describe_source

    rows = [
        (int(pair), _SIDES[side], describe_source(pairs.items[places[pair]]), reasons[places[pair]])
        for side, places in enumerate((pairs.first, pairs.second))
        for pair in np.flatnonzero(np.isin(places, list(reasons)))
    ]
    frame = pd.DataFrame(sorted(rows, key=lambda row: row[0]), columns=["index", "side", "source", "reason"])
    return frame.astype({"index": np.int64})


@contextlib.contextmanager
def naming_pairs(pairs: Pairs) -> Iterator[dict[int, str]]:
    """Let what a featurizer says of images be said of pairs.

    Errors that name images are raised anew with the pair and the side; warnings about images are held back.

    Parameters
    ----------
    pairs : Pairs
        Whose items the featurizer is given.

    Yields
    ------
    dict of int to str
        Why an image could not be used, by its place in `items`; filled when the block ends.
    """
    try:
        with holding_reasons() as reasons:
            yield reasons
    except ImageReadError as error:
        table = None if error.errors is None else failed_pairs(pairs, reasons_of(error.errors))
        message = _ITEM.sub(lambda found: _first_place(pairs, int(found[1])), str(error))
        message = message.replace("remove it from X", "remove the pair").replace("from X", "from pairs")
        raise type(error)(message, table) from error


def _first_place(pairs, item):
    places = np.column_stack((pairs.first, pairs.second))
    found = np.argwhere(places == item)
    return "pairs[{}][{}]".format(*found[0]) if len(found) else f"X[{item}]"
