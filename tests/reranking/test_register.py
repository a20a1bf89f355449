"""A re-ranker of a user's own, added without touching a file of the package."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV, StratifiedKFold

import sklearn_psp
from sklearn_psp import NearestImageRetriever, load, register_reranker, save
from sklearn_psp.reranking import Reranker, make_reranker
from sklearn_psp.utils import _names

from .conftest import clustered

_CV = StratifiedKFold(3, shuffle=True, random_state=0)


class SecondFirst(Reranker):
    """Swaps the first two of a shortlist."""

    _parameter_constraints = {"shortlist": [int]}

    def __init__(self, shortlist=20):
        self.shortlist = shortlist

    def shortlist_distances(self, query, positions, distances, own=-1):
        order = np.arange(len(positions), dtype=np.float64)
        order[:2] = order[:2][::-1]
        return order


@pytest.fixture
def name():
    register_reranker("second_first", SecondFirst)
    return "second_first"


@pytest.fixture
def gallery():
    X = clustered(60)
    return X, np.arange(60) % 3


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that declares an entry point; worker processes are started anew, with its folder."""
    folder = tmp_path / "acme_rerankers-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rerankers\nVersion: 1.0\n")
    points = "acme_second = acme_rerankers:Second\nacme_number = acme_rerankers:NUMBER\n"
    (folder / "entry_points.txt").write_text(f"[sklearn_psp.rerankers]\n{points}")
    source = Path(__file__).read_text(encoding="utf-8")
    body = source[source.index("class SecondFirst") : source.index("@pytest.fixture")].replace("SecondFirst", "Second")
    imports = "import numpy as np\nfrom sklearn_psp.reranking import Reranker\n\nNUMBER = 3\n\n\n"
    (tmp_path / "acme_rerankers.py").write_text(imports + body)
    get_reusable_executor().shutdown(wait=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    yield tmp_path
    get_reusable_executor().shutdown(wait=True)


def assert_swapped(positions, plain):
    assert_array_equal(positions[:, :2], plain[:, 1::-1])
    assert_array_equal(positions[:, 2:], plain[:, 2:])


def test_registered_name__is_used_by_the_retriever(name, gallery):
    X, y = gallery
    plain = NearestImageRetriever(5).fit(X, y).kneighbors(X, return_distance=False)
    assert_swapped(NearestImageRetriever(5, reranker=name).fit(X, y).kneighbors(X, return_distance=False), plain)
    assert isinstance(make_reranker(name), SecondFirst)


def test_registered_name__is_a_value_of_a_grid(name, gallery):
    grid = {"reranker": [None, name, f"{__name__}:SecondFirst", SecondFirst(5)]}
    search = GridSearchCV(NearestImageRetriever(1), grid, cv=_CV).fit(*gallery)
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] == scores[2] == scores[3]
    assert scores[0] != scores[1]


def test_registered_name__survives_pickle_and_save(name, gallery, tmp_path):
    X, y = gallery
    fitted = NearestImageRetriever(5, reranker=name).fit(X, y)
    expected = fitted.kneighbors(X)
    save(fitted, tmp_path / "gallery.skops")
    for again in (pickle.loads(pickle.dumps(fitted)), load(tmp_path / "gallery.skops")):
        assert again.reranker == name
        for a, b in zip(again.kneighbors(X), expected, strict=True):
            assert_array_equal(a, b)


def test_dotted_path_and_entry_point__are_found_by_worker_processes(package, gallery):
    grid = {"reranker": [None, "acme_rerankers:Second", "acme_second", "diffusion"]}
    results = [
        GridSearchCV(NearestImageRetriever(1), grid, cv=_CV, n_jobs=n_jobs, error_score="raise").fit(*gallery)
        for n_jobs in (None, 2)
    ]
    alone, parallel = (search.cv_results_["mean_test_score"] for search in results)
    assert_array_equal(alone, parallel)
    assert alone[1] == alone[2] != alone[0]


def test_entry_point__is_named_where_a_name_is_unknown(package):
    with pytest.raises(ValueError, match=r"'diffusion', .*'acme_second'.* did you mean 'acme_second'"):
        make_reranker("acme_secund")
    with pytest.raises(TypeError, match="a re-ranker must be a class with the methods fit and rerank, got 3"):
        make_reranker("acme_number")


def test_registered_class__is_among_the_types_of_saved_files(name):
    assert {SecondFirst, sklearn_psp.reranking.Diffusion} <= _names.registered_types()


def test_registering_again__replaces_ones_own_only(name):
    class Other(SecondFirst):
        pass

    register_reranker(name, Other)
    assert type(make_reranker(name)) is Other
    with pytest.raises(ValueError, match="'diffusion' is a re-ranker of sklearn_psp and cannot be replaced"):
        register_reranker("diffusion", Other)


@pytest.mark.parametrize("wrong", ["", "a:b"])
def test_registering__checks_the_name(wrong):
    with pytest.raises(ValueError, match="the name of a re-ranker must not be empty and must have no colon"):
        register_reranker(wrong, SecondFirst)
    with pytest.raises(TypeError, match="the name of a re-ranker must be a str"):
        register_reranker(3, SecondFirst)


@pytest.mark.parametrize("wrong", [3, SecondFirst(), print, dict])
def test_registering__takes_classes_of_re_rankers(wrong):
    with pytest.raises(TypeError, match="a re-ranker must be a class with the methods fit and rerank"):
        register_reranker("wrong", wrong)


@pytest.mark.parametrize("wrong", ["os:system", "os:nothing", "no_such_package:Name", ":", "os:"])
def test_dotted_path__to_what_is_no_re_ranker_calls_nothing(gallery, wrong):
    with pytest.raises((TypeError, ValueError), match="re-ranker"):
        NearestImageRetriever(reranker=wrong).fit(*gallery)


def test_unknown_name__is_refused_at_fit(gallery):
    with pytest.raises(ValueError, match=r"reranker has to be one of .* got 'difusion'; did you mean 'diffusion'"):
        NearestImageRetriever(reranker="difusion").fit(*gallery)


def test_registering__loads_no_network():
    code = "from sklearn_psp import register_reranker; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
