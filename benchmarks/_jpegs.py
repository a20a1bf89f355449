"""JPEG files to read: crops of scikit-learn's two photographs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def crops(n, width, height, seed=0):
    """Yield different crops of the photographs, brought to a size."""
    rng = np.random.default_rng(seed)
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    for i in range(n):
        left, top = rng.integers(0, 80, 2)
        crop = photographs[i % 2].crop((left, top, left + 560, top + 347))
        yield crop.resize((width, height), Image.Resampling.BICUBIC)


def write_jpegs(folder, n, width, height, quality=90):
    """Write n different images of one size, and return their paths."""
    paths = [str(Path(folder, f"{width}_{i}.jpg")) for i in range(n)]
    for path, crop in zip(paths, crops(n, width, height), strict=True):
        crop.save(path, quality=quality)
    return paths


def write_copies(folder, n, n_crops=64, width=160, height=120, quality=92):
    """Write n files of different content but few images: each has its number after the end of its JPEG.

    Decoders stop at the end of the image; what identifies a file by its bytes sees n different files. They lie in
    folders of 1,000.
    """
    encoded = []
    for crop in crops(n_crops, width, height):
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=quality)
        encoded.append(buffer.getvalue())
    paths = []
    for i in range(n):
        path = Path(folder, f"{i // 1000:04}", f"{i:07}.jpg")
        if i % 1000 == 0:
            path.parent.mkdir()
        path.write_bytes(encoded[i % n_crops] + i.to_bytes(8, "little"))
        paths.append(str(path))
    return paths
