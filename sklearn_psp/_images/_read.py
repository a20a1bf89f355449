"""Reading ahead of a consumer, in threads: batches of one size, or images at full size with work done on them."""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from sklearn_psp._images._containers import as_images
from sklearn_psp._images._pixels import RESIZE_MODES, ImageRefusedError, resize_image
from sklearn_psp._images._sources import Images, array_key, describe_source, quote_source, rgb_from_source
from sklearn_psp.exceptions import ImageInputError, ImageReadError, MissingImageError
from sklearn_psp.utils._descriptions import Failure, failures_frame
from sklearn_psp.utils._libraries import progress
from sklearn_psp.utils._warnings import quiet_threads_allowed

T = TypeVar("T")

# Not tuned: each thread holds one image at full size, and a hundred cores should not mean a hundred of them.
_MOST_THREADS = 8

_REMEDY = 'remove it from X or pass on_error="nan"'
_NO_BATCH = (
    "X yielded no batch: Found array with 0 sample(s) while a minimum of 1 is required; a generator can be read only "
    "once"
)
_N_NAMED = 10
# Images at full size in one group of tasks. Not tuned: enough to keep the threads busy, few enough to fit into memory.
_MAPPED_AT_ONCE = 8


@dataclass(frozen=True)
class ImageBatch:
    """Images of one size with their rows, their keys and their fate; what the reader hands to the network.

    Attributes
    ----------
    rows : sequence of int
        Positions of the images in the collection that was read, in order.
    images : ndarray of shape (n, height, width, 3), uint8, RGB, C-contiguous
        On the scale 0 to 255; float32 when X is a table of floats or of integers other than uint8. May be a view of
        the user's X: never write to it.
    failures : tuple of Failure
        The images that could not be read, by their position in X. Their places in `images` hold zeros. Empty unless
        `on_error="nan"`.
    keys : tuple of (bytes or None)
        What stands for the content of each image; None for one that could not be read.
    skipped : frozenset of int
        Places in `images` that hold zeros because the reader was told to skip their content.
    """

    rows: Sequence[int]
    images: np.ndarray
    failures: tuple[Failure, ...] = ()
    keys: tuple[bytes | None, ...] = ()
    skipped: frozenset[int] = frozenset()

    @property
    def start(self) -> int:
        """Position of the first image."""
        return self.rows[0]


def read_image(source: Any) -> np.ndarray:
    """Read one image at full size.

    Parameters
    ----------
    source : str, path-like, bytes-like, PIL.Image.Image, array or tensor
        One image.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB, EXIF turn applied, alpha composed on white; may be a view of `source`.

    Raises
    ------
    ImageReadError
        With the reason; its `errors` has the one row.
    """
    try:
        with quiet_threads_allowed():
            return rgb_from_source(source)
    except ImageRefusedError as refusal:
        failure = Failure(0, describe_source(source), str(refusal))
        raise ImageReadError(
            f"the image {quote_source(failure.source)} could not be decoded: {failure.reason}",
            failures_frame([failure]),
        ) from refusal


def thumbnail(source: Any, size: int = 256) -> np.ndarray | None:
    """Read an image and make it small.

    Parameters
    ----------
    source : str, path-like, bytes, PIL.Image.Image, array, tensor or None
        One image.
    size : int, default=256
        Most pixels of the longer side; a smaller image keeps its size. 256 is twice what displays draw at most, for
        sharp screens.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8, RGB, or None
        The image, never a view of the one given; None if it cannot be read.
    """
    try:
        image = Image.fromarray(np.ascontiguousarray(read_image(source)))
    except ImageReadError:
        return None
    image.thumbnail((size, size))
    return np.array(image)


