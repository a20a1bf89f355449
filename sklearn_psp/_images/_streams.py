"""What an iterable of batches may yield."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sklearn_psp._images._arrays import is_array_like
from sklearn_psp._images._sources import describe_source, is_one_picture, quote_source
from sklearn_psp.exceptions import ImageInputError

__all__ = ["members_of_batch"]


def members_of_batch(item: Any) -> Any:
    """The pictures of one item of an iterable of batches.

    A list of two pictures and a (batch, labels) pair look alike, and a `DataLoader` makes lists of its pairs: what
    decides is whether the first member is a batch or a picture.

    Parameters
    ----------
    item : object
        What the iterable yielded.

    Returns
    -------
    object
        A batch: anything sized that `as_pictures` takes.

    Raises
    ------
    ImageInputError
        If the item is a single picture, or nothing known.
    """
    remedy = "pass list(...) of a generator of single pictures, or yield batches"
    if is_one_picture(item):
        raise ImageInputError(f"It is a single picture ({quote_source(describe_source(item))}): {remedy}")
    if isinstance(item, (list, tuple)):
        if item and _is_batch(item[0]):
            return item[0]
        if isinstance(item, tuple) and len(item) > 1 and is_one_picture(item[0]) and not is_one_picture(item[1]):
            raise ImageInputError(
                "It is a single picture with its label: yield batches, for example through torch.utils.data.DataLoader"
            )
        return item
    if isinstance(item, Mapping):
        raise ImageInputError(f"It is a dict with the keys {list(item)}: yield the batch of pictures alone")
    if not is_array_like(item) and not isinstance(item, (pd.Series, pd.Index, pd.DataFrame)):
        raise ImageInputError(f"It is of type {type(item).__name__}: yield lists, arrays or tensors of pictures")
    return item


def _is_batch(member: Any) -> bool:
    if isinstance(member, (list, tuple, pd.Series, pd.Index, pd.DataFrame)):
        return True
    return is_array_like(member) and not is_one_picture(member) and len(member.shape) >= 1
