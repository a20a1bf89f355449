"""A training run on disk: written after every epoch, whole or not at all, and gone on with after a kill."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from sklearn_psp._persistence import atomic_file
from sklearn_psp.exceptions import CheckpointError

__all__ = ["Checkpoint"]

_FORMAT = "sklearn_psp training 1"


class Checkpoint:
    """The file of one run.

    Parameters
    ----------
    path : str or path-like
        The file; its folder must be there.
    identity : dict of str to str
        What the run is of; a file of another run is refused, and left as it is.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, str]):
        self.path = Path(path).expanduser()
        self.identity = identity
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            what = "is a folder" if self.path.is_dir() else f"is in {str(self.path.parent)!r}, which does not exist"
            raise CheckpointError(f"checkpoint={str(path)!r} {what}: give the name of a file in a folder that exists")

    def load(self) -> dict[str, Any] | None:
        """Return the state of the last epoch; None where there is no file yet.

        Raises
        ------
        CheckpointError
            If the file is none of ours, or of another run.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            if content["format"] != _FORMAT:
                raise ValueError(content["format"])
        except Exception as error:
            raise CheckpointError(
                f"checkpoint={str(self.path)!r} is no checkpoint of this version, or damaged ({type(error).__name__}); "
                "it is left as it is: give another name"
            ) from error
        kept = content["identity"]
        others = [name for name in {**self.identity, **kept} if kept.get(name) != self.identity.get(name)]
        if others:
            shown = "; ".join(f"{name}: {kept.get(name)} there, {self.identity.get(name)} here" for name in others[:5])
            raise CheckpointError(
                f"checkpoint={str(self.path)!r} is of another run ({shown}); give another name, or remove the file"
            )
        return content["state"]

    def save(self, state: dict[str, Any]) -> None:
        """Write the state of an epoch in place of the last one."""
        buffer = io.BytesIO()
        torch.save({"format": _FORMAT, "identity": self.identity, "state": state}, buffer)
        with atomic_file(self.path) as file:
            file.write(buffer.getbuffer())
