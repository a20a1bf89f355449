"""What a file may make, and what it may not; damaged and foreign files."""

from __future__ import annotations

import importlib
import json
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.preprocessing import FunctionTransformer

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._persistence import load, save
from sklearn_psp._persistence._trusted import TRUSTED
from sklearn_psp.exceptions import PersistenceError, UntrustedTypeError

LARGE = np.random.default_rng(0).normal(size=(200, 300))


class Witness(BaseEstimator):
    """Tells whether it was made."""

    made = 0

    def __new__(cls, *args):
        Witness.made += 1
        return super().__new__(cls)


NAME = f"{Witness.__module__}.Witness"


def shout(X):
    """Print; a function nobody trusts."""
    raise AssertionError("called")


def rewrite(path, **members):
    """Change members of a file; None removes one."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content.update({name.replace("__", "."): value for name, value in members.items()})
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            if value is not None:
                archive.writestr(name, value)


def manifest_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("sklearn_psp.json"))


def test_trusted_names__are_where_their_things_are():
    for name in TRUSTED:
        module, _, short = name.rpartition(".")
        thing = getattr(importlib.import_module(module), short)
        assert f"{thing.__module__}.{thing.__qualname__}" == name


def test_unknown_type__is_refused_by_name_before_anything_is_made(path):
    save(FunctionTransformer(shout, kw_args={"a": Witness()}), path)
    made = Witness.made
    with pytest.raises(UntrustedTypeError, match="not trusted: ") as caught:
        load(path)
    assert Witness.made == made
    assert NAME in str(caught.value)
    assert f"{__name__}.shout" in str(caught.value)
    assert load(path, trusted=[NAME, f"{__name__}.shout"]).func is shout
    assert load(path, trusted=[Witness, f"{__name__}.shout"]).func is shout


@pytest.mark.parametrize("trusted", [True, "numpy.ndarray", [1], PCA], ids=repr)
def test_trusted_that_is_no_list_of_types__is_an_error(trusted, path):
    save(PCA(), path)
    with pytest.raises(TypeError, match="give a list of classes or of their dotted names"):
        load(path, trusted=trusted)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "sklearn_psp._cli._main.main", "subprocess.Popen"])
@pytest.mark.parametrize("loader", ["ConstructorFromReduceNode", "FunctionNode", "TypeNode", "ObjectNode"])
def test_crafted_call__is_refused(name, loader, path):
    save(PSPNetFeaturizer(), path)
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
    module, _, short = name.rpartition(".")
    argument = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"x"'}
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [argument]}
    hostile = {"__class__": short, "__module__": module, "__loader__": loader, "content": arguments}
    schema["content"]["content"]["verbose"] = hostile
    rewrite(path, schema__json=json.dumps(schema))
    with pytest.raises(UntrustedTypeError, match=re.escape(name)):
        load(path)


def test_newer_format__asks_for_an_update(path):
    save(PCA(), path)
    rewrite(path, sklearn_psp__json=json.dumps({**manifest_of(path), "format": 2}))
    with pytest.raises(PersistenceError, match=r"has format 2, .* reads formats up to 1: update sklearn_psp"):
        load(path)


@pytest.mark.parametrize("estimator", [PCA().fit(LARGE), PSPNetFeaturizer()], ids=["sklearn", "own"])
def test_other_version_of_scikit_learn__is_warned_of_as_scikit_learn_does(estimator, path, monkeypatch):
    monkeypatch.setattr(sklearn, "__version__", "1.4.2")
    monkeypatch.setattr("sklearn.base.__version__", "1.4.2")
    save(estimator, path)
    monkeypatch.undo()
    with pytest.warns(InconsistentVersionWarning, match=r"from version 1\.4\.2 when using version") as caught:
        load(path)
    assert len(caught) == 1


def test_pickle__is_never_loaded(path):
    path.write_bytes(pickle.dumps(PCA()))
    with pytest.raises(PersistenceError, match=r"is not a file of sklearn_psp\.save.*A pickle is never loaded"):
        load(path)


def test_zip_of_others__is_refused(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(PersistenceError, match=r"was not written by sklearn_psp\.save"):
        load(path)


def test_file_of_skops__is_sent_there(path):
    save(PCA(), path)
    rewrite(path, sklearn_psp__json=None)
    with pytest.raises(PersistenceError, match=r"use skops\.io\.load"):
        load(path)


def test_missing_file_and_folder__are_said(path):
    with pytest.raises(FileNotFoundError, match="estimator"):
        load(path)
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        save(PCA(), path / "below")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        save(PCA(), path.parent)


def test_every_cut__is_an_error(path):
    save(PCA(2).fit(LARGE), path)
    whole = path.read_bytes()
    for length in [0, 1, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(PersistenceError, match=r"copy the file again|damaged"):
            load(path)


@pytest.mark.parametrize("member", ["npy", "schema.json", "sklearn_psp.json"])
def test_flipped_bits__are_an_error(member, path):
    save(PCA().fit(LARGE), path)
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = max((info for info in archive.infolist() if info.filename.endswith(member)), key=lambda i: i.file_size)
    lengths = whole[info.header_offset + 26 : info.header_offset + 30]  # of name and extra field, which come before it
    start = info.header_offset + 30 + sum(struct.unpack("<HH", lengths))
    whole[start + info.file_size // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(PersistenceError, match="damaged"):
        load(path)


@pytest.mark.parametrize("shape", ["(9000000000000, 2)", "(2, 3)", "(-1, 5)"])
def test_array_that_claims_another_size__is_refused_before_memory_is_asked_for(shape, path):
    save(PCA().fit(LARGE), path)
    with zipfile.ZipFile(path) as archive:
        name = max(archive.infolist(), key=lambda info: info.file_size).filename
        data = archive.read(name)
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    crafted = data[:10] + header.ljust(int.from_bytes(data[8:10], "little") - 1) + b"\n" + data[10 + len(header) :]
    rewrite(path, **{name.replace(".", "__"): crafted})
    with pytest.raises(PersistenceError, match="damaged"):
        load(path)


def test_stand_in_for_an_array_that_is_not_there__is_an_error(path):
    save(PSPNetFeaturizer(), path)
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
    argument = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": '"/etc/passwd"'}
    schema["content"]["content"]["verbose"] = {
        "__class__": "StoredArray",
        "__module__": "sklearn_psp._persistence._arrays",
        "__loader__": "ConstructorFromReduceNode",
        "content": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [argument]},
    }
    rewrite(path, schema__json=json.dumps(schema))
    with pytest.raises(PersistenceError, match="has no array '/etc/passwd'"):
        load(path)
