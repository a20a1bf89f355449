"""Checkpoint of a training run, and the fingerprints by which it resumes only the run that wrote it."""

from __future__ import annotations

import copyreg
import dis
import functools
import hashlib
import io
import os
import site
import sys
import sysconfig
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sklearn_psp._persistence import atomic_file
from sklearn_psp.exceptions import CheckpointError

__all__ = ["Checkpoint", "UnidentifiedError", "fingerprint"]

# The file: this line, the SHA-256 of the rest, and the rest, which torch wrote. torch's own format has a CRC for each
# of its members and does not check it: of 150 flipped bits 14 gave other weights without a word.
_HEADER = b"sklearn_psp training 2\n"
_N_DIGEST = hashlib.sha256().digest_size
# Written before there was a checksum, as a file of torch alone.
_OLD_HEADER = b"PK\x03\x04"


class Checkpoint:
    """The file of one run, written after every epoch, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file; its folder must be there.
    identity : dict of str to str
        Fingerprint of the run, by the names of what it depends on. A checkpoint of another run is refused, and not
        overwritten.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, str]):
        self.path = Path(path).expanduser()
        self.identity = identity
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            what = "is a folder" if self.path.is_dir() else f"is in {str(self.path.parent)!r}, which does not exist"
            raise CheckpointError(f"checkpoint={str(path)!r} {what}: give the name of a file in a folder that exists")

    def load(self) -> dict[str, Any] | None:
        """Return the state of the last epoch; None where there is no file yet.

        Returns
        -------
        dict of str to object, or None
            As it was given to `save`.

        Raises
        ------
        CheckpointError
            If the file is no checkpoint, is damaged in any way, or is of another run.
        """
        if not self.path.exists():
            return None
        content = self._read()
        kept = content["identity"]
        others = [name for name in {**self.identity, **kept} if kept.get(name) != self.identity.get(name)]
        if others:
            shown = "; ".join(f"{name}: {kept.get(name)} there, {self.identity.get(name)} here" for name in others[:5])
            raise CheckpointError(
                f"checkpoint={str(self.path)!r} is of another run ({shown}); give another name, or remove the file"
            )
        return content["state"]

    def save(self, state: dict[str, Any]) -> None:
        """Write the state of an epoch in place of the last one.

        Parameters
        ----------
        state : dict of str to object
            Tensors and plain values.
        """
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, buffer)
        with atomic_file(self.path) as file:
            file.write(_HEADER)
            file.write(hashlib.sha256(buffer.getbuffer()).digest())
            file.write(buffer.getbuffer())

    def _read(self) -> dict[str, Any]:
        """Return the content of the file, once its checksum is right."""
        data = self.path.read_bytes()
        if data.startswith(_OLD_HEADER):
            raise self._refusal(
                "is no checkpoint of this version: it has no checksum, as those written before there was one"
            )
        body = memoryview(data)[len(_HEADER) + _N_DIGEST :]
        if not data.startswith(_HEADER):
            raise self._refusal("is no checkpoint of this version, or damaged (header)")
        if hashlib.sha256(body).digest() != data[len(_HEADER) : len(_HEADER) + _N_DIGEST]:
            raise self._refusal("is no checkpoint of this version, or damaged (checksum)")
        try:
            content = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
            content["identity"], content["state"]
        except Exception as error:
            raise self._refusal(f"is no checkpoint of this version, or damaged ({type(error).__name__})") from error
        return content

    def _refusal(self, what: str) -> CheckpointError:
        return CheckpointError(f"checkpoint={str(self.path)!r} {what}; it is left as it is: give another name")


class UnidentifiedError(ValueError):
    """A value whose content cannot be known, such as an open file: it may be any other of its kind."""


def fingerprint(value: Any) -> str:
    """Return a text that equal values share, in every process, and no others.

    Numbers, strings and what is made of them are shown as they are; arrays, tensors, functions and objects are named
    and hashed. A function is its code, its defaults, and the values of its closure and of the globals that it uses; an
    object is its class and its state, as pickle would take them; a class is its attributes, likewise. What belongs to
    an installed package is its name.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    str
        The text.

    Raises
    ------
    UnidentifiedError
        If the value, or a value in it, has a content that cannot be known.
    """
    try:
        return _ContentReader().text(value)
    except RecursionError as error:
        raise UnidentifiedError(f"a {type(value).__name__} is nested too deep") from error


# Attributes of a class that say where it was written, or are made anew in each process.
_NOT_CONTENT = {
    "__abstractmethods__",
    "__annotate_func__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__qualname__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}


class _ContentReader:
    """One reading of a value: joblib.hash would do, if it took lambdas, and did not stop at the name of a class."""

    def __init__(self) -> None:
        self._open: dict[int, int] = {}  # values that are being read, by the order in which they were met
        self._known: dict[int, tuple[Any, str]] = {}  # with the value: an id is only unique while its object lives

    def text(self, value: Any) -> str:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or value is Ellipsis or type(value) in (bool, int, float, complex, str):
            return repr(value)
        if id(value) in self._open:  # a circle
            return f"<{len(self._open) - self._open[id(value)]} up>"
        if id(value) not in self._known:
            self._open[id(value)] = len(self._open)
            try:
                self._known[id(value)] = value, self._read(value)
            finally:
                del self._open[id(value)]
        return self._known[id(value)][1]

    def _read(self, value: Any) -> str:
        read = _READERS.get(type(value))
        if read is not None:
            return read(self, value)
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, os.PathLike):
            return repr(os.fspath(value))
        if hasattr(value, "get_config") and hasattr(
            value, "get_weights"
        ):  # Keras pickles a model as a file with a date
            return self._object(type(value), [value.get_config(), value.get_weights()])
        return self._instance(value)

    def read_sequence(self, value: Any) -> str:
        return f"[{', '.join(map(self.text, value))}]"  # lists and tuples mean the same in parameters

    def read_set(self, value: Any) -> str:
        return f"{{{', '.join(sorted(map(self.text, value)))}}}"

    def read_mapping(self, value: Any) -> str:
        # In order, which is that of the layers in a module.
        return f"{{{', '.join(f'{self.text(key)}: {self.text(item)}' for key, item in value.items())}}}"

    def read_bytes(self, value: Any) -> str:
        return f"bytes {_digest(value)}"

    def read_array(self, value: np.ndarray) -> str:
        if value.dtype.hasobject:
            return f"array {value.shape} {self.read_sequence(value.ravel().tolist())}"
        return f"array {value.dtype.str} {value.shape} {_digest(np.ascontiguousarray(value).tobytes())}"

    def _tensor(self, value: torch.Tensor) -> str:
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise UnidentifiedError("a tensor that is sparse, quantized or without data")
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        return f"tensor {value.dtype} {tuple(value.shape)} {_digest(content.data)}"

    def read_module(self, value: types.ModuleType) -> str:
        if _installed(value.__name__):
            return value.__name__
        try:
            return f"{value.__name__} {_digest(Path(value.__file__ or '').read_bytes())}"
        except OSError as error:
            raise UnidentifiedError(f"the module {value.__name__}, which has no file") from error

    def _class(self, value: type) -> str:
        name = f"{value.__module__}.{value.__qualname__}"
        if _installed(value.__module__) and "<locals>" not in name:
            return name
        attributes = {key: item for key, item in vars(value).items() if key not in _NOT_CONTENT}
        return self._object(value.__qualname__, [value.__bases__, self._attributes(attributes)])

    def _attributes(self, attributes: dict[str, Any]) -> str:
        return ", ".join(f"{key}={self.text(item)}" for key, item in sorted(attributes.items()))

    def read_descriptor(self, value: Any) -> str:
        return self._object(type(value), [value.__func__])

    def read_property(self, value: property) -> str:
        return self._object(property, [value.fget, value.fset, value.fdel])

    def read_function(self, value: types.FunctionType) -> str:
        name = f"{value.__module__}.{value.__qualname__}"
        if _installed(value.__module__) and "<" not in name:
            return name
        cells = [cell.cell_contents if _is_filled(cell) else None for cell in value.__closure__ or ()]
        used = {name: value.__globals__[name] for name in _global_names(value.__code__) if name in value.__globals__}
        content = [value.__code__, value.__defaults__, value.__kwdefaults__, cells, used, vars(value)]
        return self._object(value.__qualname__, content)

    def read_code(self, value: types.CodeType) -> str:
        arguments = value.co_varnames[: value.co_argcount + value.co_kwonlyargcount]
        counts = [value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags]
        names = [value.co_names, value.co_freevars, value.co_cellvars, arguments]
        # Bytecode is as it was compiled, not as the interpreter has specialised it since.
        return self._object("code", [value.co_code, value.co_exceptiontable, value.co_consts, counts, names])

    def read_method(self, value: types.MethodType) -> str:
        return self._object(value.__func__, [value.__self__])

    def read_builtin(self, value: types.BuiltinFunctionType) -> str:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType):
            return f"{value.__module__}.{value.__qualname__}"
        return self._object(value.__qualname__, [owner])

    def read_slot(self, value: Any) -> str:
        return f"{value.__objclass__.__qualname__}.{value.__name__}"

    def _instance(self, value: Any) -> str:
        """Read an object as pickle would: the function that makes it again, its arguments, and its state."""
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception as error:
            raise UnidentifiedError(f"a {type(value).__qualname__}, which cannot be pickled ({error})") from error
        if isinstance(reduced, str):
            return self._global(value, reduced)
        make, arguments, state, items, pairs = (*reduced, None, None, None, None)[:5]
        if isinstance(state, dict):
            # Whether a module is in training mode is set by the training.
            ignored = {"training"} if isinstance(value, torch.nn.Module) else set()
            state = self._attributes({str(key): item for key, item in state.items() if key not in ignored})
        return self._object(type(value), [make, arguments, state, list(items or ()), list(pairs or ())])

    def _global(self, value: Any, name: str) -> str:
        """Read an object that pickle takes for a global of a module, such as a ufunc or a function with a cache."""
        if hasattr(value, "__wrapped__"):
            return self._object(type(value), [value.__wrapped__])
        module = getattr(value, "__module__", None) or type(value).__module__
        if not _installed(module) or getattr(sys.modules.get(module), name, None) is not value:
            raise UnidentifiedError(f"a {type(value).__qualname__} named {name!r}, which no installed package has")
        return f"{module}.{name}"

    def _object(self, what: Any, content: list[Any]) -> str:
        name = what if isinstance(what, str) else what.__qualname__
        kind = "" if isinstance(what, str) else self.text(what)
        return f"{name} {_digest((kind + ' ' + self.read_sequence(content)).encode())[:16]}"


_READERS: dict[type, Any] = {
    list: _ContentReader.read_sequence,
    tuple: _ContentReader.read_sequence,
    set: _ContentReader.read_set,
    frozenset: _ContentReader.read_set,
    dict: _ContentReader.read_mapping,
    OrderedDict: _ContentReader.read_mapping,
    types.MappingProxyType: _ContentReader.read_mapping,
    bytes: _ContentReader.read_bytes,
    bytearray: _ContentReader.read_bytes,
    np.ndarray: _ContentReader.read_array,
    np.memmap: _ContentReader.read_array,
    types.ModuleType: _ContentReader.read_module,
    types.FunctionType: _ContentReader.read_function,
    types.CodeType: _ContentReader.read_code,
    types.MethodType: _ContentReader.read_method,
    types.BuiltinFunctionType: _ContentReader.read_builtin,
    types.MemberDescriptorType: _ContentReader.read_slot,
    types.GetSetDescriptorType: _ContentReader.read_slot,
    types.MethodDescriptorType: _ContentReader.read_slot,
    types.WrapperDescriptorType: _ContentReader.read_slot,
    types.ClassMethodDescriptorType: _ContentReader.read_slot,
    staticmethod: _ContentReader.read_descriptor,
    classmethod: _ContentReader.read_descriptor,
    property: _ContentReader.read_property,
}


def _digest(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _global_names(code: types.CodeType) -> list[str]:
    """Return the names of the globals that a function, and the functions within it, use; in order."""
    names = {item.argval for item in dis.get_instructions(code) if item.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(_global_names(constant))
    return sorted(names)


@functools.lru_cache(maxsize=1000)
def _installed(module: str | None) -> bool:
    """Tell whether a module belongs to Python or to an installed package, whose names stand for their content."""
    package = (module or "").partition(".")[0]
    if package in sys.stdlib_module_names or package == "sklearn_psp":
        return True
    found = sys.modules.get(package)
    places = [getattr(found, "__file__", None), *getattr(found, "__path__", ())]
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}
    folders.add(site.getusersitepackages())
    return any(Path(place).is_relative_to(folder) for place in places if place for folder in folders)
