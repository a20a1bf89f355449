"""What images may come as, and what is refused."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_psp.utils._checks._compare import assert_refused, assert_rows_close, fresh
from sklearn_psp.utils._checks._images import encode_png, tiny_images

__all__ = [
    "check_image_empty_input",
    "check_image_exif_turn",
    "check_image_generator_of_images",
    "check_image_input_kinds",
    "check_image_input_unchanged",
    "check_image_missing_files",
    "check_image_single_image",
    "kinds_of",
]


def check_image_input_kinds(name, estimator):
    """Check that the same images give the same rows, whatever they came as.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        expected = estimator.transform(images.paths)
        assert np.ndim(expected) == 2, f"{name}.transform must return a 2-D array, got {np.ndim(expected)}-D"
        for kind, X in kinds_of(images).items():
            message = f"{name}: the same images as {kind} and as a list of paths must give the same rows"
            try:
                rows = estimator.transform(X)
            except Exception as error:
                raise AssertionError(f"{name}.transform must take images as {kind}, got {error!r}") from error
            assert_rows_close(rows, expected, rtol=1e-5, message=message)


def kinds_of(images):
    """Return the same images in every form, by its name."""
    memmap = np.memmap(images.folder / "images.raw", np.uint8, "w+", shape=images.array.shape)
    memmap[:] = images.array
    # By name, at the last moment: a module that only holds checks should not load torch.
    tensor = import_module("torch").from_numpy(images.array.transpose(0, 3, 1, 2).copy())
    arrays = list(images.array)
    return {
        "a list of Path": [Path(path) for path in images.paths],
        "a list of bytes": images.encoded,
        "a list of PIL images": [Image.fromarray(array) for array in arrays],
        "a list of arrays": arrays,
        "a list of arrays of floats in [0, 1]": [array / 255 for array in arrays],
        "a list of mixed kinds": [*images.paths[:2], *images.encoded[2:4], *arrays[4:]],
        "a Series of paths": pd.Series(images.paths, dtype=object),
        "a Series of bytes": pd.Series(images.encoded, dtype=object),
        "a DataFrame of one column": pd.DataFrame({"path": images.paths}),
        "an array of shape (n, h, w, 3)": images.array,
        "a memmap of shape (n, h, w, 3)": memmap,
        "a tensor of shape (n, 3, h, w)": tensor,
        "a generator of lists of paths": (images.paths[i : i + 2] for i in range(0, len(arrays), 2)),
        "a generator of arrays (n, h, w, 3)": (images.array[i : i + 4] for i in range(0, len(arrays), 4)),
    }


def check_image_exif_turn(name, estimator):
    """Check that an image is turned as its EXIF orientation says.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        # Orientation 6 asks for a quarter turn clockwise; rot90 turns the stored pixels counter-clockwise.
        stored = encode_png(np.ascontiguousarray(np.rot90(images.array[0])), orientation=6)
        message = f"{name}: an image stored on its side, with its EXIF turn, must give the row of the upright one"
        expected = estimator.transform([images.array[0]])
        assert_rows_close(estimator.transform([stored]), expected, rtol=1e-5, message=message)


def check_image_input_unchanged(name, estimator):
    """Check that fit and transform do not write to the images they are given.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        array = images.array.copy()
        fresh(estimator).fit(array).transform(array)
        assert np.array_equal(array, images.array), f"{name} must not write to an array of images"
        arrays = list(images.array.copy())
        fresh(estimator).fit(arrays).transform(arrays)
        assert np.array_equal(arrays, images.array), f"{name} must not write to a list of images"


def check_image_empty_input(name, estimator):
    """Check that no images at all are refused, by fit and by transform, and that the message says so.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned. Its `fit` may do without images only if it has `center=False`.
    """
    with tiny_images() as images:
        fitted = fresh(estimator).fit(images.paths)
        for kind, X in {
            "an empty list": [],
            "an empty Series": pd.Series([], dtype=object),
            "an empty array": images.array[:0],
        }.items():
            texts = ["empty", "0 sample(s)", "no image", "at least one"]
            assert_refused(lambda X=X: fitted.transform(X), f"{name}.transform of {kind}", any_of=texts)
            if estimator.get_params(deep=False).get("center", True):
                assert_refused(lambda X=X: fresh(estimator).fit(X), f"{name}.fit of {kind}", any_of=texts)


def check_image_single_image(name, estimator):
    """Check that an image in the place of a collection is refused, with the remedy: `[X]`.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        for kind, X in {
            "a path": images.paths[0],
            "a Path": Path(images.paths[0]),
            "bytes": images.encoded[0],
            "a PIL image": Image.fromarray(images.array[0]),
            "an array of shape (h, w, 3)": images.array[0],
        }.items():
            what = f"{name}: a single image ({kind}) as X"
            assert_refused(lambda X=X: estimator.transform(X), what, any_of=["[X]", "a list"])


def check_image_generator_of_images(name, estimator):
    """Check that a generator of single images, which looks like one of batches, is refused with the remedy.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator).fit(images.paths)
        for kind, items in {"paths": images.paths, "bytes": images.encoded, "arrays": images.array}.items():
            what = f"{name}: a generator of single images ({kind})"
            X = (item for item in items)
            assert_refused(lambda X=X: estimator.transform(X), what, any_of=["list", "batches"])


def check_image_missing_files(name, estimator):
    """Check that files that do not exist are an error that names all of them.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned. A parameter `on_error` is set to `"raise"`.
    """
    with tiny_images() as images:
        estimator = fresh(estimator, on_error="raise").fit(images.paths)
        missing = [str(images.folder / f"not_there_{i}.png") for i in range(3)]
        X = [missing[0], *images.paths, *missing[1:]]
        what = f"{name}: a list with missing files"
        error = assert_refused(lambda: estimator.transform(X), what, errors=(ValueError, OSError))
        unnamed = [path for path in missing if path not in str(error)]
        assert not unnamed, f"{name} must name all missing files at once; {unnamed} are not in: {error}"
