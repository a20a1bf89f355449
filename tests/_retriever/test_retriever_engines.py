"""Engines written outside of the package: a class that searches fixed vectors is enough, and all verbs work over it."""

import pickle
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy.spatial import cKDTree
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sklearn_psp import NearestImageRetriever, load, register_engine, retrieve, save
from sklearn_psp._indexes import ENGINES, InMemoryEngine
from sklearn_psp.exceptions import PersistenceError

rng = np.random.default_rng(0)
X = rng.standard_normal((120, 5)).astype(np.float32)
Y = np.arange(120) % 3
META = pd.DataFrame({"year": np.arange(120) % 7})
SOURCE = '''
import numpy as np
from scipy.spatial import cKDTree


class KDTree:
    """A KD-tree of scipy: proposes, and lets the distance of the package decide."""

    recall = None

    def __init__(self, exact, *, leafsize=8):
        self.exact, self.leafsize, self.tree = exact, leafsize, cKDTree(exact.vectors, leafsize=leafsize)

    @property
    def n_samples(self):
        return self.exact.n_samples

    def query(self, Q, k, subset=None):
        distances = np.empty((len(Q), k), dtype=np.float32)
        positions = np.empty((len(Q), k), dtype=np.intp)
        hidden = 0 if subset is None else self.n_samples - subset.count
        for i, q in enumerate(Q):
            if not k:
                continue
            # Ties at the end of the list may be any: all that are as far as the last are candidates.
            reach = self.tree.query(q, [min(k + hidden, self.n_samples)])[0][-1]
            mask = np.zeros(self.n_samples, dtype=bool)
            mask[self.tree.query_ball_point(q, reach * (1 + 1e-6) + 1e-9)] = True
            mask &= True if subset is None else subset.mask
            distances[i : i + 1], positions[i : i + 1] = self.exact.query(Q[i : i + 1], k, type_of(subset)(mask))
        return distances, positions

    def to_arrays(self):
        return {"leafsize": self.leafsize}

    @classmethod
    def from_arrays(cls, exact, state):
        return cls(exact, leafsize=state["leafsize"])


def type_of(subset):
    from sklearn_psp._indexes import Subset

    return Subset
'''


@pytest.fixture(scope="module")
def kd_tree(tmp_path_factory):
    """The engine, in a module that other processes can import."""
    folder = tmp_path_factory.mktemp("engines")
    (folder / "kd_tree_engine.py").write_text(SOURCE, encoding="utf-8")
    sys.path.insert(0, str(folder))
    import kd_tree_engine

    assert kd_tree_engine.cKDTree is cKDTree
    register_engine("kd_tree", kd_tree_engine.KDTree)
    yield kd_tree_engine.KDTree
    sys.path.remove(str(folder))


@pytest.fixture(params=["cosine", "euclidean"])
def both(request, kd_tree):
    """The same gallery, searched by the new engine and exactly."""
    return [
        NearestImageRetriever(4, algorithm=algorithm, metric=request.param).fit(X, Y, metadata=META)
        for algorithm in ("kd_tree", "exact")
    ]


def assert_alike(one, other):
    for queries in (X[:9] + np.float32(0.1), None):
        for got, expected in zip(one.kneighbors(queries), other.kneighbors(queries), strict=True):
            assert_array_equal(got, expected)
    pd.testing.assert_frame_equal(one.retrieve(X[:5]), other.retrieve(X[:5]))
    where = one.metadata_["year"] == 2
    pd.testing.assert_frame_equal(one.retrieve(X[:5], where=where), other.retrieve(X[:5], where=where))
    pd.testing.assert_frame_equal(retrieve(one, None, 2), retrieve(other, None, 2))
    assert_array_equal(one.predict(X[:20]), other.predict(X[:20]))
    assert one.score() == other.score()
    for got, expected in zip(one.radius_neighbors(X[:5], 0.4), other.radius_neighbors(X[:5], 0.4), strict=True):
        assert [row.tolist() for row in got] == [row.tolist() for row in expected]
    pd.testing.assert_frame_equal(one.find_duplicates(0.1), other.find_duplicates(0.1))
    assert (one.kneighbors_graph() != other.kneighbors_graph()).nnz == 0


def test_all_verbs_answer_as_exact_search_does(both):
    one, other = both
    assert one.algorithm_ == "kd_tree"
    assert (one.recall_, one.recall_sample_size_) == (1.0, 0)
    assert isinstance(one._gallery.index.searcher, ENGINES["kd_tree"])
    assert_alike(one, other)
    for gallery in both:
        gallery.partial_fit(X[:30] + np.float32(0.2), Y[:30], metadata=META[:30]).remove(np.arange(10, 40))
    assert_alike(one, other)
    for gallery in both:
        gallery.compact()
    assert_alike(one, other)


def test_skipped_rows_are_never_found(kd_tree):
    bad = X.copy()
    bad[[3, 70]] = np.nan
    one, other = (
        NearestImageRetriever(4, algorithm=algorithm, on_invalid="skip", metric="euclidean").fit(bad, Y, metadata=META)
        for algorithm in ("kd_tree", "exact")
    )
    assert one.skipped_.tolist() == [3, 70]
    assert_alike(one, other)


