"""Finding the images that belong to ids, and making them small."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sklearn_psp._images import as_images, thumbnail
from sklearn_psp.exceptions import ImageInputError

__all__ = ["ImageLookup"]


class ImageLookup:
    """Images by name, each made small once and only when asked for.

    Parameters
    ----------
    images : array-like, mapping, Series or None
        The images: a mapping or a Series (or one-column DataFrame) by name; anything else in the order of `names`.
        None for no images but those that names are themselves, as paths of files.
    names : array-like or None
        The names of images given in order; None numbers them.
    parameter : str
        What `images` is called in error messages.

    Attributes
    ----------
    names : Index
        The names.

    Raises
    ------
    ImageInputError
        If `images` holds no images, or cannot be read in any order.
    ValueError
        If the number of images is not the number of names, or a name is there twice.
    """

    def __init__(self, images, names=None, *, parameter):
        self._small = {}
        self._images = None
        if images is None:
            self.names = pd.Index([], dtype=object)
            return
        if isinstance(images, Mapping):
            names, images = list(images.keys()), list(images.values())
        elif isinstance(images, pd.Series) or (isinstance(images, pd.DataFrame) and images.shape[1] == 1):
            names = images.index
        try:
            self._images = as_images(images)
        except ImageInputError as error:
            raise ImageInputError(f"{parameter} must hold images: {str(error).replace('X', parameter, 1)}") from error
        n_images = self._images.n_images
        if n_images is None:
            raise ImageInputError(f"{parameter} is an iterable that can be read only once: pass a list of images")
        self.names = pd.Index(np.arange(n_images) if names is None else names, tupleize_cols=False)
        if len(self.names) != n_images:
            raise ValueError(
                f"{parameter} must hold one image for each of the {len(self.names)}, got {n_images}; or pass a "
                "dict or a Series that gives the image of each id"
            )
        if not self.names.is_unique:
            twice = self.names[self.names.duplicated()].tolist()[0]
            raise ValueError(f"the index of {parameter} must be unique, but holds {twice!r} more than once")

    def position(self, name):
        """Place of an image; -1 for an unknown name."""
        try:
            return self.names.get_loc(name)
        except (KeyError, TypeError):
            return -1

    def source(self, name):
        """Return the image as it was given, or the path of a file that the name is; None if there is neither."""
        at = self.position(name)
        image = None if at < 0 else self._images.get(at)
        if image is None and isinstance(name, str | os.PathLike) and os.path.isfile(name):
            return name
        return image

    def small(self, name):
        """Return the image made small; None if there is none, or it cannot be read."""
        if name not in self._small:
            self._small[name] = thumbnail(self.source(name))
        return self._small[name]
