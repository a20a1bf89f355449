"""Runner: batches of images through the network and its pooling, several at a time, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from sklearn_psp._nets._networks import Backbone, TorchNetwork
from sklearn_psp._nets._openvino_network import OpenVINONetwork
from sklearn_psp._nets._plan import Plan, is_out_of_memory, launched, make_network, one_core_threads
from sklearn_psp._nets._pyramid import PyramidPooling, Views, images_tensor
from sklearn_psp.exceptions import BackboneError, BatchSizeWarning, OutOfDeviceMemoryError
from sklearn_psp.utils._warnings import warn_user

__all__ = ["MapRows", "Runner"]

Tag = TypeVar("Tag")

# Batches under way on a GPU: while one is computed, the next is on its way there.
_GPU_DEPTH = 2


class Runner:
    """A network and its pooling on a device.

    Parameters
    ----------
    backbone : Backbone
        The network.
    pooling : PyramidPooling
        The pooling of its feature maps.
    device : torch.device
        Where both run.
    plan : Plan
        Settings with which the network is run. A batch is halved, with one warning, when the device's memory does not
        hold it.
    views : Views
        Sizes at which the network sees an image, and whether mirrored.
    """

    def __init__(self, backbone: Backbone, pooling: PyramidPooling, *, device: torch.device, plan: Plan, views: Views):
        self.pooling = pooling.to(device)
        self.device = device
        self.plan = plan
        self.views = views
        self.map_rows = MapRows(backbone, views)
        self._backbone = backbone
        self._network: TorchNetwork | OpenVINONetwork | None = None

    @property
    def network(self) -> TorchNetwork | OpenVINONetwork:
        """The network, made when it is needed: where all feature maps are known, it never is."""
        if self._network is None:
            self._network = make_network(self._backbone, self.plan, self.device, self.views)
        return self._network

    @property
    def identity(self) -> str:
        """All that the feature maps of an image depend on here, except its content and how it was resized."""
        backbone, plan = self._backbone, self.plan
        return repr(
            (
                *(backbone.spec.library, backbone.spec.name, backbone.spec.tap, backbone.spec.mean, backbone.spec.std),
                *(backbone.sha256, backbone.fingerprint(), backbone.image_size, self.views),
                *(plan.runtime, plan.precision, self.device.type),
            )
        )

    def local_features(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Pool the feature maps of all views: (n, n_parts, n_channels), averaged over the views."""
        return self.pooling.average([self.pooling.local_features(view) for view in maps])

    def projected_features(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Pool and project: (n, n_parts, n_components); the local features without a projection."""
        return self.pooling.project(self.local_features(maps))

    def global_features(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Pool, project and aggregate: (n, n_features), neither centred nor normalised."""
        return self.pooling.join(self.projected_features(maps))

    def run(
        self, batches: Iterable[tuple[Tag, np.ndarray]], compute: Callable[[list[torch.Tensor]], tuple]
    ) -> Iterator[tuple[Tag, tuple[np.ndarray, ...]]]:
        """Run batches through the network.

        Parameters
        ----------
        batches : iterable of (tag, images)
            Images of the largest size, of shape (n, height, width, 3), uint8 or float32 in [0, 255], RGB,
            `plan.batch_size` of them or fewer; the tag may be anything, and stays with its batch. Read ahead of what is
            yielded by a few.
        compute : callable
            Turns the feature maps of a batch, a list of one tensor per view, into a tuple of tensors of n rows.

        Yields
        ------
        tag : object
            That of the batch.
        arrays : tuple of ndarray
            What `compute` returned, in the order of the batches.
        """
        asked = self.plan.batch_size
        with self._launcher() as (launch, depth):
            yield from _ahead(((tag, launch(images, compute)) for tag, images in batches), depth)
        if self.plan.batch_size < asked:
            warn_user(
                BatchSizeWarning(
                    f"batch_size={asked} does not fit into the memory of {self.device}: batch_size="
                    f"{self.plan.batch_size} was used; pass batch_size={self.plan.batch_size} to start there"
                )
            )

    def pool(
        self, blocks: Iterable[tuple[Tag, np.ndarray]], compute: Callable[[list[torch.Tensor]], tuple]
    ) -> Iterator[tuple[Tag, tuple[np.ndarray, ...]]]:
        """Compute what `run` would, from half-precision rows of feature maps.

        Parameters
        ----------
        blocks : iterable of (tag, rows)
            Some rows, of shape (n, `map_rows.length`), float16, and a tag that stays with them.
        compute : callable
            As for `run`.

        Yields
        ------
        tag : object
            That of the block.
        arrays : tuple of ndarray
            What `compute` returned, in the order of the blocks.
        """

        @torch.inference_mode()
        def pooled(rows):
            return _arrays(compute(self.map_rows.unpack(torch.from_numpy(rows).to(self.device))))

        if self.device.type != "cpu":
            yield from ((tag, pooled(rows)) for tag, rows in blocks)
            return
        n_workers = torch.get_num_threads()
        with one_core_threads(n_workers) as executor:
            yield from _ahead(((tag, executor.submit(pooled, rows).result) for tag, rows in blocks), n_workers)

    @contextmanager
    def _launcher(self):
        """Yield a function that starts a batch and returns one that waits for it, and how many to start ahead."""
        _ = self.network  # made here, not in a worker
        if self.device.type == "cuda":
            stream = torch.cuda.Stream(self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            yield (lambda batch, compute: self._start_on_gpu(batch, compute, stream)), _GPU_DEPTH
        elif self.plan.n_workers:
            # A worker process of joblib has fewer cores than the process that made the plan.
            n_workers = min(self.plan.n_workers, torch.get_num_threads())
            with one_core_threads(n_workers) as executor:
                try:
                    yield (lambda *job: executor.submit(self._compute, *job).result), n_workers
                finally:
                    executor.shutdown(wait=True, cancel_futures=True)
        else:

            def compute_now(*job):
                result = self._compute(*job)
                return lambda: result

            yield compute_now, 0

    @torch.inference_mode()
    def _start_on_gpu(self, batch, compute, stream):
        try:
            return launched(lambda images: compute(self.network.maps(images)), batch, self.device, stream)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            result = self._compute(batch, compute)
            return lambda: result

    @torch.inference_mode()
    def _compute(self, images, compute):
        done, pieces = 0, []
        while done < len(images):
            chunk = images[done : done + self.plan.batch_size]
            try:
                pieces.append(_arrays(compute(self.network.maps(images_tensor(chunk)))))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(chunk), error)
                continue
            done += len(chunk)
        return pieces[0] if len(pieces) == 1 else tuple(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))

    def _halve(self, tried, error):
        if tried == 1:
            raise OutOfDeviceMemoryError(
                f"one image of {self.views.sizes[0]} pixels does not fit into the memory of {self.device}; use a "
                "smaller image_size or backbone, close what else uses the device, or device='cpu'"
            ) from error
        self.plan = replace(self.plan, batch_size=min(self.plan.batch_size, tried // 2))


class MapRows:
    """Feature maps of all views as one half-precision row per image: view after view, each with its channels last.

    Parameters
    ----------
    backbone : Backbone
        The network.
    views : Views
        Sizes at which it sees an image, and whether mirrored.
    """

    def __init__(self, backbone: Backbone, views: Views):
        self._backbone = backbone
        self._sizes = views.shapes()

    @property
    def length(self) -> int:
        """Numbers in a row."""
        return sum(self._lengths())

    def pack(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Turn the maps of a batch into rows (n, `length`), float16.

        Raises
        ------
        BackboneError
            If a value is beyond the range of half precision.
        """
        rows = torch.cat([view.permute(0, 2, 3, 1).flatten(1).half() for view in maps], dim=1)
        if not rows.isfinite().all():
            raise BackboneError(
                f"backbone={self._backbone.spec.name!r} gives feature maps beyond the range of half precision "
                "(65,504), in which a cache keeps them; use cache=None"
            )
        return rows

    def unpack(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Turn rows into the maps (n, channels, rows, columns) of each view."""
        pieces = rows.split(self._lengths(), dim=1)
        grids = [self._backbone.grid_at(size) for size in self._sizes]
        return [
            piece.unflatten(1, (*grid, self._backbone.n_channels)).permute(0, 3, 1, 2)
            for piece, grid in zip(pieces, grids, strict=True)
        ]

    def _lengths(self):
        grids = [self._backbone.grid_at(size) for size in self._sizes]
        return [rows * columns * self._backbone.n_channels for rows, columns in grids]


def _ahead(started: Iterable[tuple[Tag, Callable]], depth: int) -> Iterator[tuple[Tag, Any]]:
    """Wait for work in the order in which it was started, with `depth` pieces of it started ahead."""
    pending: deque[tuple[Tag, Callable]] = deque()
    for tag, wait in started:
        pending.append((tag, wait))
        if len(pending) > depth:
            first, wait_for_first = pending.popleft()
            yield first, wait_for_first()
    for tag, wait in pending:
        yield tag, wait()


def _arrays(tensors):
    return tuple(tensor.cpu().numpy() for tensor in tensors)
