"""load_photographs: the photographs that installed packages bring, with their authors and licences."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import sklearn
from sklearn.utils import Bunch

from sklearn_psp.exceptions import MissingImageError
from sklearn_psp.utils._libraries import import_optional_dependency

__all__ = ["PHOTOGRAPHS", "Photograph", "load_photographs"]

_DESCR = """\
Photographs bundled with scikit-learn and scikit-image
------------------------------------------------------

{n} photographs and micrographs, in colour and grey, that come with the installed packages: nothing is downloaded or
copied. Each is a class of its own, so that its distorted copies (`make_distorted_copies`) can be searched for.

Credits:

{credits}
"""


class Photograph(NamedTuple):
    """One photograph that an installed package brings.

    Parameters
    ----------
    package : {"sklearn", "skimage"}
        The package.
    file : str
        Name of the file in the package's folder of images.
    name : str
        Name of its class.
    title : str
        Its subject, for people to read.
    credit : str
        Author, licence and source.
    """

    package: str
    file: str
    name: str
    title: str
    credit: str


def load_photographs() -> Bunch:
    """Load the paths of the photographs bundled with scikit-learn and scikit-image.

    Twenty photographs and micrographs, each a class of its own. Nothing is downloaded.

    Returns
    -------
    photographs : Bunch
        With the attributes

        - `filenames` : list of str, paths of the images;
        - `target` : ndarray of shape (n_photographs,), intp, the class of each, which is its position;
        - `target_names` : list of str, the name of each class;
        - `titles` : list of str, the subject of each image, for people to read;
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
        "sklearn": Path(str(sklearn.__file__)).parent / "datasets" / "images",
        "skimage": Path(str(skimage.__file__)).parent / "data",
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


_CC_BY = "CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)"
_UNSTATED = "author and licence of the image not stated; distributed with scikit-image (BSD-3-Clause)"

# Author, licence and source are those that the bringing package states: scikit-learn in `datasets/images/README.txt`,
# scikit-image in the docstrings of `skimage.data`.
# Diagrams, silhouettes, logos and colour charts are left out, and so is what shows the scene of another photograph:
# the right half of the stereo pair, and a crop of a retina.
PHOTOGRAPHS = (
    Photograph(
        "sklearn",
        "china.jpg",
        "china",
        "Temple in China",
        f"danielbuechele, {_CC_BY}, https://www.flickr.com/photos/danielbuechele/6061409035/",
    ),
    Photograph(
        "sklearn",
        "flower.jpg",
        "flower",
        "Flower",
        # scikit-learn's text names the author of china.jpg here too, but its links name the account below.
        f"vultilion, {_CC_BY}, https://www.flickr.com/photos/vultilion/6056698931/",
    ),
    Photograph(
        "skimage",
        "astronaut.png",
        "astronaut",
        "Astronaut Eileen Collins",
        "NASA Great Images, public domain (no known copyright restrictions), https://flic.kr/p/r9qvLn",
    ),
    Photograph(
        "skimage",
        "brick.png",
        "brick",
        "Brick wall",
        "CC0Textures, CC0, https://cc0textures.com/view.php?tex=Bricks25",
    ),
    Photograph("skimage", "camera.png", "camera", "Photographer at work", "Lav Varshney, CC0"),
    Photograph(
        "skimage",
        "cell.png",
        "cell",
        "Cell floating in saline",
        "Paul Müller et al., CC0, https://doi.org/10.1364/OE.26.010729",
    ),
    Photograph("skimage", "chelsea.png", "chelsea", "Chelsea the cat", "Stefan van der Walt, CC0"),
    Photograph("skimage", "clock_motion.png", "clock", "Motion-blurred clock", "Stefan van der Walt, public domain"),
    Photograph(
        "skimage",
        "coffee.png",
        "coffee",
        "Cup of coffee",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar, CC0",
    ),
    Photograph(
        "skimage",
        "coins.png",
        "coins",
        "Greek coins from Pompeii",
        "Brooklyn Museum Collection, no known copyright restrictions, "
        "https://www.brooklynmuseum.org/opencollection/archives/image/51611",
    ),
    Photograph(
        "skimage",
        "grass.png",
        "grass",
        "Grass",
        "linolafett on DeviantArt, CC0, https://www.deviantart.com/linolafett/art/Grass-01-434853879",
    ),
    Photograph(
        "skimage", "gravel.png", "gravel", "Gravel", "CC0Textures, CC0, https://cc0textures.com/view.php?tex=Gravel04"
    ),
    Photograph(
        "skimage",
        "hubble_deep_field.jpg",
        "hubble",
        "Hubble eXtreme Deep Field",
        "NASA (HubbleSite), public domain, http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
    ),
    Photograph(
        "skimage",
        "ihc.png",
        "tissue",
        "Stained colonic glands",
        "Center for Microscopy And Molecular Imaging (CMMI), no known copyright restrictions",
    ),
    Photograph("skimage", "moon.png", "moon", "Surface of the moon", _UNSTATED),
    Photograph(
        "skimage",
        "motorcycle_left.png",
        "motorcycle",
        "Motorcycle",
        "Nera Nesic, Porter Westling, Xi Wang, York Kitajima, Greg Krathwohl and Daniel Scharstein, Middlebury 2014 "
        "stereo benchmark, licence not stated, http://vision.middlebury.edu/stereo/data/scenes2014/",
    ),
    Photograph("skimage", "page.png", "page", "Scanned page", _UNSTATED),
    Photograph(
        "skimage",
        "retina.jpg",
        "retina",
        "Human retina",
        "Mikael Häggström, CC0 1.0, https://commons.wikimedia.org/wiki/File:Fundus_photograph_of_normal_left_eye.jpg",
    ),
    Photograph(
        "skimage",
        "rocket.jpg",
        "rocket",
        "Launch of DSCOVR on a Falcon 9",
        "SpaceX, public domain, https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
    Photograph(
        "skimage",
        "text.png",
        "text",
        "Handwritten formulas",
        "Wikipedia, public domain (no known copyright restrictions), https://en.wikipedia.org/wiki/File:Corner.png",
    ),
)