def test_a_re_ranker_stands_on_it(kd_tree):
    one, other = (
        NearestImageRetriever(4, algorithm=algorithm, reranker="dba").fit(X, Y) for algorithm in ("kd_tree", "exact")
    )
    assert_array_equal(one.kneighbors(X[:20])[1], other.kneighbors(X[:20])[1])


def test_files_and_pickles_bring_it_back(both, tmp_path):
    one, other = both
    one.partial_fit(X[:3], Y[:3], metadata=META[:3]).remove([5])
    other.partial_fit(X[:3], Y[:3], metadata=META[:3]).remove([5])
    save(one, tmp_path / "gallery.skops")
    assert_alike(load(tmp_path / "gallery.skops"), other)
    assert_alike(pickle.loads(pickle.dumps(one)), other)


def test_a_file_does_not_have_a_module_imported(kd_tree, tmp_path, monkeypatch):
    gallery = NearestImageRetriever(2, algorithm="kd_tree_engine:KDTree").fit(X)
    save(gallery, tmp_path / "gallery.skops")
    assert_array_equal(load(tmp_path / "gallery.skops").kneighbors(X)[1], gallery.kneighbors(X)[1])
    monkeypatch.delitem(sys.modules, "kd_tree_engine")
    with pytest.raises(PersistenceError, match=r"engine 'kd_tree_engine:KDTree', which is not known here; import kd_t"):
        load(tmp_path / "gallery.skops")
    assert "kd_tree_engine" not in sys.modules


def test_worker_processes_find_it_by_its_place(kd_tree):
    search = GridSearchCV(
        NearestImageRetriever(3),
        {"algorithm": ["kd_tree_engine:KDTree", "exact"], "engine_params": [None, {"working_memory": 1}]},
        cv=StratifiedKFold(2, shuffle=True, random_state=0),
        n_jobs=2,
        error_score="raise",
    ).fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"])) == 1


def test_its_parameters_are_those_of_its_signature(kd_tree):
    gallery = NearestImageRetriever(algorithm="kd_tree", engine_params={"leafsize": 3, "working_memory": 2}).fit(X)
    assert gallery._gallery.index.searcher.leafsize == 3
    with pytest.raises(ValueError, match=r"'leaf_size'\] is no parameter of algorithm='kd_tree'; did you mean 'leafs"):
        NearestImageRetriever(algorithm="kd_tree", engine_params={"leaf_size": 3}).fit(X)


def test_an_entry_point_of_an_installed_package_is_found(kd_tree, monkeypatch):
    from sklearn_psp.utils import _names

    point = EntryPoint("declared", "kd_tree_engine:KDTree", "sklearn_psp.engines")
    monkeypatch.setattr(_names, "entry_points", lambda group: [point] if group == point.group else [])
    assert NearestImageRetriever(2, algorithm="declared").fit(X).algorithm_ == "declared"


def test_an_engine_that_suits_is_chosen_by_auto(kd_tree):
    class Suited(kd_tree):
        @staticmethod
        def suits(n_samples, n_features):
            return n_features == 17

        @staticmethod
        def check_params(params):
            if params.get("leafsize", 8) < 1:
                raise ValueError("engine_params['leafsize'] must be at least 1")

    register_engine("suited", Suited)
    assert NearestImageRetriever(2).fit(rng.standard_normal((9, 17))).algorithm_ == "suited"
    assert NearestImageRetriever(2).fit(X).algorithm_ == "exact"
    with pytest.raises(ValueError, match=r"'leafsize'.* must be at least 1"):
        NearestImageRetriever(2, engine_params={"leafsize": 0}).fit(X)


def test_a_whole_engine_is_taken_too(kd_tree):
    register_engine("whole", InMemoryEngine(kd_tree))
    assert NearestImageRetriever(2, algorithm="whole").fit(X).algorithm_ == "whole"


@pytest.mark.parametrize(
    ("name", "engine", "error", "message"),
    [
        ("mine", object, TypeError, "an engine must be a class with query, to_arrays and from_arrays"),
        ("exact", None, ValueError, r"'exact' is an? index engine of sklearn_psp"),
        ("auto", None, ValueError, "chooses among engines"),
        ("a:b", None, ValueError, "colon"),
    ],
)
def test_what_is_no_engine_is_refused(kd_tree, name, engine, error, message):
    with pytest.raises(error, match=message):
        register_engine(name, kd_tree if engine is None else engine)


def test_an_unknown_engine_is_named_before_images_are_described():
    class Slow:
        def fit(self, X, y=None):
            raise AssertionError("described")

        transform = get_params = set_params = fit

    for algorithm, message in {
        "exakt": "algorithm='exakt' is no index engine; did you mean 'exact'",
        "no_such_module:Engine": "names no index engine that can be imported",
    }.items():
        with pytest.raises(ValueError, match=message):
            NearestImageRetriever(algorithm=algorithm, featurizer=Slow()).fit(["a.jpg"])
