"""A gallery against a dictionary: thousands of changes and searches in any order, and no difference."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sklearn_psp import NearestImageRetriever, load, save
from sklearn_psp._indexes import _dynamic

D = 3
# Few values a coordinate: copies and ties are everywhere.
vector = st.tuples(*[st.integers(-2, 2)] * D)
batch = st.lists(vector, min_size=1, max_size=6)
seeds = st.integers(0, 2**16)
labels = st.sampled_from(["ant", "bee", "cat", None])


def brute_force(images, query, k):
    """Ids and distances of the k nearest, ties by age, from the definition in float64."""
    vectors = np.array([image[0] for image in images.values()], dtype=np.float64).reshape(-1, D)
    distances = np.linalg.norm(vectors - np.asarray(query, dtype=np.float64), axis=1).astype(np.float32)
    order = np.argsort(distances, kind="stable")[:k]
    ids = np.array(list(images), dtype=object)
    return ids[order].tolist(), distances[order].tolist()


class ExactGallery(RuleBasedStateMachine):
    """`NearestImageRetriever` beside `images`, a dictionary from id to (vector, label, number)."""

    parameters = {"algorithm": "exact"}

    def __init__(self):
        super().__init__()
        self.images, self.next_id = {}, 0
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self):
        self.folder.cleanup()

    def _put(self, ids, vectors, seed):
        rng = np.random.default_rng(seed)
        names = rng.choice(np.array(["ant", "bee", "cat", None], dtype=object), len(ids))
        numbers = rng.integers(0, 5, len(ids))
        for one, vector, name, number in zip(ids, vectors, names, numbers, strict=True):
            self.images.pop(one, None)  # what is replaced stands at the end
            self.images[one] = (vector, name, int(number))
        return {"X": np.float32(vectors), "y": names, "ids": ids, "metadata": pd.DataFrame({"number": numbers})}

    def _new_ids(self, n):
        ids = [f"p{self.next_id + i}" for i in range(n)]
        self.next_id += n
        return ids

    @initialize(vectors=st.lists(vector, min_size=1, max_size=40), seed=seeds)
    def fit(self, vectors, seed):
        self.gallery = NearestImageRetriever(3, metric="euclidean", random_state=0, **self.parameters)
        self.gallery.fit(**self._put(self._new_ids(len(vectors)), vectors, seed))

    @rule(vectors=batch, seed=seeds)
    def add(self, vectors, seed):
        self.gallery.partial_fit(**self._put(self._new_ids(len(vectors)), vectors, seed))

    @precondition(lambda self: self.images)
    @rule(vectors=batch, seed=seeds, data=st.data())
    def replace_and_add(self, vectors, seed, data):
        known = data.draw(st.sampled_from(sorted(self.images)))
        ids = [known, *self._new_ids(len(vectors) - 1)]
        self.gallery.partial_fit(**self._put(ids, vectors, seed))

    @precondition(lambda self: self.images)
    @rule(data=st.data())
    def remove(self, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.images)), unique=True, max_size=8))
        self.gallery.remove(ids)
        for one in ids:
            del self.images[one]

    @rule()
    def remove_unknown(self):
        with pytest.raises(KeyError, match="nobody"):
            self.gallery.remove([*list(self.images)[:1], "nobody"])

    @rule()
    def compact(self):
        self.gallery.compact()

    @rule()
    def save_and_load(self):
        path = Path(self.folder.name) / "gallery.skops"
        save(self.gallery, path)
        self.gallery = load(path)

    @rule()
    def pickle(self):
        self.gallery = pickle.loads(pickle.dumps(self.gallery))

    @rule(query=vector, k=st.integers(1, 12))
    def search(self, query, k):
        self._compare(self.gallery.retrieve(np.float32([query]), k), self.images, query, k)

    @rule(query=vector, k=st.integers(1, 12), number=st.integers(0, 5))
    def search_filtered(self, query, k, number):
        chosen = {one: image for one, image in self.images.items() if image[2] <= number}
        for where in (
            lambda table: table["number"] <= number,
            list(chosen),
            np.array([image[2] <= number for image in self.images.values()], dtype=bool),
        ):
            self._compare(self.gallery.retrieve(np.float32([query]), k, where=where), chosen, query, k)

    @rule(query=vector, radius=st.floats(0, 5))
    def search_within(self, query, radius):
        ids, distances = brute_force(self.images, query, len(self.images))
        distances_found, positions = self.gallery.radius_neighbors(np.float32([query]), radius)
        n = int(np.sum(np.array(distances) <= radius))
        assert self.gallery.ids_[positions[0]].tolist() == ids[:n]
        assert distances_found[0].tolist() == distances[:n]

    @precondition(lambda self: len(self.images) > 1)
    @rule(k=st.integers(1, 4))
    def search_for_all(self, k):
        found = self.gallery.retrieve(None, k)
        for one, image in self.images.items():
            others = {other: rest for other, rest in self.images.items() if other != one}
            self._compare(found[found["query"] == one], others, image[0], k)

    def _compare(self, found, images, query, k):
        ids, distances = brute_force(images, query, k)
        assert found["id"].tolist() == ids
        assert found["distance"].tolist() == distances
        self._check_rows(found)

    def _check_rows(self, found):
        for row in found.itertuples():
            _, label, number = self.images[row.id]
            assert (row.label == label) or (label is None and pd.isna(row.label))
            assert row.number == number

    @invariant()
    def agree(self):
        if not hasattr(self, "gallery"):
            return
        assert self.gallery.ids_.tolist() == list(self.images)
        assert self.gallery.n_samples_fit_ == len(self.images)
        assert self.gallery.metadata_["number"].tolist() == [image[2] for image in self.images.values()]


class GraphGallery(ExactGallery):
    """The same over a graph, which may miss what it was built with, but nothing that was added since."""

    parameters = {"algorithm": "pynndescent", "engine_params": {"n_neighbors": 2, "epsilon": 0.3}}
    searched = missed = 0

    def _compare(self, found, images, query, k):
        ids, distances = brute_force(images, query, k)
        assert len(found) == len(ids)
        assert found["id"].is_unique
        assert set(found["id"]) <= set(images)
        assert found["distance"].is_monotonic_increasing
        expected = [np.float32(np.linalg.norm(np.subtract(images[one][0], query))) for one in found["id"]]
        assert found["distance"].tolist() == expected
        GraphGallery.searched += len(ids)
        GraphGallery.missed += sum(found["distance"] > np.float32(distances))
        gallery = self.gallery._gallery
        present = np.arange(gallery.index.n_vectors) if gallery.searchable is None else gallery.searchable
        added = set(self.gallery.ids_[gallery.positions_at(present[present >= gallery.index.searcher.n_samples])])
        nearer = {one for one, distance in zip(ids, distances, strict=True) if distance < distances[-1]}
        assert nearer & added <= set(found["id"])
        self._check_rows(found)


# What hypothesis calls an explanation takes minutes here.
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]


@pytest.fixture(autouse=True)
def compact_early(monkeypatch):
    """Compact by rule after a few changes, not after thousands."""
    monkeypatch.setattr(_dynamic, "_FEW", 12)


def test_exact_gallery_is_a_dictionary():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(ExactGallery, settings=settings(max_examples=60, stateful_step_count=50, phases=PHASES))


def test_graph_gallery_misses_nothing_that_was_added():
    pytest.importorskip("pynndescent")
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(GraphGallery, settings=settings(max_examples=25, stateful_step_count=30, phases=PHASES))
    assert GraphGallery.searched > 300  # how many hypothesis draws is its own affair
    assert GraphGallery.missed < 0.05 * GraphGallery.searched