def map_images(
    images: Images,
    work: Callable[[np.ndarray], T],
    *,
    on_error: str,
    n_jobs: int | None,
    title: str,
    verbose: int,
    note: str = "while working on {image}",
) -> Generator[tuple[int, str, T | ImageRefusedError], None, None]:
    """Do something with every image at full size, in threads that read and work ahead of the consumer.

    Parameters
    ----------
    images : Images
        The images.
    work : callable
        Called in the threads with one image: an array (h, w, 3), uint8, RGB, C-contiguous.
    on_error : {"raise", "nan"}
        With "raise" paths that name no file are refused at once. Of an image that cannot be decoded, either way, the
        refusal is yielded: the consumer knows what it means.
    n_jobs : int or None
        Threads, as for `read_batches`.
    title : str
        What is being done, for the progress bar.
    verbose : int
        Above 0, progress is shown.
    note : str, default="while working on {image}"
        Added to an error that `work` raises, with the image named where it says `{image}`.

    Returns
    -------
    generator of (int, str, object)
        In the order of the images: the position in X, the source (as of `describe_source`), and what `work` returned,
        or the `ImageRefusedError` that says why the image could not be decoded. Closing the iterator ends its threads.

    Raises
    ------
    MissingImageError
        At once, naming all files that do not exist, unless `on_error="nan"`.
    ImageInputError
        While iterating, if the images are an iterable of batches that yields none.
    ValueError
        If `n_jobs` is out of its range.
    """
    n_threads = resolve_n_threads(n_jobs)
    if on_error == "raise":
        raise_missing(images)
    return _map(images, work, n_threads, note, title, verbose)


