"""The cache of feature maps: what spares the network, what does not, and that descriptors stay what they are."""

from __future__ import annotations

import dataclasses
import os
import pickle

import numpy as np
import pytest
from common.networks import FAST, TinyNet
from common.watched import Mirrored, Smooth, TallyNet, UpsideDown, run_python
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import sklearn_psp
from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._cache import RowStore, open_store
from sklearn_psp._extraction import _cached, _extract
from sklearn_psp._nets import _plan
from sklearn_psp._nets._networks import TorchNetwork
from sklearn_psp.exceptions import CacheSizeWarning, ImageReadWarning
from sklearn_psp.utils.estimator_checks import check_image_estimator

# Not of the network's size: they are resized, and crop is not stretch.
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 40, 32, 3), dtype=np.uint8)
IMAGES[:, :20] //= np.arange(1, 11, dtype=np.uint8)[:, None, None, None]


AFTER_MAPS = [
    {"bin_sizes": (1, (2, 4))},
    {"part_order": "snake"},
    {"pooling": "avg"},
    {"pooling": "gem"},
    {"pooling": "gem", "gem_power": 2.0},
    {"projection": np.random.default_rng(4).normal(size=(3, 12, 5))},
    {"part_weights": np.arange(1.0, 15.0)},
    {"aggregation": "concat"},
    {"center": False},
    {"normalize": False},
]
BEFORE_MAPS = [
    {"image_size": 48},
    {"scales": (1.0, 1.5)},
    {"flip": True},
    {"resize": "crop"},
    {"resize": "pad"},
    {"backbone": TinyNet(seed=1)},
    {"backbone": Mirrored()},
    {"backbone": Smooth()},
    {"backbone": UpsideDown()},
    {"precision": "bfloat16"},
    {"runtime": "openvino"},
]


def name_of(change):
    ((name, value),) = change.items()
    return f"{name}-{type(value).__qualname__ if name == 'backbone' else value}"


def tiny(cache=None, **params):
    return PSPNetFeaturizer(**({"backbone": TinyNet(), "cache": cache} | FAST | params))


def assert_close(rows, expected):
    """Compare descriptors by length and direction."""
    rows, expected = rows.astype(np.float64), expected.astype(np.float64)
    lengths, expected_lengths = np.linalg.norm(rows, axis=-1), np.linalg.norm(expected, axis=-1)
    np.testing.assert_allclose(lengths, expected_lengths, rtol=1e-3)
    assert ((rows * expected).sum(axis=-1) / lengths / expected_lengths).min() > 0.9999
    np.testing.assert_allclose(rows, expected, atol=1e-3 * expected_lengths.max())


@pytest.mark.parametrize("change", AFTER_MAPS, ids=str)
def test_what_comes_after_the_maps_never_runs_the_network_again(folder, seen, forget, change):
    tiny(folder).fit(IMAGES)
    seen.clear()
    first = tiny(folder, **change).fit(IMAGES).transform(IMAGES)
    forget()
    second = tiny(folder, **change).fit(IMAGES).transform(IMAGES)
    assert seen == []
    np.testing.assert_array_equal(first, second)
    assert_close(first, tiny(**change).fit(IMAGES).transform(IMAGES))


@pytest.mark.parametrize("change", BEFORE_MAPS, ids=name_of)
def test_what_comes_before_the_maps_runs_the_network(folder, seen, change):
    tiny(folder).fit(IMAGES)
    featurizer = tiny(folder, center=False, **change).fit()
    seen.clear()
    rows = featurizer.transform(IMAGES)
    assert sum(seen) == len(IMAGES)
    seen.clear()
    np.testing.assert_array_equal(featurizer.transform(IMAGES), rows)
    assert seen == []
    assert_close(rows, tiny(center=False, **change).fit().transform(IMAGES))


def test_the_first_pass_gives_the_bits_of_all_later_ones(folder, seen, forget):
    first = tiny(folder).fit_transform(IMAGES)
    assert sum(seen) == 10
    from_memory = tiny(folder).fit_transform(IMAGES)
    forget()
    from_disk = tiny(folder).fit_transform(IMAGES)
    forget()
    featurizer = tiny(folder).fit(IMAGES)
    one_by_one = np.concatenate([featurizer.transform(IMAGES[i : i + 1]) for i in range(10)])
    assert sum(seen) == 10
    for rows in (from_memory, from_disk, one_by_one):
        np.testing.assert_array_equal(rows, first)


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "disk"])
def test_order_and_duplicates_are_those_of_x(folder, forget, memory):
    featurizer = tiny(folder).fit(IMAGES)
    expected = featurizer.transform(IMAGES)
    if not memory:
        forget()
    order = [9, 3, 3, 0, 9, 1]
    np.testing.assert_array_equal(featurizer.transform(IMAGES[order]), expected[order])
    np.testing.assert_array_equal(featurizer.transform(list(IMAGES[order])), expected[order])


