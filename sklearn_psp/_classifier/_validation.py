"""What a classifier is trained on, and what it is judged by: given, or set aside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.model_selection import train_test_split

from sklearn_psp._classifier._labelled import Labelled, labelled, without
from sklearn_psp._images import SomeImages, is_labelled_stream

__all__ = ["given_validation", "of_some_weight", "split"]


def of_some_weight(data: Labelled) -> Labelled:
    """Leave out images of weight 0."""
    if data.sample_weight is None or data.sample_weight.all():
        return data
    return without(data, np.flatnonzero(data.sample_weight == 0))


def given_validation(classifier, data: Labelled, validation_data: Any) -> Labelled | None:
    """Return the validation data that were given, if any, and refuse parameters that ask for others."""
    if validation_data is not None:
        X, y = validation_data, None
        if not is_labelled_stream(X):
            if not isinstance(X, tuple) or len(X) != 2:
                raise ValueError(
                    "validation_data must be a tuple (X, y), or an iterable of (images, labels) batches, got "
                    f"{type(X).__name__}" + (f" of {len(X)}" if isinstance(X, tuple | list) else "")
                )
            X, y = X
        return labelled(X, y, image_shape=classifier.image_shape, name="validation_data")
    if classifier.validation_fraction is None:
        if classifier._patience() is not None:
            raise ValueError(
                f"early_stopping={classifier.early_stopping!r} needs validation data: pass validation_data to fit, or "
                "set validation_fraction=0.1"
            )
        return None
    if data.images is None:
        raise ValueError("validation_fraction does not go with an iterable of batches: pass validation_data to fit")
    return None


def split(classifier, data: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """Return what is trained on and what the model is judged by."""
    rows = np.arange(len(data.labels))
    share = classifier.validation_fraction
    try:
        kept, held_out = train_test_split(rows, test_size=share, stratify=data.labels, random_state=seed)
    except ValueError as error:
        raise ValueError(f"validation_fraction={share!r} of {len(rows)} images, by class: {error}") from error
    return _rows_of(data, np.sort(kept)), _rows_of(data, np.sort(held_out))


def _rows_of(data, rows):
    weights = None if data.sample_weight is None else data.sample_weight[rows]
    return replace(data, images=SomeImages(data.images, rows), labels=data.labels[rows], sample_weight=weights)
