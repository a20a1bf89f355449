"""Image files that a command is given: found, named, and where its page may be written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sklearn_psp.exceptions import ImageInputError, MissingImageError

__all__ = ["check_output", "display_name", "find_gallery", "find_queries", "images_below"]

# HEIC and AVIF, which not every Pillow reads, should be listed as unreadable rather than overlooked.
# fmt: off
IMAGE_SUFFIXES = frozenset({
    ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
})
# fmt: on


def images_below(folder: Path) -> list[Path]:
    """List the image files in a folder and all folders below it.

    Parameters
    ----------
    folder : Path
        Links to folders below it are not followed: they may form a circle.

    Returns
    -------
    list of Path
        Files with the suffix of an image, in either case, sorted; hidden files and folders are left out.
    """
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(root, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def find_gallery(folders: Sequence[Path]) -> list[Path]:
    """List all images to be searched.

    Parameters
    ----------
    folders : sequence of Path
        Folders, which may overlap.

    Returns
    -------
    list of Path
        Every file once.

    Raises
    ------
    MissingImageError
        If a folder does not exist.
    ImageInputError
        If one is not a folder, cannot be listed, or all of them hold no images.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.exists():
            raise MissingImageError(f"IMAGES: there is no folder {str(folder)!r} (working directory {os.getcwd()!r})")
        if not folder.is_dir():
            raise ImageInputError(f"IMAGES must be a folder of images, but {str(folder)!r} is a file")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise ImageInputError(f"IMAGES: the folder {str(folder)!r} cannot be listed: permission denied")
        for path in images_below(folder):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise ImageInputError(f"IMAGES holds no images: {_named(folders)} {_no_images()}")
    return list(found.values())


def find_queries(queries: Sequence[Path], folders: Sequence[Path]) -> tuple[list[Path], set[Path]]:
    """List all images to search for.

    Parameters
    ----------
    queries : sequence of Path
        Files and folders.
    folders : sequence of Path
        Where to look for one that does not exist: `cat.jpg` may mean the one in the folder that is searched.

    Returns
    -------
    paths : list of Path
        Every file once, in the order given.
    named : set of Path
        Those of them that were given as files.

    Raises
    ------
    MissingImageError
        If a query does not exist.
    ImageInputError
        If a folder holds no images.
    """
    paths: dict[Path, None] = {}
    named = set()
    for query in queries:
        place = next((p for p in (query, *(folder / query for folder in folders)) if p.exists()), None)
        if place is None:
            raise MissingImageError(
                f"QUERY: there is no file {str(query)!r}, neither in the working directory {os.getcwd()!r} nor in "
                f"{_named(folders)}"
            )
        if place.is_dir():
            below = images_below(place)
            if not below:
                raise ImageInputError(f"QUERY holds no images: {str(place)!r} {_no_images()}")
            paths.update(dict.fromkeys(below))
        else:
            paths[place] = None
            named.add(place)
    return list(paths), named


def check_output(path: Path) -> None:
    """Find out before the long work, not after it, that the page cannot be written.

    Parameters
    ----------
    path : Path
        The page. Nothing is written yet: what fails later should leave no empty page.

    Raises
    ------
    OSError
        If it is a folder, or would stand in one that cannot be written to.
    """
    place = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise OSError(f"--output must be a file, but {str(path)!r} is a folder")
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OSError(f"--output: nothing can be written to {str(place)!r}; name another file, or pass --no-page")


def display_name(path: os.PathLike, folders: Iterable[Path] = ()) -> str:
    """Name a path for people: below the folder it was found in, and text whatever bytes it holds."""
    for folder in folders:
        if Path(path).is_relative_to(folder):
            path = Path(path).relative_to(folder)
            break
    return os.fsencode(path).decode("utf-8", "replace")


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(repr(str(folder)) for folder in folders)


def _no_images() -> str:
    return f"has no file, at any depth, that ends in {', '.join(sorted(IMAGE_SUFFIXES))}"
