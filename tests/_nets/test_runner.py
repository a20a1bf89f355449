"""Batches through the network: order, chunks, views, workers, and exhausted memory."""

import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from common.networks import TinyNet
from torch import nn

from sklearn_psp._nets import BackboneRequest, Plan, PyramidPooling, Runner, Views, load_backbone
from sklearn_psp.exceptions import BackboneError, BatchSizeWarning, OutOfDeviceMemoryError

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
WORKERS = pytest.mark.parametrize("n_workers", [0, 1, 2])


@pytest.fixture(autouse=True)
def _three_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)


class Watched(nn.Module):
    """Gives a quarter-size map, remembers what came in, and runs out of memory above a batch size."""

    def __init__(self, limit=100, error=None):
        super().__init__()
        self.limit = limit
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory.")
        self.seen = []

    def forward(self, x):
        if len(x) > self.limit:
            raise self.error
        self.seen.append(x.clone())
        return F.avg_pool2d(x, 4)


def runner(module=None, *, sizes=((16, 16),), batch_size=4, n_workers=0, flip=False, runtime="torch", **pooling):
    backbone = load_backbone(
        BackboneRequest(Watched() if module is None else module, "default", None, sizes[0]), refresh=True
    )
    return Runner(
        backbone,
        PyramidPooling(**{"bin_sizes": (1,), "pooling": "avg", **pooling}),
        device=CPU,
        plan=Plan(runtime, "float32", batch_size, n_workers),
        views=Views(sizes, flip=flip),
    )


def watched(made):
    """Return the network that a runner runs, with nothing seen so far."""
    network = made.network.module.network
    network.seen.clear()
    return network


def random_images(n, size=16):
    return RNG.integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def batches_of(images, size):
    return [images[i : i + size] for i in range(0, len(images), size)]


def run(made, batches, compute):
    """Run batches with their numbers as tags, and yield what was computed."""
    for number, (tag, arrays) in enumerate(made.run(enumerate(batches), compute)):
        assert tag == number
        yield arrays


def pool(made, blocks, compute):
    for number, (tag, arrays) in enumerate(made.pool(enumerate(blocks), compute)):
        assert tag == number
        yield arrays


def globally(made, batches):
    return np.concatenate([rows for (rows,) in run(made, batches, lambda maps: (made.global_features(maps),))])


def locally(made, images):
    ((features,),) = run(made, [images], lambda maps: (made.local_features(maps),))
    return features


def means(images):
    """Return what `Watched` and average pooling make of images, in float64."""
    means = images.mean(axis=(1, 2), dtype=np.float64)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def net_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("sklearn_psp-net")]


def pixels(maps):
    """Return the mean of every channel, by which an image is known again."""
    return (maps[0].mean(dim=(2, 3)),)


@WORKERS
def test_batches_give_the_features_of_their_images_in_order(n_workers):
    images = random_images(11)
    features = globally(runner(n_workers=n_workers), batches_of(images, 4))
    np.testing.assert_allclose(features, means(images), rtol=1e-5)
    assert features.dtype == np.float32


def test_a_batch_above_the_batch_size_goes_through_in_chunks_in_order():
    made, images = runner(batch_size=4), random_images(10)
    network = watched(made)
    np.testing.assert_allclose(globally(made, [images]), means(images), rtol=1e-5)
    assert [len(x) for x in network.seen] == [4, 4, 2]


def test_a_smaller_batch_is_not_filled_up():
    made, images = runner(batch_size=4), random_images(3)
    network = watched(made)
    globally(made, [images[:1], images[1:]])
    assert [len(x) for x in network.seen] == [1, 2]


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_tag_may_be_anything_and_stays_with_its_batch(n_workers):
    made, images = runner(batch_size=2, n_workers=n_workers), random_images(6)
    tags = [["a", "b"], None, np.arange(2)]
    found = list(made.run(zip(tags, batches_of(images, 2), strict=True), pixels))
    assert all(tag is given for (tag, _), given in zip(found, tags, strict=True))
    np.testing.assert_allclose(
        np.concatenate([rows for _, (rows,) in found]), images.mean(axis=(1, 2)) / 255, rtol=1e-5
    )


def test_no_batches_give_nothing():
    made = runner(n_workers=2)
    assert list(run(made, [], pixels)) == []


