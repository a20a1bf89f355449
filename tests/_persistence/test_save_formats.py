"""Files of every format there was still load, and give the answers they gave; what a file looks like now."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import safetensors
from make_files import FILES, answer
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import InconsistentVersionWarning

from sklearn_psp import NearestImageRetriever
from sklearn_psp._persistence import load, save
from sklearn_psp._persistence._save import FORMAT
from sklearn_psp._persistence._stored_arrays import ARRAYS, _start_of
from sklearn_psp.exceptions import PersistenceError

SAVED = sorted(FILES.glob("format*/*.skops"))
FLIPS = 300
RANDOM = np.random.default_rng(0)


class Parameters(BaseEstimator):
    """Holds a parameter."""

    def __init__(self, value=None):
        self.value = value


@pytest.fixture(params=SAVED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def saved(request):
    """A file that was saved once."""
    return request.param


def load_quietly(path, **options):
    """Load what another version of scikit-learn may have written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        return load(path, **options)


def answers(estimator, saved):
    """What an estimator answers, and what it answered when it was saved."""
    with np.load(saved.parent / "expected.npz") as expected:
        if saved.stem not in expected:
            return None, None
        return answer(saved.stem, estimator, *(expected[name] for name in ("X", "pairs", "images"))), expected[
            saved.stem
        ]


def test_every_format__has_its_files():
    assert {path.parent.name for path in SAVED} == {f"format{number}" for number in range(1, FORMAT + 1)}
    kinds = {"gallery", "featurizer", "search", "verifier", "identifier", "classifier", "aligner"}
    for folder in FILES.iterdir():
        assert kinds <= {path.stem for path in folder.glob("*.skops")}
    assert sum(path.stat().st_size for path in FILES.rglob("*.*")) < 1_500_000


def test_file_of_any_format__loads_and_answers_as_it_did(saved, path):
    estimator = load_quietly(saved)
    found, expected = answers(estimator, saved)
    if saved.stem in ("featurizer", "verifier"):  # computed anew, maybe by another processor
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    elif expected is not None:
        np.testing.assert_array_equal(found, expected)
    save(estimator, path)
    again = answers(load(path), saved)[0]
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("saved", [path for path in SAVED if path.parent.name != "format1"], ids=lambda path: path.stem)
def test_file__names_public_names_only(saved):
    with zipfile.ZipFile(saved) as archive:
        manifest = json.loads(archive.read("sklearn_psp.json"))
        description = archive.read("estimator.skops")
    with zipfile.ZipFile(io.BytesIO(description)) as archive:
        schema = archive.read("schema.json").decode()
    assert manifest["format"] == int(saved.parent.name.removeprefix("format"))
    for module in {manifest["class"].rpartition(".")[0], *re.findall(r'"__module__": ?"([^"]*)"', schema)}:
        if module.startswith("sklearn_psp"):
            assert "._" not in module


@pytest.mark.parametrize("name", ["gallery", "verifier", "identifier", "grid"])
def test_flipped_byte__gives_the_same_answers_or_an_error(name, path):
    saved = FILES / f"format{FORMAT}" / f"{name}.skops"
    whole = saved.read_bytes()
    expected = answers(load_quietly(saved), saved)[0]
    n_refused = 0
    for place in np.random.default_rng(0).integers(0, len(whole), size=FLIPS // 4):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(RANDOM.integers(8))
        path.write_bytes(damaged)
        try:
            loaded = load_quietly(path)
        except PersistenceError:
            n_refused += 1
        else:
            np.testing.assert_array_equal(answers(loaded, saved)[0], expected)
    assert n_refused > FLIPS // 8


@pytest.mark.parametrize("part", ["directory", "end"])
def test_flipped_byte_of_the_directory__is_an_error_or_changes_nothing(part, path):
    save(PCA(2).fit(RANDOM.normal(size=(50, 900))), path)
    whole, expected = path.read_bytes(), load(path).components_
    end = whole.rindex(b"PK\5\6")
    start = int.from_bytes(whole[end + 16 : end + 20], "little")
    for place in range(start, end) if part == "directory" else range(end, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with suppress(PersistenceError):
            np.testing.assert_array_equal(load(path).components_, expected)


def test_arrays__begin_at_multiples_of_64_and_can_be_mapped(path):
    dtypes = ["f4", "u1", "f2", "bool", ">f8", "M8[ns]", "U3", "c16"]
    arrays = [RANDOM.integers(0, 2, size=(1111 + 7 * i, 13)).astype(dtype) for i, dtype in enumerate(dtypes)]
    arrays.append(np.asfortranarray(arrays[0] + 5))
    save(Parameters(arrays), path)
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        info = archive.getinfo(ARRAYS)
        assert info.compress_type == zipfile.ZIP_STORED
        start = _start_of(file, info)
        file.seek(start)
        length = int.from_bytes(file.read(8), "little")
        layout = json.loads(file.read(length))
        content = archive.read(ARRAYS)
    assert start % 64 == 0
    with safetensors.safe_open(io_path(path, content), framework="numpy") as library:  # valid, by its own rules
        assert set(library.keys()) == set(layout)
        np.testing.assert_array_equal(library.get_tensor("0"), arrays[0])
    for number, array in enumerate(arrays):
        first, last = layout[str(number)]["data_offsets"]
        place = start + 8 + length + first
        assert place % 64 == 0
        assert last - first == array.nbytes
        order = "F" if number == len(arrays) - 1 else "C"
        mapped = np.memmap(path, array.dtype, "r", offset=place, shape=array.shape, order=order)
        np.testing.assert_array_equal(mapped, array)
    for found, array in zip(load(path, trusted=[f"{__name__}.Parameters"]).value, arrays, strict=True):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.flags.f_contiguous == array.flags.f_contiguous


def io_path(path, content):
    """Write the arrays to a file of their own."""
    alone = path.with_suffix(".safetensors")
    alone.write_bytes(content)
    return alone


def test_large_array__is_beside_the_description_and_small_ones_within(path):
    gallery = NearestImageRetriever().fit(RANDOM.normal(size=(2000, 64)))
    save(gallery, path)
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        manifest = json.loads(archive.read("sklearn_psp.json"))
    assert set(sizes) == {"arrays.safetensors", "estimator.skops", "sklearn_psp.json"}
    assert sizes["estimator.skops"] == manifest["description"]["bytes"] < 40_000
    assert sizes["arrays.safetensors"] == manifest["arrays"]["bytes"] > 2000 * 64 * 4
