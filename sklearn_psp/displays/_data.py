"""What is shown of a search, whatever draws it: a figure or a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ShownQuery", "ShownResult"]


# Compared by identity: images may be arrays.
@dataclass(frozen=True, eq=False)
class ShownResult:
    """One of the images found for a query.

    Parameters
    ----------
    image : str, path-like, bytes, PIL.Image.Image, ndarray or None
        The image. None if there is none to be shown.
    id : object
        Its id, or a name that says more.
    distance : float
        Its distance to the query.
    label : object, default=None
        Its label; None if it has none.
    right : bool or None, default=None
        Whether it is what the query asked for; None where that is not known.

    See Also
    --------
    ShownQuery : The query it was found for.

    Examples
    --------
    >>> from sklearn_psp.displays import ShownResult
    >>> ShownResult("cat.jpg", id=7, distance=0.25, label="cat", right=True).right
    True
    """

    image: Any = field(repr=False)
    id: Any
    distance: float
    label: Any = None
    right: bool | None = None


@dataclass(frozen=True, eq=False)
class ShownQuery:
    """One query with the images found for it.

    Parameters
    ----------
    image : str, path-like, bytes, PIL.Image.Image, ndarray or None
        The image. None if there is none to be shown.
    caption : str
        What it is called.
    results : sequence of ShownResult
        What was found, nearest first.
    label : object, default=None
        Its true label; None if that is not known.

    See Also
    --------
    RetrievalDisplay : Draws queries beside their results.

    Examples
    --------
    >>> from sklearn_psp.displays import ShownQuery, ShownResult
    >>> ShownQuery("cat.jpg", "a cat", [ShownResult("dog.jpg", id=3, distance=0.5)])
    ShownQuery(caption='a cat', results=[ShownResult(id=3, distance=0.5, label=None, right=None)], label=None)
    """

    image: Any = field(repr=False)
    caption: str
    results: Sequence[ShownResult]
    label: Any = None
