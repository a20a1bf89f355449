"""What pictures may come as, and what is refused."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_psp.utils._checks._compare import assert_refused, assert_rows_close, fresh
from sklearn_psp.utils._checks._pictures import encode_png, tiny_pictures

__all__ = [
    "check_image_empty_input",
    "check_image_exif_turn",
    "check_image_generator_of_pictures",
    "check_image_input_kinds",
    "check_image_input_unchanged",
    "check_image_missing_files",
    "check_image_single_picture",
    "kinds_of",
]


def check_image_input_kinds(name, estimator):
    """Check that the same pictures give the same rows, whatever they came as.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of pictures; it is cloned.
    """
    with tiny_pictures() as pictures:
        estimator = fresh(estimator).fit(pictures.paths)
        expected = estimator.transform(pictures.paths)
        assert np.ndim(expected) == 2, f"{name}.transform must return a 2-D array, got {np.ndim(expected)}-D"
        for kind, X in kinds_of(pictures).items():
            message = f"{name}: the same pictures as {kind} and as a list of paths must give the same rows"
            try:
                rows = estimator.transform(X)
            except Exception as error:
                raise AssertionError(f"{name}.transform must take pictures as {kind}, got {error!r}") from error
            assert_rows_close(rows, expected, rtol=1e-5, message=message)


def kinds_of(pictures):
    """Return the same pictures in every form, by its name."""
    memmap = np.memmap(pictures.folder / "pictures.raw", np.uint8, "w+", shape=pictures.array.shape)
    memmap[:] = pictures.array
    # By name, at the last moment: a module that only holds checks should not load torch.
    tensor = import_module("torch").from_numpy(pictures.array.transpose(0, 3, 1, 2).copy())
    arrays = list(pictures.array)
    return {
        "a list of Path": [Path(path) for path in pictures.paths],
        "a list of bytes": pictures.encoded,
        "a list of PIL images": [Image.fromarray(array) for array in arrays],
        "a list of arrays": arrays,
        "a list of arrays of floats in [0, 1]": [array / 255 for array in arrays],
        "a list of mixed kinds": [*pictures.paths[:2], *pictures.encoded[2:4], *arrays[4:]],
        "a Series of paths": pd.Series(pictures.paths, dtype=object),
        "a Series of bytes": pd.Series(pictures.encoded, dtype=object),
        "a DataFrame of one column": pd.DataFrame({"path": pictures.paths}),
        "an array of shape (n, h, w, 3)": pictures.array,
        "a memmap of shape (n, h, w, 3)": memmap,
        "a tensor of shape (n, 3, h, w)": tensor,
        "a generator of lists of paths": (pictures.paths[i : i + 2] for i in range(0, len(arrays), 2)),
        "a generator of arrays (n, h, w, 3)": (pictures.array[i : i + 4] for i in range(0, len(arrays), 4)),
    }


def check_image_exif_turn(name, estimator):
    """Check that a picture is turned as its EXIF orientation says.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of pictures; it is cloned.
    """
    with tiny_pictures() as pictures:
        estimator = fresh(estimator).fit(pictures.paths)
        # Orientation 6 asks for a quarter turn clockwise; rot90 turns the stored pixels counter-clockwise.
        stored = encode_png(np.ascontiguousarray(np.rot90(pictures.array[0])), orientation=6)
        message = f"{name}: a picture stored on its side, with its EXIF turn, must give the row of the upright one"
        expected = estimator.transform([pictures.array[0]])
        assert_rows_close(estimator.transform([stored]), expected, rtol=1e-5, message=message)


def check_image_input_unchanged(name, estimator):
    """Check that fit and transform do not write to the pictures they are given.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of pictures; it is cloned.
    """
    with tiny_pictures() as pictures:
        array = pictures.array.copy()
        fresh(estimator).fit(array).transform(array)
        assert np.array_equal(array, pictures.array), f"{name} must not write to an array of pictures"
        arrays = list(pictures.array.copy())
        fresh(estimator).fit(arrays).transform(arrays)
        assert np.array_equal(arrays, pictures.array), f"{name} must not write to a list of pictures"


def check_image_empty_input(name, estimator):
    """Check that no pictures at all are refused, by fit and by transform, and that the message says so.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of pictures; it is cloned. Its `fit` may do without pictures only if it has `center=False`.
    """
    with tiny_pictures() as pictures:
        fitted = fresh(estimator).fit(pictures.paths)
        for kind, X in {
            "an empty list": [],
            "an empty Series": pd.Series([], dtype=object),
            "an empty array": pictures.array[:0],
        }.items():
            texts = ["empty", "0 sample(s)", "no picture", "at least one"]
            assert_refused(lambda X=X: fitted.transform(X), f"{name}.transform of {kind}", any_of=texts)
            if estimator.get_params(deep=False).get("center", True):
                assert_refused(lambda X=X: fresh(estimator).fit(X), f"{name}.fit of {kind}", any_of=texts)


def check_image_single_picture(name, estimator):
    """Check that a picture in the place of a collection is refused, with the remedy: `[X]`.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of pictures; it is cloned.
    """
    with tiny_pictures() as pictures:
        estimator = fresh(estimator).fit(pictures.paths)
        for kind, X in {
            "a path": pictures.paths[0],
            "a Path": Path(pictures.paths[0]),
            "bytes": pictures.encoded[0],
            "a PIL image": Image.fromarray(pictures.array[0]),
            "an array of shape (h, w, 3)": pictures.array[0],
        }.items():
            what = f"{name}: a single picture ({kind}) as X"
            assert_refused(lambda X=X: estimator.transform(X), what, any_of=["[X]", "a list"])


def check_image_generator_of_pictures(name, estimator):
    """Check that a generator of single pictures, which looks like one of batches, is refused with the remedy.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of pictures; it is cloned.
    """
    with tiny_pictures() as pictures:
        estimator = fresh(estimator).fit(pictures.paths)
        for kind, items in {"paths": pictures.paths, "bytes": pictures.encoded, "arrays": pictures.array}.items():
            what = f"{name}: a generator of single pictures ({kind})"
            X = (item for item in items)
            assert_refused(lambda X=X: estimator.transform(X), what, any_of=["list", "batches"])


def check_image_missing_files(name, estimator):
    """Check that files that do not exist are an error that names all of them.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of pictures; it is cloned. A parameter `on_error` is set to `"raise"`.
    """
    with tiny_pictures() as pictures:
        estimator = fresh(estimator, on_error="raise").fit(pictures.paths)
        missing = [str(pictures.folder / f"not_there_{i}.png") for i in range(3)]
        X = [missing[0], *pictures.paths, *missing[1:]]
        what = f"{name}: a list with missing files"
        error = assert_refused(lambda: estimator.transform(X), what, errors=(ValueError, OSError))
        unnamed = [path for path in missing if path not in str(error)]
        assert not unnamed, f"{name} must name all missing files at once; {unnamed} are not in: {error}"
