"""IdentificationDisplay: images with a box and a name for each face."""

from __future__ import annotations

import os
from numbers import Integral, Real

import numpy as np

from sklearn_psp._images import as_images, read_image
from sklearn_psp._retriever import own_index
from sklearn_psp.displays._assemble import choose
from sklearn_psp.displays._draw_faces import draw_faces
from sklearn_psp.exceptions import ImageInputError, ImageReadError
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._pipeline import split_search

__all__ = ["IdentificationDisplay"]


class IdentificationDisplay:
    """Images with the faces that were found and who they are.

    It is recommended to make one with `from_estimator`, which also draws it. People who are enrolled have a solid green
    box, others a broken brown one.

    Parameters
    ----------
    images : sequence of (name, image)
        What is shown: what each is called, and the image, a path, bytes, a PIL image or an array.
    faces : DataFrame
        As `FaceIdentifier.identify` returns it for these images, with positions from 0 as `image`.
    unknown_label : object, default="unknown"
        What faces are called that are nobody's.

    Attributes
    ----------
    faces : DataFrame
        What was identified.
    ax_ : ndarray of shape (n_images,), object
        The axes. Only once drawn.
    figure_ : matplotlib.figure.Figure or matplotlib.figure.SubFigure
        What holds the axes. Only once drawn.

    See Also
    --------
    FaceIdentifier : Identifies faces.
    MatchDisplay : Draws pairs of faces.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp.displays import IdentificationDisplay
    >>> from sklearn_psp.faces import FaceIdentifier, make_face_featurizer
    >>> from skimage.data import astronaut
    >>> image = astronaut()
    >>> identifier = FaceIdentifier(make_face_featurizer(), threshold=0.95, unknown_label=None)
    >>> identifier = identifier.fit([image], ["Eileen Collins"])
    >>> display = IdentificationDisplay.from_estimator(identifier, [image[:256]])
    >>> display.faces["name"].tolist()
    ['Eileen Collins']
    """

    def __init__(self, images, faces, *, unknown_label="unknown"):
        self.images, self.faces, self.unknown_label = list(images), faces, unknown_label

    @validate_params({"cell_size": [Interval(Real, 0, None, closed="neither")]}, prefer_skip_nested_validation=True)
    def plot(self, *, figure=None, cell_size=3.0):
        """Draw the images.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            What to draw into. None makes a new figure with `matplotlib.pyplot`.
        cell_size : float, default=3.0, inches
            Side of an image's box in a new figure.

        Returns
        -------
        self : IdentificationDisplay
            With `ax_` and `figure_`.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        """
        known = self.faces["name"].notna() & (self.faces["name"] != self.unknown_label)
        faces = self.faces.assign(known=known)
        shown = [(str(name), _read(image)) for name, image in self.images]
        of_each = [faces[faces["image"] == i] for i in range(len(shown))]
        self.figure_, self.ax_ = draw_faces(shown, of_each, figure, cell_size)
        return self

    @classmethod
    @validate_params(
        {
            "n_images": [Interval(Integral, 1, None, closed="left")],
            "select": [StrOptions({"first", "random"})],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(cls, estimator, X, *, n_images=6, select="first", random_state=None, figure=None):
        """Identify the people in images and draw them.

        Parameters
        ----------
        estimator : FaceIdentifier
            Fitted, with a featurizer; or a fitted search over one, such as `GridSearchCV`.
        X : collection of images
            Images.
        n_images : int, default=6
            How many images to show.
        select : {"first", "random"}, default="first"
            Which.
        random_state : int, RandomState instance or None, default=None
            Seed of "random".
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            What to draw into. None makes a new figure.

        Returns
        -------
        display : IdentificationDisplay
            The display, drawn.

        Raises
        ------
        MissingDependencyError
            If matplotlib is not installed.
        ImageInputError
            If X is no collection of images that can be looked at twice.
        """
        identifier, X = split_search(estimator, X)
        images, index = as_images(X), own_index(X)
        if images.n_images is None:
            raise ImageInputError("X is an iterable that can be read only once: pass a list of images")
        shown = choose(images.n_images, n_images, select, random_state)
        chosen = [images.get(i) for i in shown]
        names = [os.path.basename(images.describe(i)) for i in shown] if index is None else index[shown].tolist()
        faces = identifier.identify(chosen)
        return cls(zip(names, chosen, strict=True), faces, unknown_label=identifier.unknown_label).plot(figure=figure)


def _read(image):
    """Return an image at full size, as boxes are told; None if it cannot be read."""
    try:
        return np.asarray(read_image(image))
    except ImageReadError:
        return None
