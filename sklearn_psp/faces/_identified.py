"""The table of `FaceIdentifier.identify`: faces, boxes, names."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from sklearn_psp._retriever import own_index
from sklearn_psp.faces._aligner import FaceAligner
from sklearn_psp.faces._describing import Described, describe

__all__ = ["identified_frame"]

_BOX = ["left", "top", "right", "bottom", "confidence"]


def identified_frame(identifier, X, select):
    """Tabulate faces and who they are.

    Parameters
    ----------
    identifier : FaceIdentifier
        Fitted, with people in its gallery.
    X : collection of images, or array-like of shape (n_images, n_features)
        Images.
    select : {"all", "largest", "confident", "error"}
        Which faces of an image with several.

    Returns
    -------
    DataFrame
        As `FaceIdentifier.identify` promises.
    """
    featurizer = getattr(identifier, "featurizer_", None)
    if isinstance(featurizer, Pipeline) and isinstance(featurizer[0], FaceAligner):
        faces = _aligned_faces(identifier, featurizer, X, select)
    else:
        described, errors = identifier._probes(X, as_table=True)
        faces = _with_names(_boxes(np.arange(len(described.rows))), described, identifier)
        faces.loc[errors["index"], "reason"] = errors["reason"].to_numpy(dtype=object)
    index = own_index(X)
    if index is not None:
        faces["image"] = index[faces["image"]]
    return faces


def _aligned_faces(identifier, featurizer, X, select):
    """Tabulate the faces that the first step of the featurizer finds, and the images without one."""
    aligner = clone(featurizer[0]).set_params(select=select, on_error=identifier.on_error)
    chips, faces, errors = aligner._search(X, cut=True, need_face=False)
    faces = faces.loc[faces["selected"], ["image", *_BOX]].reset_index(drop=True)
    chips = [chip for chip in chips if chip is not None]
    described = None
    if chips:
        described = Described(describe(featurizer[1:], chips), identifier.retriever_.effective_metric_)
    without = _with_names(_boxes(errors["index"].to_numpy()), None, identifier)
    without["reason"] = pd.Series(errors["reason"], dtype=object)
    parts = [part for part in (_with_names(faces, described, identifier), without) if len(part)]
    return pd.concat(parts, ignore_index=True).sort_values("image", kind="stable", ignore_index=True)


def _boxes(images):
    """Return a row for each image, with no box."""
    return pd.DataFrame({"image": images, **dict.fromkeys(_BOX, np.nan)})


def _with_names(faces, described, identifier):
    """Add the columns that tell who faces are."""
    n = len(faces)
    columns = {
        "name": np.full(n, None, dtype=object),
        "score": np.full(n, np.nan),
        "probability": np.full(n, np.nan),
        "source": np.full(n, None, dtype=object),
        "runner_up": np.full(n, None, dtype=object),
        "runner_up_score": np.full(n, np.nan),
        "reason": np.full(n, None, dtype=object),
    }
    if described is not None:
        valid = described.valid
        rows = described.rows[valid]
        nearest = identifier._nearest(rows)
        columns["name"][valid] = identifier._named(nearest)
        columns["score"][valid] = identifier._scores(nearest.similarity)
        columns["source"][valid] = identifier.retriever_.metadata_["source"].to_numpy()[nearest.position]
        second = nearest.runner_up >= 0
        columns["runner_up"][np.flatnonzero(valid)[second]] = identifier.people_[nearest.runner_up[second]]
        columns["runner_up_score"][valid] = identifier._scores(nearest.runner_up_similarity)
        if identifier._calibration is not None:
            probabilities = identifier._probabilities(rows)
            columns["probability"][valid] = probabilities[np.arange(len(rows)), nearest.person]
        for row in np.flatnonzero(~valid):
            columns["reason"][row] = described.reason(row)
    return faces.assign(**{name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})
