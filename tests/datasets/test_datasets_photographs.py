"""load_photographs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sklearn_psp.datasets import _photographs, load_photographs
from sklearn_psp.datasets._photographs import PHOTOGRAPHS
from sklearn_psp.exceptions import MissingDependencyError, MissingImageError


def test_twenty_photographs__each_a_class():
    photographs = load_photographs()
    assert len(photographs.filenames) == 20
    assert photographs.target.tolist() == list(range(20))
    assert len(set(photographs.target_names)) == len(set(photographs.titles)) == 20
    assert photographs.frame.columns.tolist() == ["filename", "target", "name", "title", "credit"]
    assert photographs.frame["filename"].tolist() == photographs.filenames
    np.testing.assert_array_equal(photographs.frame["target"], photographs.target)


def test_every_photograph__opens():
    for path in load_photographs().filenames:
        with Image.open(path) as image:
            image.verify()
            assert min(image.size) > 100


def test_every_photograph__has_an_author_and_a_licence_or_says_that_they_are_not_stated():
    photographs = load_photographs()
    for credit in photographs.credits:
        assert "," in credit or "not stated" in credit
        assert any(term in credit for term in ("CC0", "CC BY", "public domain", "no known copyright", "not stated"))
        assert credit in photographs.DESCR


@pytest.mark.parametrize("photograph", PHOTOGRAPHS[:2], ids=lambda photograph: photograph.name)
def test_credit__names_the_account_that_scikit_learn_links_to(photograph):
    path = load_photographs().filenames[PHOTOGRAPHS.index(photograph)]
    text = Path(path).with_name("README.txt").read_text(encoding="utf-8")
    entry = text[text.index(photograph.file) :]
    account = photograph.credit.partition(",")[0]
    assert entry.index(f"https://www.flickr.com/photos/{account}/") == entry.index("https://www.flickr.com/photos/")


def test_without_scikit_image__names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingDependencyError, match=r"load_photographs needs .*'sklearn_psp\[demo\]'"):
        load_photographs()


def test_image_gone_from_the_package__is_named(monkeypatch):
    gone = PHOTOGRAPHS[3]._replace(file="gone.png")
    monkeypatch.setattr(_photographs, "PHOTOGRAPHS", (*PHOTOGRAPHS[:3], gone))
    with pytest.raises(MissingImageError, match=r"gone\.png.*reinstall"):
        load_photographs()


def test_loading__imports_no_torch():
    code = (
        "import sys; from sklearn_psp.datasets import load_photographs; load_photographs();"
        "assert not {'torch', 'numba', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
