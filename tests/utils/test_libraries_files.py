from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import sklearn_psp
from sklearn_psp.exceptions import WeightsError
from sklearn_psp.utils._libraries import file_sha256, installed_file


def test_a_file_of_a_package_is_found_an_absent_package_is_none_and_an_absent_file_an_error():
    file = "utils/_libraries.py"
    assert installed_file("sklearn_psp", file) == Path(sklearn_psp.__file__).parent / file
    assert installed_file("no_such_package", "w.pth") is None
    with pytest.raises(WeightsError, match="pip install --force-reinstall sklearn-psp"):
        installed_file("sklearn_psp", "no.pth")


def test_the_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()
