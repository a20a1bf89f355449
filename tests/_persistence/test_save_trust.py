"""What a file may make, and what it may not; damaged and foreign files."""

from __future__ import annotations

import importlib
import io
import json
import pickle
import re
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import sklearn
import xxhash
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.preprocessing import FunctionTransformer

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp._persistence import _public_names, load, save
from sklearn_psp.exceptions import PersistenceError, UntrustedTypeError
from sklearn_psp.reranking import Reranker
from sklearn_psp.reranking._registry import RERANKERS

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


def rewrite(path, change=lambda schema: None, **members):
    """Change the description and the members of a file as somebody would who knows all about it; None removes one."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(io.BytesIO(content["estimator.skops"])) as archive:
        inner = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(inner["schema.json"])
    change(schema)
    inner["schema.json"] = json.dumps(schema).encode()
    for name in set(members) & set(inner):
        inner[name] = members.pop(name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in inner.items():
            archive.writestr(name, value)
    content["estimator.skops"] = buffer.getvalue()
    manifest = json.loads(content["sklearn_psp.json"])
    manifest["description"] = {"bytes": len(buffer.getvalue()), "xxh3": xxhash.xxh3_128_hexdigest(buffer.getvalue())}
    content["sklearn_psp.json"] = json.dumps(manifest).encode()
    content.update({name.replace("__", "."): value for name, value in members.items()})
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            if value is not None:
                archive.writestr(name, value)


def manifest_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("sklearn_psp.json"))


def test_trusted_names__are_where_their_things_are():
    for name in _public_names.trusted_types():
        module, _, short = name.rpartition(".")
        thing = getattr(importlib.import_module(module), short)
        assert f"{thing.__module__}.{thing.__qualname__}" == name


def test_names_in_files__find_their_things_and_are_found_for_them():
    for name in {*_public_names._PRIVATE, *_public_names._ALIASES.values()} - {"sklearn_psp.StoredArray"}:
        assert ".".join(_public_names.name_in_file(_public_names._find(name))) == name
    assert set(_public_names._ALIASES.values()) <= {*_public_names._PRIVATE, *public_names()}


def public_names():
    """Names of the package that are classes or functions."""
    for module in ("sklearn_psp", "sklearn_psp.faces", "sklearn_psp.metrics", "sklearn_psp.reranking"):
        for name in importlib.import_module(module).__all__:
            yield f"{module}.{name}"


@pytest.mark.parametrize("name", ["sklearn_psp.save", "sklearn_psp.load", "sklearn_psp.metrics.read_lfw_pairs"])
def test_public_function_that_does_more_than_compute__may_not_be_called(name, path):
    save(PSPNetFeaturizer(), path)
    hostile = crafted(name, "ConstructorFromReduceNode", '"/etc/passwd"')
    rewrite(path, lambda schema: schema["content"]["content"].update(verbose=hostile))
    with pytest.raises(UntrustedTypeError, match=re.escape(name)):
        load(path)


def crafted(name, loader, *arguments):
    """A part of a description that has a thing called."""
    module, _, short = name.rpartition(".")
    leaf = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode"}
    content = [{**leaf, "content": argument} for argument in arguments]
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": content}
    return {"__class__": short, "__module__": module, "__loader__": loader, "content": arguments}


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
    hostile = crafted(name, loader, '"x"')
    rewrite(path, lambda schema: schema["content"]["content"].update(verbose=hostile))
    with pytest.raises(UntrustedTypeError, match=re.escape(name)):
        load(path)


def test_newer_format__asks_for_an_update(path):
    save(PCA(), path)
    rewrite(path, sklearn_psp__json=json.dumps({**manifest_of(path), "format": 3}))
    with pytest.raises(PersistenceError, match=r"has format 3, .* reads formats up to 2: update sklearn_psp"):
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
    import skops.io

    skops.io.dump(PCA(), path)
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


@pytest.mark.parametrize("member", ["arrays.safetensors", "estimator.skops", "sklearn_psp.json"])
def test_flipped_bits__are_an_error(member, path):
    save(PCA().fit(LARGE), path)
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
    lengths = whole[info.header_offset + 26 : info.header_offset + 30]  # of name and extra field, which come before it
    start = info.header_offset + 30 + sum(struct.unpack("<HH", lengths))
    whole[start + info.file_size // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(PersistenceError, match="damaged"):
        load(path)


@pytest.mark.parametrize("shape", ["(9000000000000, 2)", "(2, 3)", "(-1, 5)"])
def test_small_array_that_claims_another_size__is_refused_before_memory_is_asked_for(shape, path):
    save(PCA().fit(LARGE[:, :20]), path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(io.BytesIO(archive.read("estimator.skops"))) as inner:
        name = max(
            (name for name in inner.namelist() if name.endswith("npy")), key=lambda n: inner.getinfo(n).file_size
        )
        data = inner.read(name)
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = data[:10] + header.ljust(int.from_bytes(data[8:10], "little") - 1) + b"\n" + data[10 + len(header) :]
    rewrite(path, **{name: content})
    with pytest.raises(PersistenceError, match="damaged"):
        load(path)


@pytest.mark.parametrize("shape", [[9 * 10**12, 2], [2, 3], [-1, 5], [-200, -300]])
def test_array_that_claims_another_size__is_refused_before_memory_is_asked_for(shape, path):
    save(PCA().fit(LARGE), path)

    def claim(schema):
        arguments = schema["content"]["content"]["components_"]["content"]["content"]
        dimensions = arguments[2]["content"]
        for dimension, size in zip(dimensions, shape, strict=True):
            dimension["content"] = json.dumps(size)
            dimension.pop("__id__", None)

    rewrite(path, claim)
    with pytest.raises(PersistenceError, match="damaged"):
        load(path)


def test_stand_in_for_an_array_that_is_not_there__is_an_error(path):
    save(PSPNetFeaturizer(), path)
    missing = crafted("sklearn_psp.StoredArray", "ConstructorFromReduceNode", '"/etc/passwd"', '"<f8"', "[1]", '"C"')
    rewrite(path, lambda schema: schema["content"]["content"].update(verbose=missing))
    with pytest.raises(PersistenceError, match="has no array '/etc/passwd'"):
        load(path)


def bomb(path, name, size=1 << 30):
    """Add a member that is a thousand times as large when it is read."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))


@pytest.mark.parametrize("name", ["junk.bin", "more.npy", "arrays.safetensors"])
@pytest.mark.parametrize("format_number", [1, 2])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_that_would_take_more_memory_than_the_file_has_bytes__is_refused(name, format_number, path):
    if format_number == 1:
        shutil.copy(Path(__file__).parent / "files" / "format1" / "gallery.skops", path)
    else:
        save(PCA().fit(LARGE), path)
    bomb(path, name, 1 << 26)
    tracemalloc.start()
    with pytest.raises(PersistenceError, match=r"which save never writes|save writes no such"):
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_folder_is_no_file(path):
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        load(path)


def test_member_of_registered_table__needs_no_trust(path):
    class Mine(Reranker):
        """A re-ranker of somebody else."""

    Mine.__qualname__ = "Mine"
    globals()["Mine"] = Mine
    try:
        save(NearestImageRetriever(reranker=Mine()), path)
        with pytest.raises(UntrustedTypeError, match="Mine"):
            load(path)
        RERANKERS.register("mine", Mine)
        assert type(load(path).reranker) is Mine
    finally:
        RERANKERS._added.pop("mine", None)
        del globals()["Mine"]