def _map(
    images: Images, work: Callable[[np.ndarray], T], n_threads: int, note: str, title: str, verbose: int
) -> Generator[tuple[int, str, T | ImageRefusedError], None, None]:
    def decode_and_work(position: int, given: Any) -> tuple[int, str, T | ImageRefusedError]:
        row, source = images.row(position), describe_source(given)
        try:
            image = np.ascontiguousarray(images.load(given)[1]())
        except ImageRefusedError as refusal:
            return row, source, refusal
        try:
            return row, source, work(image)
        except Exception as error:
            error.add_note(note.format(image=f"X[{row}] ({quote_source(source)})"))
            raise

    def groups():
        tasks = enumerate(images)
        while group := list(islice(tasks, _MAPPED_AT_ONCE)):
            yield len(group), group

    n_done = 0
    n_ahead = max(1, 2 * n_threads // _MAPPED_AT_ONCE)
    done = work_ahead(groups(), decode_and_work, n_threads=n_threads, n_ahead=n_ahead)
    with quiet_threads_allowed(), progress(images.n_images, title, "image", verbose) as bar, contextlib.closing(done):
        for n, results in done:
            n_done += n
            bar.update(n)
            yield from results
    if not n_done:
        raise ImageInputError(_NO_BATCH)


def read_batches(
    X: Any,
    *,
    batch_size: int,
    image_size: tuple[int, int],
    resize: str = "stretch",
    on_error: str = "raise",
    n_jobs: int | None = None,
    image_shape: Any = None,
    skip: Callable[[bytes], bool] | None = None,
    rows: Sequence[int] | None = None,
) -> Generator[ImageBatch, None, None]:
    """Read the images of X in batches of one size, ahead of the consumer.

    Parameters
    ----------
    X : Images, or anything that `as_images` takes
        The images.
    batch_size : int
        Images in a batch; only the last may be smaller.
    image_size : tuple of int (height, width)
        Size of every image handed out, in pixels.
    resize : {"stretch", "crop", "pad"}, default="stretch"
        See `resize_image`.
    on_error : {"raise", "nan"}, default="raise"
        Whether an image that cannot be read is an error, or a row of zeros and a `Failure`.
    n_jobs : int or None, default=None
        Threads that read. None: one per core, at most 8; -1: all cores.
    image_shape : None, "auto", (h, w) or (h, w, c), default=None
        See `as_images`.
    skip : callable or None, default=None
        Told the key of an image's content, says whether it need not be decoded. Called in the reading threads.
    rows : sequence of int or None, default=None
        Positions of the images to read; None for all of them.

    Returns
    -------
    generator of ImageBatch
        In the order of X. Memory is bounded: while the consumer holds a batch, two more batches (or two images a
        thread, if that is more) are read or being read. Closing the iterator ends its threads.

    Raises
    ------
    ImageInputError
        If X holds no images, or one of its batches is none.
    MissingImageError
        At once, naming all files that do not exist, unless `on_error="nan"`.
    ImageReadError
        While iterating: the first image of X that cannot be read, unless `on_error="nan"`.
    ValueError
        If a parameter is out of its range.
    """
    _check_options(batch_size, image_size, resize, on_error)
    n_threads = resolve_n_threads(n_jobs)
    images = X if isinstance(X, Images) else as_images(X, image_shape=image_shape)
    if on_error == "raise":
        raise_missing(images)
    ready = images.ready(image_size) if rows is None else None
    if ready is not None:
        return _hand_out(ready, images.n_images or 0, batch_size)

    def finish(slot: np.ndarray, source: Any) -> _Read:
        try:
            key, decode = images.load(source)
            if skip is not None and skip(key):
                return _Read(key, skipped=True)
            pixels = decode()
        except ImageRefusedError as refusal:
            return _Read(None, failure=(describe_source(source), str(refusal)))
        slot[...] = resize_image(pixels, image_size, resize)
        return _Read(key)

    n_ahead = max(2, math.ceil(2 * n_threads / batch_size))
    groups = _slots(images, rows, batch_size, image_size)
    return _read(images, work_ahead(groups, finish, n_threads=n_threads, n_ahead=n_ahead), on_error)


class _Read(NamedTuple):
    """What became of one image."""

    key: bytes | None
    failure: tuple[str, str] | None = None
    skipped: bool = False


def _hand_out(ready: Callable[[int, int], np.ndarray], n: int, batch_size: int) -> Generator[ImageBatch, None, None]:
    """Cut batches from an array that needs neither decoding nor another size."""
    for start in range(0, n, batch_size):
        rows = range(start, min(start + batch_size, n))
        images = ready(rows.start, rows.stop)
        yield ImageBatch(rows, images, keys=tuple(map(array_key, images)))


def _slots(
    images: Images, rows: Sequence[int] | None, batch_size: int, image_size: tuple[int, int]
) -> Iterator[tuple[tuple[Sequence[int], np.ndarray], list[tuple[np.ndarray, Any]]]]:
    """Yield (rows, memory for their pixels) batch by batch, and (place in that memory, source) of each image."""
    start, sources = 0, iter(images) if rows is None else map(images.get, rows)
    while batch := list(islice(sources, batch_size)):
        stop = start + len(batch)
        stack = np.zeros((len(batch), *image_size, 3), dtype=images.dtype)
        yield (range(start, stop) if rows is None else rows[start:stop], stack), list(zip(stack, batch, strict=True))
        start = stop
    if start == 0:
        raise ImageInputError(_NO_BATCH)


def _read(
    images: Images, work: Generator[tuple[Any, list], None, None], on_error: str
) -> Generator[ImageBatch, None, None]:
    with quiet_threads_allowed(), contextlib.closing(work):
        for (rows, stack), results in work:
            failures = tuple(
                Failure(images.row(row), *result.failure)
                for row, result in zip(rows, results, strict=True)
                if result.failure is not None
            )
            if failures and on_error == "raise":
                first = failures[0]
                raise ImageReadError(
                    f"X[{first.index}] ({quote_source(first.source)}) could not be decoded: {first.reason}; {_REMEDY}",
                    failures_frame([first]),
                )
            keys = tuple(result.key for result in results)
            yield ImageBatch(rows, stack, failures, keys, frozenset(i for i, r in enumerate(results) if r.skipped))


def raise_missing(images: Images) -> None:
    """Refuse paths that name no file, all of them at once, as `MissingImageError`."""
    missing = [Failure(images.row(i), images.describe(i), "there is no such file") for i in images.missing_files()]
    if not missing:
        return
    named = ", ".join(f"X[{failure.index}] ({failure.source!r})" for failure in missing[:_N_NAMED])
    more = f" and {len(missing) - _N_NAMED:,} more (all in the error's .errors)" if len(missing) > _N_NAMED else ""
    raise MissingImageError(
        f"{len(missing):,} of {images.n_rows:,} images are files that do not exist: {named}{more}; correct the "
        f'paths (the working directory is {os.getcwd()!r}), remove them from X or pass on_error="nan"',
        failures_frame(missing),
    )


def _check_options(batch_size: int, image_size: tuple[int, int], resize: str, on_error: str) -> None:
    if not hasattr(batch_size, "__index__") or batch_size < 1:
        raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}")
    try:
        height, width = image_size
        fits = height >= 1 and width >= 1 and hasattr(height, "__index__") and hasattr(width, "__index__")
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"image_size must be two integers of at least 1 (height, width), got {image_size!r}")
    if resize not in RESIZE_MODES:
        raise ValueError(f"resize must be one of {', '.join(map(repr, RESIZE_MODES))}, got {resize!r}")
    if on_error not in ("raise", "nan"):
        raise ValueError(f"on_error must be 'raise' or 'nan', got {on_error!r}")