def test_new_images_among_known_ones_are_all_that_runs(folder, seen, forget):
    featurizer = tiny(folder, center=False).fit()
    expected = tiny(center=False).fit().transform(IMAGES)
    featurizer.transform(IMAGES[::2])
    forget()
    seen.clear()
    assert_close(featurizer.transform(IMAGES), expected)
    assert sum(seen) == 5


def test_parts_and_descriptors_are_not_confused(folder, seen, forget):
    featurizer = tiny(folder).fit(IMAGES)
    seen.clear()
    parts = featurizer.transform_parts(IMAGES)
    np.testing.assert_array_equal(featurizer.transform_parts(IMAGES), parts)
    rows = featurizer.transform(IMAGES)
    forget()
    np.testing.assert_array_equal(featurizer.transform_parts(IMAGES), parts)
    assert seen == []
    assert parts.shape == (10, 14, 12)
    plain = tiny().fit(IMAGES)
    assert_close(parts, plain.transform_parts(IMAGES))
    assert_close(rows, plain.transform(IMAGES))


def test_unreadable_images_stay_rows_of_nan(folder, seen):
    images = [IMAGES[0], b"not images", IMAGES[1], "nowhere.png", b"not images"]
    featurizer = tiny(folder, on_error="nan").fit(IMAGES)
    seen.clear()
    for _ in range(2):
        with pytest.warns(ImageReadWarning, match=r"3 images could not be read") as caught:
            rows = featurizer.transform(images)
        assert caught[0].message.errors["index"].tolist() == [1, 3, 4]
        assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == [1, 3, 4]
        np.testing.assert_array_equal(rows[[0, 2]], featurizer.transform(IMAGES[:2]))
    assert seen == []


def test_a_stream_of_batches_uses_the_cache(folder, seen, forget):
    featurizer = tiny(folder).fit(IMAGES)
    expected = featurizer.transform(IMAGES)
    seen.clear()
    for _ in range(2):
        rows = featurizer.transform((IMAGES[i : i + 3], None) for i in range(0, 10, 3))
        np.testing.assert_array_equal(rows, expected)
        forget()
    assert seen == []


def test_a_stream_of_batches_fills_the_cache(folder, seen):
    rows = tiny(folder).fit_transform([list(IMAGES[i : i + 3]) for i in range(0, 10, 3)].__iter__())
    assert sum(seen) == 10
    np.testing.assert_array_equal(tiny(folder).fit_transform(IMAGES), rows)
    assert sum(seen) == 10


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_rows_of_a_table_are_kept(folder, seen, forget, dtype):
    table = (IMAGES if dtype == np.uint8 else IMAGES / 255).reshape(10, -1)
    first = tiny(folder, image_shape=(40, 32, 3)).fit_transform(table)
    assert sum(seen) == 10
    forget()
    np.testing.assert_array_equal(tiny(folder, image_shape=(40, 32, 3)).fit_transform(table), first)
    assert sum(seen) == 10
    assert_close(first, tiny(image_shape=(40, 32, 3)).fit_transform(table))


def test_a_file_that_becomes_another_image_is_noticed(folder, tmp_path):
    path = tmp_path / "image.bmp"
    featurizer = tiny(folder, center=False).fit()
    rows, sizes = [], []
    for image in IMAGES[:2]:
        Image.fromarray(image).save(path)
        os.utime(path, (10**9, 10**9))  # as many bytes, and the time of the other
        rows.append(featurizer.transform([path]))
        sizes.append(path.stat().st_size)
    assert sizes[0] == sizes[1]
    np.testing.assert_array_equal(np.concatenate(rows), featurizer.transform(IMAGES[:2]))
    assert not np.allclose(rows[0], rows[1], atol=1e-3)


