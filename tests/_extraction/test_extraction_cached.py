"""Maps in the store and features in memory: what is found, what is left, and what is written when."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from common.networks import TinyNet

from sklearn_psp._cache import RowStore, open_store
from sklearn_psp._extraction import CachedFeatures, ComputedFeatures, Feature, _cached
from sklearn_psp._nets import BackboneRequest, Plan, PyramidPooling, Runner, Views, load_backbone
from sklearn_psp.exceptions import CacheError, CacheSizeWarning

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
KEYS = [b"content %d" % i for i in range(20)]
NETWORK = TinyNet()
FEATURES = {
    "local_features": Feature((14, 12), lambda pooling, parts: parts),
    "projected_features": Feature((14, 12), lambda pooling, parts: pooling.project(parts)),
    "global_features": Feature((12,), lambda pooling, parts: pooling.join(pooling.project(parts)), kept=True),
}


def make_runner(**pooling):
    backbone = load_backbone(BackboneRequest(NETWORK, "default", None, (32, 32)))
    return Runner(
        backbone,
        PyramidPooling(**pooling),
        device=torch.device("cpu"),
        plan=Plan("torch", "float32", 4),
        views=Views([(32, 32)]),
    )


@pytest.fixture
def make(folder):
    """Function from settings to what a cache knows of them; every call starts anew, as a call of `transform` does."""

    def make(method="global_features", *, reading="stretch", pooling="max", joining="sum"):
        runner = make_runner(pooling=pooling, aggregation=joining)
        options = {"reading": reading, "pooling": pooling, "joining": joining}
        return CachedFeatures(open_store(folder), runner, FEATURES[method], **options)

    return make


def fill(cache, positions=range(20)):
    """Run the network as an extraction does, and return the features."""
    positions = list(positions)
    pieces = []
    runner = cache.runner
    batches = [positions[start : start + 4] for start in range(0, len(positions), 4)]
    for batch, (rows, parts) in runner.run(((batch, IMAGES[batch]) for batch in batches), cache.compute):
        pieces.append(cache.add([KEYS[i] for i in batch], rows, parts))
    cache.finish()
    return np.concatenate(pieces)


def look_up(cache, keys):
    """Return the features that are known, by position, and the positions that are left."""
    left, features = [], {}
    for positions, rows in cache.known(keys, left):
        assert len(positions) == len(rows)
        assert not features.keys() & set(positions.tolist())
        features |= dict(zip(positions.tolist(), rows, strict=True))
    return features, left


def assert_same(features, expected):
    np.testing.assert_array_equal([features[i] for i in sorted(features)], [expected[i] for i in sorted(features)])


def test_features_are_those_of_the_network_but_for_rounding(make):
    for method in ("global_features", "local_features"):
        cache = make(method)
        compute = ComputedFeatures(make_runner(), FEATURES[method]).compute
        ((_, (expected,)),) = make_runner().run([(0, IMAGES)], compute)
        np.testing.assert_allclose(fill(cache), expected, atol=2e-3)


@pytest.mark.parametrize("method", ["global_features", "local_features"])
@pytest.mark.parametrize("memory", [True, False], ids=["memory", "disk"])
def test_what_was_added_is_known_and_the_rest_is_left(make, forget, method, memory):
    expected = fill(make(method), range(0, 20, 2))
    if not memory:
        forget()
    keys = [*KEYS[:6], None, KEYS[0], b"never seen"]
    features, left = look_up(make(method), keys)
    assert sorted(features) == [0, 2, 4, 7]
    assert left == [1, 3, 5, 6, 8]
    assert_same(features, {0: expected[0], 2: expected[1], 4: expected[2], 7: expected[0]})


def test_only_what_was_read_from_the_disk_once_is_read_from_memory(make, forget, monkeypatch):
    expected = fill(make())
    forget()
    look_up(make(), KEYS[:10])
    read, get = [], RowStore.get
    monkeypatch.setattr(RowStore, "get", lambda self, keys, length: read.extend(keys) or get(self, keys, length))
    features, left = look_up(make(), KEYS)
    assert len(read) == 10
    assert left == []
    assert_same(features, expected)


@pytest.mark.parametrize("joining", ["sum", "concat"])
def test_another_way_to_join_takes_local_features_from_memory(make, monkeypatch, joining):
    local = fill(make("local_features"))
    monkeypatch.setattr(RowStore, "get", pytest.fail)
    features, left = look_up(make(joining=joining), KEYS)
    assert left == []
    expected = local.sum(axis=1) if joining == "sum" else None
    if expected is not None:
        np.testing.assert_allclose([features[i] for i in range(20)], expected, rtol=1e-5)
    assert features[0].shape == ((12,) if joining == "sum" else (14 * 12,))


@pytest.mark.parametrize("method", ["local_features", "projected_features", "global_features"])
def test_what_is_asked_for_is_made_of_local_features_that_are_kept_unprojected(folder, make, monkeypatch, method):
    local = fill(make("local_features"))
    monkeypatch.setattr(RowStore, "get", pytest.fail)
    projection = np.random.default_rng(1).normal(size=(3, 12, 4)).astype(np.float32)
    parts = np.stack([local[:, i] @ projection[(i > 0) + (i > 4)] for i in range(14)], axis=1, dtype=np.float64)
    parts /= np.linalg.norm(parts, axis=2, keepdims=True)
    expected = {"local_features": local, "projected_features": parts, "global_features": parts.sum(axis=1)}[method]
    options = {"reading": "stretch", "pooling": "max", "joining": "own"}
    cache = CachedFeatures(open_store(folder), make_runner(projection=projection), FEATURES[method], **options)
    features, left = look_up(cache, KEYS)
    assert left == []
    np.testing.assert_allclose([features[i] for i in range(20)], expected, atol=1e-5)
    for again in (look_up(cache, KEYS)[0], look_up(cache, KEYS[::-1])[0]):
        assert len(again) == 20
    np.testing.assert_array_equal([again[19 - i] for i in range(20)], [features[i] for i in range(20)])


def test_another_pooling_reads_maps_from_the_disk(make, monkeypatch):
    fill(make())
    features, left = look_up(make(pooling="avg"), KEYS)
    assert left == []
    ((_, (expected,)),) = make_runner(pooling="avg").run(
        [(0, IMAGES)], ComputedFeatures(make_runner(pooling="avg"), FEATURES["global_features"]).compute
    )
    np.testing.assert_allclose([features[i] for i in range(20)], expected, atol=2e-3)


def test_images_read_in_another_way_are_others(make):
    cache = make()
    fill(cache)
    assert cache.has(KEYS[3])
    other = make(reading="crop")
    assert not other.has(KEYS[3])
    assert look_up(other, KEYS) == ({}, list(range(20)))


def test_maps_wait_until_there_are_many_and_are_all_written_in_the_end(make, folder, monkeypatch):
    cache, runner = make(), make_runner()
    ((_, (rows, parts)),) = runner.run([(0, IMAGES[:4])], cache.compute)
    monkeypatch.setattr(_cached, "_WRITE_BYTES", 2 * rows.nbytes)
    written, put = [], RowStore.put
    monkeypatch.setattr(RowStore, "put", lambda self, keys, rows: written.append(len(keys)) or put(self, keys, rows))
    for start in range(0, 20, 4):
        cache.add(KEYS[start : start + 4], rows, parts)
    cache.finish()
    assert written == [8, 8, 4]
    assert len(open_store(folder)) == 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sklearn_psp-cache")]


def test_an_error_of_the_writing_thread_reaches_the_caller_and_ends_the_thread(make, monkeypatch):
    def full(self, keys, rows):
        raise CacheError("the disk is full")

    monkeypatch.setattr(RowStore, "put", full)
    with pytest.raises(CacheError, match="the disk is full"):
        fill(make())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sklearn_psp-cache")]


def test_nothing_to_write_starts_no_thread(make, monkeypatch):
    monkeypatch.setattr(_cached, "ThreadPoolExecutor", pytest.fail)
    make().finish()


def test_a_store_that_is_too_small_is_named_with_the_size_that_would_do(folder, make):
    n_bytes = 2 * make_runner().map_rows.length
    open_store(folder, max_bytes=10 * n_bytes)
    make().warn_if_small(10)
    with pytest.warns(CacheSizeWarning, match=r"^cache_size=.* holds the feature maps of 10 images, but X has 11"):
        make().warn_if_small(11)