def resolve_n_threads(n_jobs: int | None) -> int:
    """Number of threads that `n_jobs` asks for.

    Parameters
    ----------
    n_jobs : int or None
        None is one thread per core available to this process, at most 8; -1 all cores, -2 all but one, and so on.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    ValueError
        If `n_jobs` is 0 or no integer.
    """
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if n_jobs is None:
        return min(n_cores, _MOST_THREADS)
    if isinstance(n_jobs, bool) or not hasattr(n_jobs, "__index__") or n_jobs == 0:
        raise ValueError(f"n_jobs must be None or an integer other than 0, got {n_jobs!r}; pass -1 for all cores")
    return int(n_jobs) if n_jobs > 0 else max(1, n_cores + 1 + int(n_jobs))


# Not joblib.Parallel(return_as="generator", prefer="threads"), tried with joblib 1.6: while the consumer holds a result
# it does all other tasks and keeps their results (`pre_dispatch` bounds what waits, not what is done), takes tasks from
# the user's iterable in a thread of its own, warns when it is closed early, and costs twice as much a task.
def work_ahead(
    groups: Iterable[tuple[Any, Iterable[tuple]]], work: Callable, *, n_threads: int, n_ahead: int
) -> Generator[tuple[Any, list], None, None]:
    """Do the tasks of each group in threads, and yield the groups in order.

    While the consumer holds a group, at most `n_ahead` further ones are done or under way. When the consumer stops
    early or a task raises, no new task begins and the threads end with the tasks they are at.

    Parameters
    ----------
    groups : iterable of (key, tasks)
        Taken in the consumer's thread, one at a time. A task is a tuple of arguments for `work`.
    work : callable
        Called in the threads.
    n_threads : int
        Number of threads.
    n_ahead : int
        Number of groups.

    Yields
    ------
    key : object
        As given.
    results : list
        What `work` returned, in the order of the tasks.
    """
    pending: deque[tuple[Any, list[Future]]] = deque()
    executor = ThreadPoolExecutor(n_threads, thread_name_prefix="sklearn_psp-read")
    try:
        for key, tasks in groups:
            pending.append((key, [executor.submit(work, *task) for task in tasks]))
            if len(pending) > n_ahead:
                yield _finish(*pending.popleft())
        while pending:
            yield _finish(*pending.popleft())
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _finish(key: Any, futures: list[Future]) -> tuple[Any, list]:
    return key, [future.result() for future in futures]