def test_a_batch_that_is_ready_before_an_earlier_one_waits_for_its_turn():
    images = np.stack([np.full((16, 16, 3), value, dtype=np.uint8) for value in (10, 20)])
    made, second_is_done = runner(n_workers=2), threading.Event()

    def compute(maps):
        if maps[0].mean() > 15 / 255:
            second_is_done.set()
        else:
            assert second_is_done.wait(600)
        return pixels(maps)

    found = np.concatenate([rows for (rows,) in run(made, [images[:1], images[1:]], compute)])
    np.testing.assert_allclose(found[:, 0], np.array([10, 20]) / 255, rtol=1e-5)


def test_several_workers_have_a_batch_each_at_the_same_time():
    both = threading.Barrier(2)

    def compute(maps):
        both.wait(600)
        return pixels(maps)

    assert len(list(run(runner(n_workers=2), batches_of(random_images(4), 1), compute))) == 4


def test_there_are_no_more_workers_than_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    results = run(runner(n_workers=2), batches_of(random_images(4), 1), pixels)
    next(results)
    assert len(net_threads()) == 1
    assert len(list(results)) == 3


@pytest.mark.parametrize(("n_workers", "ahead"), [(0, 0), (1, 1), (3, 3)])
def test_few_batches_are_read_ahead_of_what_is_taken(n_workers, ahead):
    n_read = 0

    def reading():
        nonlocal n_read
        for batch in batches_of(random_images(12), 1):
            n_read += 1
            yield batch

    lead = []
    for n_taken, _ in enumerate(run(runner(n_workers=n_workers), reading(), pixels)):
        lead.append(n_read - n_taken - 1)
    assert len(lead) == 12
    assert max(lead) == ahead


@WORKERS
def test_neither_reading_nor_taking_happens_in_inference_mode(n_workers):
    modes = []

    def reading():
        for batch in batches_of(random_images(6), 1):
            modes.append(torch.is_inference_mode_enabled())
            yield batch

    def compute(maps):
        assert torch.is_inference_mode_enabled()
        return pixels(maps)

    for _ in run(runner(n_workers=n_workers), reading(), compute):
        modes.append(torch.is_inference_mode_enabled())
        assert torch.is_grad_enabled()
    modes.append(torch.is_inference_mode_enabled())
    assert modes == [False] * 13


@WORKERS
def test_a_consumer_that_stops_early_leaves_no_thread_and_reads_no_more(n_workers):
    n_read = 0

    def reading():
        nonlocal n_read
        for batch in batches_of(random_images(50), 1):
            n_read += 1
            yield batch

    results = run(runner(n_workers=n_workers), reading(), pixels)
    next(results)
    assert len(net_threads()) == n_workers
    results.close()
    assert net_threads() == []
    assert n_read == 1 + n_workers


def test_threads_end_with_the_last_batch():
    list(run(runner(n_workers=2), batches_of(random_images(4), 1), pixels))
    assert net_threads() == []


@WORKERS
def test_an_error_of_the_reader_is_passed_on_and_leaves_no_thread(n_workers):
    def reading():
        yield random_images(1)
        raise OSError("the disc is gone")

    with pytest.raises(OSError, match="the disc is gone"):
        list(run(runner(n_workers=n_workers), reading(), pixels))
    assert net_threads() == []


@WORKERS
def test_other_errors_of_the_network_are_not_taken_for_exhausted_memory(n_workers):
    made = runner(Watched(error=RuntimeError("shape mismatch")), n_workers=n_workers)
    watched(made).limit = 0
    with pytest.raises(RuntimeError, match="shape mismatch"):
        globally(made, batches_of(random_images(3), 1))
    assert net_threads() == []
    assert made.plan.batch_size == 4


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        MemoryError(),
    ],
)
@WORKERS
def test_exhausted_memory_halves_the_batch_warns_once_and_loses_nothing(n_workers, error):
    images = random_images(21)
    made = runner(Watched(error=error), batch_size=8, n_workers=n_workers)
    network = watched(made)
    network.limit = 3
    with pytest.warns(BatchSizeWarning, match=r"batch_size=8 does not fit .* batch_size=2 was used; pass batch_size=2"):
        features = globally(made, batches_of(images, 8))
    np.testing.assert_allclose(features, means(images), rtol=1e-5)
    assert {len(x) for x in network.seen} == {2, 1}
    assert sum(len(x) for x in network.seen) == 21


