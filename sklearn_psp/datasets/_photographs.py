"""load_photographs: real images that installed packages bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
from sklearn.utils import Bunch

from sklearn_psp.datasets._credits import PHOTOGRAPHS
from sklearn_psp.exceptions import MissingImageError
from sklearn_psp.utils._optional import import_optional_dependency

__all__ = ["load_photographs"]

_DESCR = """\
Photographs bundled with scikit-learn and scikit-image
------------------------------------------------------

{n} photographs and micrographs, in colour and grey, that come with the installed packages: nothing is downloaded or
copied. Each is a class of its own, so that its distorted copies (`make_distorted_copies`) can be searched for.

Credits:

{credits}
"""


def load_photographs():
    """Load the paths of the photographs bundled with scikit-learn and scikit-image.

    Twenty photographs and micrographs, each a class of its own. Nothing is downloaded.

    Returns
    -------
    photographs : Bunch
        With the attributes

        - `filenames` : list of str, paths of the images;
        - `target` : ndarray of shape (n_photographs,), intp, the class of each, which is its position;
        - `target_names` : list of str, the name of each class;
        - `titles` : list of str, what each image shows;
        - `credits` : list of str, author, licence and source of each image, as far as its package states them;
        - `frame` : DataFrame with the columns `filename`, `target`, `name`, `title` and `credit`;
        - `DESCR` : str, a description with all credits.

    Raises
    ------
    MissingDependencyError
        If scikit-image is not installed.
    MissingImageError
        If an installed package lacks one of the images.

    See Also
    --------
    make_distorted_copies : Queries for a gallery of these photographs.

    Examples
    --------
    >>> from sklearn_psp.datasets import load_photographs
    >>> photographs = load_photographs()
    >>> len(photographs.filenames)
    20
    >>> photographs.target_names[:3]
    ['china', 'flower', 'astronaut']
    >>> photographs.credits[photographs.target_names.index("chelsea")]
    'Stefan van der Walt, CC0'
    """
    skimage = import_optional_dependency("skimage", extra="demo", purpose="load_photographs")
    folders = {
        "sklearn": Path(sklearn.__file__).parent / "datasets" / "images",
        "skimage": Path(skimage.__file__).parent / "data",
    }
    paths = [folders[photograph.package] / photograph.file for photograph in PHOTOGRAPHS]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise MissingImageError(
            f"load_photographs needs images that scikit-learn {sklearn.__version__} and scikit-image "
            f"{skimage.__version__} should have installed, but there is no {', no '.join(missing)}; reinstall them: "
            "pip install --force-reinstall --no-deps scikit-learn scikit-image"
        )
    frame = pd.DataFrame(
        {
            "filename": [str(path) for path in paths],
            "target": np.arange(len(paths)),
            "name": [photograph.name for photograph in PHOTOGRAPHS],
            "title": [photograph.title for photograph in PHOTOGRAPHS],
            "credit": [photograph.credit for photograph in PHOTOGRAPHS],
        }
    )
    return Bunch(
        filenames=frame["filename"].tolist(),
        target=np.arange(len(frame)),
        target_names=frame["name"].tolist(),
        titles=frame["title"].tolist(),
        credits=frame["credit"].tolist(),
        frame=frame,
        DESCR=_DESCR.format(
            n=len(frame), credits="\n".join(f"- {row.title}: {row.credit}" for row in frame.itertuples())
        ),
    )
