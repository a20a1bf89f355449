"""dlib's face recognition network, in torch, and the reader of the file that holds its weights."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sklearn_psp.exceptions import WeightsError

__all__ = ["DlibFace", "read_dlib_face"]

# Channels of each residual block from input to output, and whether it halves the maps: dlib's `anet_type`.
_BLOCKS = (
    *((32, halves) for halves in (False, False, False)),
    *((64, halves) for halves in (True, False, False, False)),
    *((128, halves) for halves in (True, False, False)),
    *((256, halves) for halves in (True, False, False, True)),
)
_N_COMPONENTS = 128
# The longest stretch of settings between two tensors of the file is 352 bytes, what follows the last one 72.
_LONGEST_GAP, _LONGEST_END = 400, 100


class DlibFace(nn.Module):
    """29 convolutions and a projection: aligned faces in, maps whose mean is dlib's descriptor out.

    dlib averages 256 channels over the whole map and multiplies by a matrix; both are linear, so that the matrix may
    come first, as a 1x1 convolution: the mean of a part of the maps is then the descriptor of that part of the face.
    The factors and offsets that follow each convolution in dlib are part of the convolutions here.

    References
    ----------
    D. E. King, "Dlib-ml: A Machine Learning Toolkit", JMLR 2009, and `dnn_face_recognition_ex.cpp` of dlib; He et al.,
    "Deep Residual Learning for Image Recognition", CVPR 2016, from whose 34 layers it is cut down.
    """

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        channels = [32, *(n for n, _ in _BLOCKS)]
        self.blocks = nn.Sequential(
            *(_Residual(n_in, n_out, halves) for n_in, (n_out, halves) in zip(channels, _BLOCKS, strict=False))
        )
        self.project = nn.Conv2d(channels[-1], _N_COMPONENTS, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return maps (n, 128, rows, columns) of normalised images (n, 3, height, width)."""
        return self.project(self.blocks(F.max_pool2d(F.relu(self.stem(x)), 3, stride=2)))


class _Residual(nn.Module):
    """Two convolutions beside the input, or beside its averages where the maps are halved."""

    def __init__(self, n_in, n_out, halves):
        super().__init__()
        self.halves = halves
        stride, padding = (2, 0) if halves else (1, 1)
        self.first = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=padding)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)

    def forward(self, x):
        changed = self.second(F.relu(self.first(x)))
        if not self.halves:
            return F.relu(x + changed)
        x = F.avg_pool2d(x, 2)
        # dlib adds maps of different sizes, and of fewer channels, as if the smaller went on with zeros.
        shape = [max(sizes) for sizes in zip(x.shape[1:], changed.shape[1:], strict=True)]
        return F.relu(_padded(x, shape) + _padded(changed, shape))


def _padded(x, shape):
    channels, rows, columns = (wanted - got for wanted, got in zip(shape, x.shape[1:], strict=True))
    return F.pad(x, (0, columns, 0, rows, 0, channels))


def read_dlib_face(path: str | Path) -> dict[str, torch.Tensor]:
    """Read `dlib_face_recognition_resnet_model_v1.dat` into the state of a `DlibFace`.

    dlib writes an integer as a byte with the number of bytes that follow (bit 7 is the sign), and these, little endian;
    a tensor as its version, 2, four dimensions, and float32, little endian. The layers stand in the order of the
    network, each convolution as one tensor of filters and biases, followed by one of factors and offsets; between them
    are settings of layers, which are passed over. The last tensor is the matrix (256, 128).

    Parameters
    ----------
    path : str or pathlib.Path
        The file.

    Returns
    -------
    dict of str to torch.Tensor
        The state, made of all 59 tensors of the file.

    Raises
    ------
    WeightsError
        If the file does not hold these tensors in this order, or more of them.
    """
    reader, state = _Reader(path), {}
    with torch.device("meta"):  # names and shapes only
        network = DlibFace()
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer is network.project:
            continue
        n_out = layer.out_channels
        filters = reader.tensor(layer.weight.numel() + n_out)
        factors, offsets = reader.tensor(2 * n_out).view(2, n_out)
        state[f"{name}.weight"] = filters[:-n_out].view(layer.weight.shape) * factors.view(-1, 1, 1, 1)
        state[f"{name}.bias"] = filters[-n_out:] * factors + offsets
    n_in = network.project.in_channels
    matrix = reader.tensor(n_in, _N_COMPONENTS).view(n_in, _N_COMPONENTS)
    state["project.weight"] = matrix.T[:, :, None, None].contiguous()
    reader.finish()
    return state


class _Reader:
    """Takes tensors of known shapes from a file of dlib, one after the other."""

    def __init__(self, path):
        self._path = path
        self._data = Path(path).read_bytes()
        self._place = 0
        self._n_tensors = 0

    def tensor(self, *shape):
        """Return the next tensor of the file, flat, or refuse another than that of this shape."""
        header = b"\1\2" + b"".join(map(_integer, (*shape, 1, 1, 1)[:4]))
        found = self._data.find(header, self._place, self._place + _LONGEST_GAP)
        start = found + len(header)
        end = start + 4 * math.prod(shape)
        if found < 0 or end > len(self._data):
            raise WeightsError(
                f"{self._path} is not dlib's face recognition network, or damaged: tensor {self._n_tensors + 1} of "
                f"59, of shape {shape}, does not stand whole after byte {self._place:,} of {len(self._data):,}"
            )
        self._place = end
        self._n_tensors += 1
        return torch.from_numpy(np.frombuffer(self._data[start:end], dtype="<f4").astype(np.float32))

    def finish(self):
        """Refuse a file that goes on."""
        left = len(self._data) - self._place
        if left > _LONGEST_END:
            raise WeightsError(
                f"{self._path} holds more than dlib's face recognition network: {left:,} bytes after its 59 tensors"
            )


def _integer(value):
    """Write an integer as dlib does."""
    n_bytes = (value.bit_length() + 7) // 8
    return bytes([n_bytes]) + value.to_bytes(n_bytes, "little")
