"""Who made the bundled photographs, and under which terms.

Author, licence and source are those that the bringing package states: scikit-learn in `datasets/images/README.txt`,
scikit-image in the docstrings of `skimage.data`.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PHOTOGRAPHS", "Photograph"]


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
        What it shows.
    credit : str
        Author, licence and source.
    """

    package: str
    file: str
    name: str
    title: str
    credit: str


_CC_BY = "CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/)"
_UNSTATED = "author and licence of the image not stated; distributed with scikit-image (BSD-3-Clause)"

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
