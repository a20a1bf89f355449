"""IdentificationDisplay: pictures with a box and a name for each face."""

from __future__ import annotations

import os
from numbers import Integral, Real

import numpy as np

from sklearn_psp._images import as_pictures, read_picture
from sklearn_psp._retriever._inputs import own_index
from sklearn_psp.displays._assemble import choose
from sklearn_psp.displays._draw_faces import draw_faces
from sklearn_psp.exceptions import ImageInputError, ImageReadError
from sklearn_psp.utils._compat import Interval, StrOptions, validate_params
from sklearn_psp.utils._pipeline import split_search

__all__ = ["IdentificationDisplay"]


class IdentificationDisplay:
    """Pictures with the faces that were found and who they are.

    It is recommended to make one with `from_estimator`, which also draws it. People who are enrolled have a solid green
    box, others a broken brown one.

    Parameters
    ----------
    pictures : sequence of (name, picture)
        What is shown: what each is called, and the picture, a path, bytes, a PIL image or an array.
    faces : DataFrame
        As `FaceIdentifier.identify` returns it for these pictures, with positions from 0 as `picture`.
    unknown_label : object, default="unknown"
        What faces are called that are nobody's.

    Attributes
    ----------
    faces : DataFrame
        What was identified.
    ax_ : ndarray of shape (n_pictures,), object
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
    >>> picture = astronaut()
    >>> identifier = FaceIdentifier(make_face_featurizer(), threshold=0.95, unknown_label=None)
    >>> identifier = identifier.fit([picture], ["Eileen Collins"])
    >>> display = IdentificationDisplay.from_estimator(identifier, [picture[:256]])
    >>> display.faces["name"].tolist()
    ['Eileen Collins']
    """

    def __init__(self, pictures, faces, *, unknown_label="unknown"):
        self.pictures, self.faces, self.unknown_label = list(pictures), faces, unknown_label

    @validate_params({"cell_size": [Interval(Real, 0, None, closed="neither")]}, prefer_skip_nested_validation=True)
    def plot(self, *, figure=None, cell_size=3.0):
        """Draw the pictures.

        Parameters
        ----------
        figure : matplotlib.figure.Figure or matplotlib.figure.SubFigure, default=None
            What to draw into. None makes a new figure with `matplotlib.pyplot`.
        cell_size : float, default=3.0, inches
            Side of a picture's box in a new figure.

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
        shown = [(str(name), _read(picture)) for name, picture in self.pictures]
        of_each = [faces[faces["picture"] == i] for i in range(len(shown))]
        self.figure_, self.ax_ = draw_faces(shown, of_each, figure, cell_size)
        return self

    @classmethod
    @validate_params(
        {
            "n_pictures": [Interval(Integral, 1, None, closed="left")],
            "select": [StrOptions({"first", "random"})],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(cls, estimator, X, *, n_pictures=6, select="first", random_state=None, figure=None):
        """Identify the people in pictures and draw them.

        Parameters
        ----------
        estimator : FaceIdentifier
            Fitted, with a featurizer; or a fitted search over one, such as `GridSearchCV`.
        X : collection of pictures
            Pictures.
        n_pictures : int, default=6
            How many pictures to show.
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
            If X is no collection of pictures that can be looked at twice.
        """
        identifier, X = split_search(estimator, X)
        pictures, index = as_pictures(X), own_index(X)
        if pictures.n_pictures is None:
            raise ImageInputError("X is an iterable that can be read only once: pass a list of pictures")
        shown = choose(pictures.n_pictures, n_pictures, select, random_state)
        chosen = [pictures.get(i) for i in shown]
        names = [os.path.basename(pictures.describe(i)) for i in shown] if index is None else index[shown].tolist()
        faces = identifier.identify(chosen)
        return cls(zip(names, chosen, strict=True), faces, unknown_label=identifier.unknown_label).plot(figure=figure)


def _read(picture):
    """Return a picture at full size, as boxes are told; None if it cannot be read."""
    try:
        return np.asarray(read_picture(picture))
    except ImageReadError:
        return None
