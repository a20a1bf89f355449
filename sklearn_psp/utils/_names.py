"""Names that were mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: str, known: Iterable[str], n: int = 1) -> str:
    """Return a question with the known names that are most like this one, and a space; nothing where none is.

    Parameters
    ----------
    name : str
        The name that is unknown.
    known : iterable of str
        The names there are.
    n : int, default=1
        The most names in the question.

    Returns
    -------
    str
        For example "did you mean 'cosine'? ".
    """
    close = difflib.get_close_matches(name, list(known), n=n, cutoff=0.4)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""