def test_another_image_runs_the_network(folder, seen):
    featurizer = tiny(folder).fit(IMAGES)
    seen.clear()
    changed = IMAGES.copy()
    changed[3, 7, 7, 1] ^= 1
    featurizer.transform(changed)
    assert seen == [1]


def test_damaged_entries_are_computed_again(folder, seen, forget):
    expected = tiny(folder).fit_transform(IMAGES)
    store = open_store(folder)

    with store._index.writing() as db, open(os.path.join(folder, "features.rows"), "r+b") as file:
        for i, (key, place, size) in enumerate(db.execute("SELECT key, place, size FROM entries").fetchall()):
            if i % 3 == 0:
                file.seek(place + size // 2)
                byte = file.read(1)[0]
                file.seek(place + size // 2)
                file.write(bytes([byte ^ 255]))
            elif i % 3 == 1:
                db.execute("UPDATE entries SET size = ? WHERE key = ?", (size // 2, key))
    forget()
    seen.clear()
    np.testing.assert_array_equal(tiny(folder).fit_transform(IMAGES), expected)
    assert sum(seen) == 7
    forget()
    np.testing.assert_array_equal(tiny(folder).fit_transform(IMAGES), expected)
    assert sum(seen) == 7


def test_entries_of_another_length_are_computed_again(folder, seen, forget):
    expected = tiny(folder).fit_transform(IMAGES)
    store = open_store(folder)
    with store._index.reading() as db:
        keys = [key for (key,) in db.execute("SELECT key FROM entries")]
    store.put(keys, np.ones((10, 5), np.float16))
    forget()
    seen.clear()
    np.testing.assert_array_equal(tiny(folder).fit_transform(IMAGES), expected)
    assert sum(seen) == 10


@pytest.mark.parametrize("form", ["array", "list of files"])
def test_entries_that_go_while_they_are_needed_are_computed_again(folder, tmp_path, seen, forget, monkeypatch, form):
    images = IMAGES
    if form != "array":
        images = [tmp_path / f"{i}.png" for i in range(10)]
        for path, image in zip(images, IMAGES, strict=True):
            Image.fromarray(image).save(path)
    featurizer = tiny(folder, center=False).fit()
    expected = featurizer.transform(images)
    get = RowStore.get

    def forgetful(self, keys, length):
        rows, found = get(self, keys, length)
        gone = np.arange(len(rows)) % 2 == 0
        found[np.flatnonzero(found)[gone]] = False
        return rows[~gone], found

    monkeypatch.setattr(RowStore, "get", forgetful)
    order = [0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 2]
    forget()
    seen.clear()
    np.testing.assert_array_equal(featurizer.transform([images[i] for i in order]), expected[order])
    assert 0 < sum(seen) < 10


def test_a_cache_too_small_for_x_warns_and_gives_the_same_descriptors(folder, forget):
    expected = tiny(folder).fit_transform(IMAGES)
    small = tiny(folder, cache_size=4 * 384 / 1e6)
    for _ in range(2):
        forget()
        with pytest.warns(CacheSizeWarning, match=r"^cache_size=.* but X has 10"):
            rows = small.fit_transform(IMAGES)
        np.testing.assert_array_equal(rows, expected)
    assert open_store(folder).n_bytes <= 4 * 384


def test_what_was_computed_before_an_error_is_kept(folder, seen, forget):
    expected = tiny(folder.with_name("other"), center=False).fit().transform(IMAGES)
    featurizer = tiny(folder, center=False).fit()
    with pytest.raises(ValueError, match=r"X\[8\]"):
        featurizer.transform([*IMAGES[:8], b"not images", *IMAGES[8:]])
    kept = len(open_store(folder))
    assert kept >= 4
    forget()
    seen.clear()
    np.testing.assert_array_equal(featurizer.transform(IMAGES), expected)
    assert sum(seen) == 10 - kept
    open_store(folder.with_name("other")).close()


def test_what_was_computed_before_a_network_failed_is_kept(folder, forget, monkeypatch):
    featurizer = tiny(folder, center=False).fit()
    maps, passes = TorchNetwork.maps, []

    def fails(self, batch):
        passes.append(len(batch))
        if len(passes) == 3:
            raise RuntimeError("the network is broken")
        return maps(self, batch)

    monkeypatch.setattr(TorchNetwork, "maps", fails)
    with pytest.raises(RuntimeError, match="the network is broken"):
        featurizer.transform(IMAGES)
    assert len(open_store(folder)) == 8


# Children that describe the same images, each killed in the pass that is given, if it gets there.
CHILDREN = """
import os, signal, sys
import numpy as np
from common.networks import FAST, TinyNet
from common.watched import n_not_black
from sklearn_psp import PSPNetFeaturizer, _cache, _images
from sklearn_psp._extraction import _cached
from sklearn_psp._nets import _networks

how, folder, images, out, *ends = sys.argv[1:]
images = np.load(images)

def describe(out, end):
    maps, passes = _networks.TorchNetwork.maps, []

    def mortal(self, batch):
        passes.extend([batch] * bool(n_not_black(batch)))
        if len(passes) == end:
            os.kill(os.getpid(), signal.SIGKILL)
        return maps(self, batch)

    _networks.TorchNetwork.maps = mortal
    _cached._WRITE_BYTES = 1
    fast = dict(image_size=32, scales=(1.0,), precision="float32", batch_size=4, device="cpu", runtime="torch")
    np.save(out, PSPNetFeaturizer(TinyNet(), cache=folder, **fast).fit_transform(images))

children = []
for i, end in enumerate(ends):
    child = os.fork()
    if not child:
        try:
            describe(f"{out}{i}.npy", int(end))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
    if how == "in turn":
        os.waitpid(children.pop(), 0)
for child in children:
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    images = np.random.default_rng(1).integers(0, 256, (40, 40, 32, 3), dtype=np.uint8)
    np.save(path, images)
    return path, images


def test_runs_that_were_killed_go_on_where_they_were(folder, saved, tmp_path, seen):
    path, images = saved
    errors = run_python(CHILDREN, "in turn", folder, path, tmp_path / "rows", 4, 1, 3)
    assert errors == ""
    assert not list(tmp_path.glob("rows*"))
    rows = tiny(folder).fit_transform(images)
    assert sum(seen) < 40
    other = folder.with_name("other")
    np.testing.assert_array_equal(rows, tiny(other).fit_transform(images))
    open_store(other).close()


def test_two_processes_at_once_and_one_after_agree(folder, saved, tmp_path, seen):
    path, images = saved
    errors = run_python(CHILDREN, "at once", folder, path, tmp_path / "rows", 1000, 1000)
    assert errors == ""
    first, second = (np.load(tmp_path / f"rows{i}.npy") for i in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(tiny(folder).fit_transform(images), first)
    assert seen == []


def test_another_process_neither_measures_nor_runs_the_network(folder, tmp_path):
    params = {"precision": "auto", "batch_size": "auto", "runtime": "auto"}
    featurizer = tiny(folder, **params).fit(IMAGES)
    with open(tmp_path / "images.npy", "wb") as file:
        np.save(file, IMAGES)
    script = """
import sys
import numpy as np
from common.networks import FAST, TinyNet
from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._extraction import _cached
from sklearn_psp._nets import _runner

def fail(*args, **kwargs):
    raise AssertionError("not again")

_cached.resolve_plan = _runner.make_network = fail
featurizer = PSPNetFeaturizer(TinyNet(), image_size=32, scales=(1.0,), device="cpu", cache=sys.argv[1], pooling="avg")
rows = featurizer.fit_transform(np.load(sys.argv[2]))
np.save(sys.argv[3], rows)
print(featurizer.runtime_, featurizer.precision_, featurizer.batch_size_, file=sys.stderr)
"""
    errors = run_python(script, folder, tmp_path / "images.npy", tmp_path / "rows.npy")
    assert errors.split()[-3:] == [featurizer.runtime_, featurizer.precision_, str(featurizer.batch_size_)]
    expected = featurizer.set_params(pooling="avg").fit_transform(IMAGES)
    np.testing.assert_allclose(np.load(tmp_path / "rows.npy"), expected, atol=1e-6)


def test_a_plan_of_a_runtime_that_is_gone_is_made_anew(folder, monkeypatch):
    assert tiny(folder, runtime="auto").fit(IMAGES).runtime_ == "openvino"
    monkeypatch.setattr(_plan, "_PLANS", {})
    for module in (_cached, _plan):
        monkeypatch.setattr(module, "is_installed", lambda name: False)
    assert tiny(folder, runtime="auto").fit(IMAGES).runtime_ == "torch"


def test_a_plan_with_other_fields_is_not_read(folder, monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class NewPlan(_plan.Plan):
        pinned: bool = True

    assert tiny(folder).fit(IMAGES).runtime_ == "torch"
    asked = []

    def resolve_plan(*args, **kwargs):
        asked.append(kwargs)
        return NewPlan("torch", "float32", 4)

    monkeypatch.setattr(_cached, "Plan", NewPlan)
    monkeypatch.setattr(_cached, "resolve_plan", resolve_plan)
    assert tiny(folder).fit(IMAGES).batch_size_ == 4
    assert len(asked) == 1


@pytest.mark.parametrize("change", [{"precision": "bfloat16"}, {"batch_size": 3}], ids=str)
def test_a_plan_is_kept_for_what_was_asked(folder, change):
    tiny(folder).fit(IMAGES)
    featurizer = tiny(folder, **change).fit(IMAGES)
    assert {name: getattr(featurizer, f"{name}_") for name in change} == change


def test_grid_search_in_processes_gives_the_scores_without_a_cache(folder, tmp_path):
    tally = tmp_path / "tally"
    rng = np.random.default_rng(3)
    colours = rng.integers(0, 256, (4, 1, 1, 3)).repeat(6, axis=0)
    images = (0.4 * colours + 0.6 * rng.integers(0, 256, (24, 32, 32, 3))).astype(np.uint8)
    labels = np.arange(4).repeat(6)
    grid = {
        "pspnetfeaturizer__pooling": ["max", "avg"],
        "pspnetfeaturizer__bin_sizes": [(1,), (1, 2)],
        "pspnetfeaturizer__aggregation": ["sum", "concat"],
    }

    def scores(cache, n_jobs):
        featurizer = tiny(cache, backbone=TallyNet(tally))
        if cache is not None:
            featurizer.fit(images)
        search = make_pipeline(featurizer, KNeighborsClassifier(1, algorithm="brute"))
        return GridSearchCV(search, grid, cv=2, n_jobs=n_jobs).fit(images, labels).cv_results_["mean_test_score"]

    cached = scores(folder, 2)
    assert tally.stat().st_size == 24
    np.testing.assert_allclose(cached, scores(None, None), atol=1e-3)


def test_clone_pickle_and_a_saved_file_use_the_cache(folder, tmp_path, seen, forget):
    featurizer = tiny(folder).fit(IMAGES)
    expected = featurizer.transform(IMAGES)
    sklearn_psp.save(featurizer, tmp_path / "saved")
    copies = {
        "clone": clone(featurizer).fit(IMAGES),
        "pickle": pickle.loads(pickle.dumps(featurizer)),
        "file": sklearn_psp.load(tmp_path / "saved", modules={"common.networks.TinyNet": TinyNet()}),
    }
    seen.clear()
    for name, copied in copies.items():
        forget()
        np.testing.assert_array_equal(copied.transform(IMAGES), expected, err_msg=name)
    assert seen == []


def test_a_cache_that_is_a_file_is_refused_by_name(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(OSError, match=r"cache=.*file"):
        tiny(path).fit(IMAGES)


def test_a_descriptor_is_the_callers_own(folder):
    featurizer = tiny(folder).fit(IMAGES)
    rows = featurizer.transform(IMAGES)
    expected = rows.copy()
    rows[:] = 0
    np.testing.assert_array_equal(featurizer.transform(IMAGES), expected)


def test_maps_beyond_half_precision_are_refused_with_the_remedy(folder):
    network = TinyNet()
    network.norm.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match=r"beyond the range of half precision.*cache=None"):
        tiny(folder, backbone=network).fit(IMAGES)
    assert np.isfinite(tiny(backbone=network).fit_transform(IMAGES)).all()


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_an_estimator_with_a_cache_keeps_all_conventions(folder, on_error):
    check_image_estimator(tiny(folder, on_error=on_error))


def test_rows_read_together_are_few(folder, seen, forget, monkeypatch):
    featurizer = tiny(folder).fit(IMAGES)
    expected = featurizer.transform(IMAGES)
    monkeypatch.setattr(_extract, "_STORED_AT_ONCE", 4)
    monkeypatch.setattr(_cached, "_POOLED_AT_ONCE", 3)
    seen.clear()
    forget()
    np.testing.assert_array_equal(featurizer.transform(list(IMAGES)), expected)
    forget()
    np.testing.assert_array_equal(featurizer.transform([Image.fromarray(p) for p in IMAGES]), expected)
    assert seen == []
