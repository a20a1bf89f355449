"""Checks of what a transformer takes for images, what it refuses, and what one bad image does to the others."""

from __future__ import annotations

import warnings
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_psp.exceptions import ImageReadWarning
from sklearn_psp.utils._checks._common import (
    TinyImages,
    assert_refused,
    assert_rows_close,
    encode_png,
    fresh,
    tiny_images,
)

__all__ = [
    "WHERE",
    "check_image_bad_item_becomes_nan",
    "check_image_bad_item_raises",
    "check_image_empty_input",
    "check_image_exif_turn",
    "check_image_generator_of_images",
    "check_image_input_kinds",
    "check_image_input_unchanged",
    "check_image_missing_files",
    "check_image_single_image",
    "kinds_of",
    "with_bad_file",
]

WHERE = 2


def check_image_bad_item_raises(name: str, estimator: Any) -> None:
    """Check that an image that cannot be read is an error that names it.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        Any transformer of images; it is cloned. A parameter `on_error` is set to `"raise"`.
    """
    with tiny_images() as images:
        estimator = fresh(estimator, on_error="raise")
        bad = with_bad_file(images)
        assert_refused(lambda: estimator.fit_transform(bad), f"{name}.fit_transform of a bad file", any_of=[bad[WHERE]])
        estimator.fit(images.paths)
        assert_refused(lambda: estimator.transform(bad), f"{name}.transform of a bad file", any_of=[bad[WHERE]])
        content = [*images.encoded]
        content[WHERE] = content[WHERE][:40]
        what = f"{name}.transform of bytes cut short"
        assert_refused(lambda: estimator.transform(content), what, any_of=[f"X[{WHERE}]"])


def check_image_bad_item_becomes_nan(name: str, estimator: Any) -> None:
    """Check that `on_error="nan"` makes a row of NaN and a warning of a bad image, and leaves the others alone.

    Parameters
    ----------
    name : str
        Name of the estimator, for messages.
    estimator : estimator
        A transformer of images with the parameter `on_error`; it is cloned.
    """
    with tiny_images() as images:
        estimator = fresh(estimator, on_error="nan").fit(images.paths)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ImageReadWarning)
            expected = np.array(estimator.transform(images.paths))
        expected[WHERE] = np.nan
        missing = [*images.paths]
        missing[WHERE] = str(images.folder / "not_there.png")
        for kind, X in {"a bad file": with_bad_file(images), "a missing file": missing}.items():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                rows = estimator.transform(X)
            message = f"{name}: {kind} must be a row of NaN and leave the other rows as they are"
            assert_rows_close(rows, expected, rtol=1e-4, message=message)
            ours = [warning.message for warning in caught if isinstance(warning.message, ImageReadWarning)]
            assert len(ours) == 1, f"{name}: {kind} must give one ImageReadWarning, got {len(ours)}"
            errors = ours[0].errors
            columns = list(getattr(errors, "columns", []))
            assert columns == ["index", "source", "reason"], (
                f"{name}: the ImageReadWarning's errors must have the columns index, source, reason, got {columns}"
            )
            named = list(zip(errors["index"], errors["source"], strict=True))
            assert named == [(WHERE, X[WHERE])], (
                f"{name}: the ImageReadWarning's errors must name X[{WHERE}] ({X[WHERE]!r}) alone, they name {named}"
            )


def with_bad_file(images: TinyImages) -> list[str]:
    """Return the paths, with that of a broken file at `WHERE`."""
    bad = images.folder / "bad.png"
    bad.write_bytes(images.encoded[WHERE][:40])  # the header alone
    paths = [*images.paths]
    paths[WHERE] = str(bad)
    return paths


def check_image_input_kinds(name: str, estimator: Any) -> None:
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


def kinds_of(images: TinyImages) -> dict[str, Any]:
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


def check_image_exif_turn(name: str, estimator: Any) -> None:
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


def check_image_input_unchanged(name: str, estimator: Any) -> None:
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


def check_image_empty_input(name: str, estimator: Any) -> None:
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
        empty = {
            "an empty list": [],
            "an empty Series": pd.Series([], dtype=object),
            "an empty array": images.array[:0],
        }
        for kind, X in empty.items():
            texts = ["empty", "0 sample(s)", "no image", "at least one"]
            assert_refused(partial(fitted.transform, X), f"{name}.transform of {kind}", any_of=texts)
            if estimator.get_params(deep=False).get("center", True):
                assert_refused(partial(fresh(estimator).fit, X), f"{name}.fit of {kind}", any_of=texts)


def check_image_single_image(name: str, estimator: Any) -> None:
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
            assert_refused(partial(estimator.transform, X), what, any_of=["[X]", "a list"])


def check_image_generator_of_images(name: str, estimator: Any) -> None:
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
        collections: dict[str, Any] = {"paths": images.paths, "bytes": images.encoded, "arrays": images.array}
        for kind, items in collections.items():
            what = f"{name}: a generator of single images ({kind})"
            X = (item for item in items)
            assert_refused(partial(estimator.transform, X), what, any_of=["list", "batches"])


def check_image_missing_files(name: str, estimator: Any) -> None:
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
