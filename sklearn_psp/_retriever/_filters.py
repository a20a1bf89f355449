"""Filters: which images may be results."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sklearn_psp._retriever._inputs import refuse_unknown

__all__ = ["vector_subset"]


def vector_subset(where, gallery):
    """Turn a filter into the vectors it lets through.

    Parameters
    ----------
    where : array-like, callable or None
        A mask by position, ids, or a function of the metadata that returns a mask.
    gallery : Gallery
        The gallery.

    Returns
    -------
    Subset or None
        For the index of the gallery; None where everything may be found.

    Raises
    ------
    TypeError
        If `where` is none of these.
    ValueError
        If a mask has the wrong length.
    UnknownIdError
        If no image has one of the ids.
    """
    if where is None:
        return None
    if callable(where):
        if gallery.metadata is None:
            raise ValueError(
                "where is a function of the metadata, but the gallery has none: pass fit(..., metadata=), or a mask or "
                "a list of ids as where"
            )
        mask = np.asarray(where(gallery.of_positions(gallery.metadata)))
        if mask.dtype != bool:
            raise TypeError(f"where(metadata_) must return a boolean mask; got values of type {mask.dtype}")
    elif isinstance(where, str | bytes) or not hasattr(where, "__len__"):
        raise TypeError(
            f"where must be a boolean mask, a list of ids or a function of the metadata; got {where!r}. For one id "
            f"write [{where!r}]"
        )
    else:
        mask = pd.Index(where, tupleize_cols=False)
    if mask.dtype == bool:
        mask = np.asarray(mask)
        if mask.shape != (gallery.n_images,):
            raise ValueError(
                f"a mask as where must have one value for each of the {gallery.n_images} images; got the shape "
                f"{mask.shape}"
            )
        of_rows = mask
        if gallery.rows is not None:
            of_rows = np.zeros(gallery.n_rows, dtype=bool)
            of_rows[gallery.rows] = mask
    else:
        rows = gallery.rows_with(mask)
        refuse_unknown(mask, rows)
        of_rows = np.zeros(gallery.n_rows, dtype=bool)
        of_rows[rows] = True
    return gallery.index.subset(gallery.vector_mask(of_rows))