def test_the_warning_of_a_halved_batch_comes_once_and_points_to_the_caller():
    made, images = runner(batch_size=8), random_images(16)
    watched(made).limit = 3
    with pytest.warns(BatchSizeWarning) as caught:
        for _ in run(made, batches_of(images, 8), pixels):
            pass
    assert [w.filename for w in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        globally(made, batches_of(images, made.plan.batch_size))


@WORKERS
def test_one_image_that_does_not_fit_is_an_error_with_remedies(n_workers):
    made = runner(n_workers=n_workers)
    watched(made).limit = 0
    with pytest.raises(OutOfDeviceMemoryError, match=r"one image of \(16, 16\) pixels .* use a smaller image_size"):
        globally(made, batches_of(random_images(3), 2))
    assert net_threads() == []


def test_a_part_of_the_mirror_image_is_the_same_part_of_the_image():
    images = random_images(3)
    plain, both = runner(bin_sizes=(2,)), runner(bin_sizes=(2,), flip=True)
    # Average pooling of pixels is the same for a region and its mirror image.
    np.testing.assert_allclose(locally(both, images), locally(plain, images), rtol=1e-4, atol=1e-5)


def test_scales_are_averaged_part_by_part():
    sizes = ((32, 32), (16, 16))
    made = runner(sizes=sizes, bin_sizes=(2,))
    network = watched(made)
    features = locally(made, random_images(2, 32))
    assert [tuple(x.shape[-2:]) for x in network.seen] == list(sizes)
    cells = [x.double().numpy().reshape(2, 3, 2, s // 2, 2, s // 2).mean(axis=(3, 5)) for x, (s, _) in
             zip(network.seen, sizes, strict=True)]  # fmt: skip
    parts = [cell.reshape(2, 3, 4).transpose(0, 2, 1) for cell in cells]
    parts = [part / np.linalg.norm(part, axis=-1, keepdims=True) for part in parts]
    expected = parts[0] + parts[1]
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(features, expected, rtol=1e-5)


def test_global_features_are_the_joined_local_features():
    made, images = runner(bin_sizes=(1, 2), aggregation="concat"), random_images(2)
    parts = locally(made, images)
    weights = np.array([1.0] + [0.5] * 4)  # every level has the same say
    np.testing.assert_allclose(globally(made, [images]), (parts * weights[:, None]).reshape(2, -1), rtol=1e-6)
    np.testing.assert_array_equal(globally(made, [images]), made.pooling.join(parts))


def test_a_projection_comes_after_the_views_are_averaged():
    projection = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    made = runner(sizes=((16, 16), (8, 8)), flip=True, bin_sizes=(1, 2), projection=projection)
    plain = runner(sizes=((16, 16), (8, 8)), flip=True, bin_sizes=(1, 2))
    images = random_images(3)
    local = locally(made, images)
    np.testing.assert_array_equal(local, locally(plain, images))
    parts = np.stack([local[:, i] @ projection[min(i, 1)] for i in range(5)], axis=1, dtype=np.float64)
    parts /= np.linalg.norm(parts, axis=2, keepdims=True)
    ((projected,),) = run(made, [images], lambda maps: (made.projected_features(maps),))
    np.testing.assert_allclose(projected, parts, atol=1e-6)
    np.testing.assert_allclose(globally(made, [images]), parts.sum(axis=1), atol=1e-5)


def test_everything_that_compute_returns_comes_back():
    made, images = runner(batch_size=2), random_images(5)
    ((first, second),) = run(made, [images], lambda maps: (maps[0], maps[0].mean(dim=(1, 2, 3))))
    assert first.shape == (5, 3, 4, 4)
    np.testing.assert_allclose(second, first.mean(axis=(1, 2, 3)), rtol=1e-5)


def test_float_images_are_on_the_scale_of_uint8():
    made, images = runner(), random_images(2)
    np.testing.assert_allclose(globally(made, [images.astype(np.float32)]), globally(made, [images]), rtol=1e-6)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_features_pooled_from_rows_are_those_of_the_rounded_maps(runtime):
    made = runner(TinyNet(), bin_sizes=(1, 2), pooling="max", runtime=runtime, n_workers=1, flip=True)
    images = random_images(3)

    def compute(maps):
        return made.map_rows.pack(maps), *(view.half().float() for view in maps)

    ((rows, *maps),) = run(made, [images], compute)
    blocks = [rows[:2], rows[2:]]
    found = np.concatenate([f for (f,) in pool(made, blocks, lambda maps: (made.global_features(maps),))])
    expected = made.global_features([torch.from_numpy(view) for view in maps])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def known_rows(n):
    made = runner(TinyNet())
    ((rows,),) = run(made, [random_images(n)], lambda maps: (made.map_rows.pack(maps),))
    return rows


def test_features_of_known_rows_need_no_network():
    made = runner(TinyNet())
    list(pool(made, [known_rows(2)], lambda maps: (made.global_features(maps),)))
    assert made._network is None


def test_blocks_of_rows_are_pooled_in_order_some_read_ahead_outside_of_inference_mode():
    made, rows, n_read, modes = runner(TinyNet()), known_rows(12), 0, []

    def reading():
        nonlocal n_read
        for row in rows:
            n_read += 1
            modes.append(torch.is_inference_mode_enabled())
            yield row[None]

    found, lead = [], []
    for (value,) in pool(made, reading(), pixels):
        found.append(value[0])
        modes.append(torch.is_inference_mode_enabled())
        lead.append(n_read - len(found))
    (expected,) = (value for (value,) in pool(made, [rows], pixels))
    np.testing.assert_array_equal(found, expected)
    assert max(lead) == 3, "as many as there are cores"
    assert modes == [False] * 24


def test_pooling_that_stops_early_or_fails_leaves_no_thread():
    made, rows = runner(TinyNet()), known_rows(9)
    results = pool(made, rows[:, None], pixels)
    next(results)
    results.close()
    assert net_threads() == []

    def broken(maps):
        raise ValueError("of the pooling")

    with pytest.raises(ValueError, match="of the pooling"):
        list(pool(made, rows[:, None], broken))
    assert net_threads() == []


def test_rows_beyond_half_precision_are_an_error_of_the_caller_s():
    made = runner(n_workers=2)
    with pytest.raises(BackboneError, match="beyond the range of half precision"):
        list(run(made, [random_images(1)], lambda maps: (made.map_rows.pack([1e6 * view for view in maps]),)))


class Doubled(TinyNet):
    def forward(self, x):
        return 2 * super().forward(x)


def test_identity_is_that_of_what_feature_maps_depend_on():
    same = [runner(TinyNet()), runner(TinyNet(), batch_size=2, n_workers=1), runner(TinyNet(), bin_sizes=(1, 2))]
    others = [
        runner(TinyNet(seed=1)),
        runner(Doubled()),
        runner(TinyNet(), flip=True),
        runner(TinyNet(), sizes=((32, 32),)),
        runner(TinyNet(), sizes=((16, 16), (8, 8))),
        runner(TinyNet(), runtime="openvino"),
    ]
    assert len({made.identity for made in same}) == 1
    assert len({made.identity for made in same + others}) == 1 + len(others)


@WORKERS
def test_openvino_gives_the_features_of_torch_in_order(n_workers):
    images = random_images(9)
    torch_s, openvino_s = (
        globally(runner(TinyNet(), runtime=runtime, n_workers=n_workers, flip=True), batches_of(images, 2))
        for runtime in ("torch", "openvino")
    )
    np.testing.assert_allclose(openvino_s, torch_s, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_read_only_images_are_described_without_a_warning(runtime):
    images = random_images(3)
    expected = globally(runner(TinyNet(), runtime=runtime), [images])
    images.flags.writeable = False
    torch.set_warn_always(True)  # torch warns of the first such array only
    try:
        found = globally(runner(TinyNet(), runtime=runtime), [images])
    finally:
        torch.set_warn_always(False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is absent")
def test_a_gpu_gives_the_descriptors_of_the_cpu_in_order():
    images = random_images(7, 64)
    backbone = load_backbone(BackboneRequest("efficientnet_lite0", "default", None, (64, 64)))
    features = []
    for device in ("cpu", "cuda"):
        made = Runner(
            backbone,
            PyramidPooling(),
            device=torch.device(device),
            plan=Plan("torch", "float32", 2),
            views=Views([(64, 64)]),
        )
        features.append(globally(made, batches_of(images, 2)))
    np.testing.assert_allclose(features[1], features[0], rtol=1e-2, atol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA is absent")
def test_exhausted_memory_of_a_gpu_halves_the_batch_warns_once_and_loses_nothing():
    images = random_images(21)
    backbone = load_backbone(BackboneRequest(Watched(), "default", None, (16, 16)), refresh=True)
    plan = Plan("torch", "float32", 8)
    made = Runner(
        backbone,
        PyramidPooling((1,), pooling="avg"),
        device=torch.device("cuda"),
        plan=plan,
        views=Views([(16, 16)]),
    )
    network = watched(made)
    network.limit = 3
    with pytest.warns(BatchSizeWarning, match=r"batch_size=8 does not fit .* batch_size=2 was used") as caught:
        features = globally(made, batches_of(images, 8))
    assert len(caught) == 1
    np.testing.assert_allclose(features, means(images), rtol=1e-5)
