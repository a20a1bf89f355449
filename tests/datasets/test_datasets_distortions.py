"""make_distorted_copies."""

import io

import numpy as np
import pytest
from PIL import Image

from sklearn_psp.datasets import load_photographs, make_distorted_copies
from sklearn_psp.datasets._distortions import _inner_size
from sklearn_psp.exceptions import ImageReadError

KINDS = ["crop", "close-up", "mirrored", "upside down", "quarter turn", "rotated", "re-compressed"]


@pytest.fixture(scope="module")
def china():
    return load_photographs().filenames[0]


@pytest.fixture(scope="module")
def original(china):
    return np.asarray(Image.open(china))


@pytest.fixture(scope="module")
def copies(china):
    return make_distorted_copies([china], ["temple"])


@pytest.fixture(scope="module")
def decoded(copies):
    """Array of each kind of copy."""
    return {
        kind: np.asarray(Image.open(io.BytesIO(image))) for kind, image in zip(copies.kind, copies.images, strict=True)
    }


def _difference(a, b):
    return np.abs(a.astype(float) - b.astype(float)).mean()


def test_seven_copies_of_each__together_and_in_order(china):
    copies = make_distorted_copies([china, china], [5, 3])
    assert len(copies.images) == 14
    assert copies.kind.tolist() == KINDS * 2
    assert copies.target.tolist() == [5] * 7 + [3] * 7
    assert copies.source == [china] * 14


def test_all_photographs__give_140_queries():
    photographs = load_photographs()
    copies = make_distorted_copies(photographs.filenames, photographs.target)
    assert len(copies.images) == len(copies.target) == len(copies.kind) == 140
    for image in copies.images:
        with Image.open(io.BytesIO(image)) as opened:
            opened.load()
            assert opened.format == "JPEG"
            assert min(opened.size) > 20


def test_same_seed__gives_the_same_bytes(china, copies):
    assert make_distorted_copies([china], ["temple"]).images == copies.images
    assert make_distorted_copies([china], ["temple"], random_state=1).images != copies.images


def test_seed__may_be_a_random_state(china, copies):
    assert make_distorted_copies([china], [0], random_state=np.random.RandomState(0)).images == copies.images


def test_crops__have_a_share_of_the_area(original, decoded):
    area = original.shape[0] * original.shape[1]
    for kind, share in (("crop", 1 / 4), ("close-up", 1 / 16)):
        height, width = decoded[kind].shape[:2]
        assert height * width / area == pytest.approx(share, rel=0.01)


def test_crops__are_cut_from_the_image(original, decoded):
    for kind in ("crop", "close-up"):
        cut = decoded[kind][..., 1].astype(float)
        # Cross-correlation finds the place; JPEG changes pixels a little.
        padded = np.zeros(original.shape[:2])
        padded[: cut.shape[0], : cut.shape[1]] = cut - cut.mean()
        scores = np.fft.irfft2(np.fft.rfft2(original[..., 1]) * np.conj(np.fft.rfft2(padded)), s=padded.shape)
        rows, columns = original.shape[0] - cut.shape[0] + 1, original.shape[1] - cut.shape[1] + 1
        windows = np.lib.stride_tricks.sliding_window_view(original[..., 1], cut.shape)
        best = np.argsort(scores[:rows, :columns], axis=None)[-50:]
        differences = [_difference(windows[np.unravel_index(i, (rows, columns))], cut) for i in best]
        assert min(differences) < 5


def test_flips__are_exact_but_for_jpeg(original, decoded):
    assert _difference(decoded["mirrored"], original[:, ::-1]) < 5
    assert _difference(decoded["upside down"], original[::-1, ::-1]) < 5


def test_quarter_turn__is_either_way(original, decoded):
    assert min(_difference(decoded["quarter turn"], np.rot90(original, k)) for k in (1, 3)) < 5


def test_rotated__has_no_empty_corners(original):
    white = Image.new("RGB", (301, 200), "white")
    copies = make_distorted_copies([white], [0])
    rotated = np.asarray(Image.open(io.BytesIO(copies.images[KINDS.index("rotated")])))
    assert rotated.min() > 250
    assert 100 < rotated.shape[1] < 301


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (100, 100)])
@pytest.mark.parametrize("degrees", [0, 10, 35, 45])
def test_inner_size__keeps_the_corners_inside(size, degrees):
    angle = np.deg2rad(degrees)
    width, height = _inner_size(*size, angle)
    turned = [abs(width * np.cos(angle) + height * np.sin(angle)), abs(width * np.sin(angle) + height * np.cos(angle))]
    assert turned[0] <= size[0]
    assert turned[1] <= size[1]


def test_recompressed__is_small(original, decoded, copies):
    assert decoded["re-compressed"].shape[0] == -(-original.shape[0] // 4)
    assert len(copies.images[KINDS.index("re-compressed")]) < 5000


def test_tiny_image__gives_all_copies():
    copies = make_distorted_copies([np.zeros((1, 2, 3), np.uint8)], [0])
    assert all(min(Image.open(io.BytesIO(image)).size) >= 1 for image in copies.images)


def test_unreadable_image__is_refused(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not images")
    with pytest.raises(ImageReadError, match=r"a\.jpg"):
        make_distorted_copies([tmp_path / "a.jpg"], [0])


def test_unequal_lengths__are_refused(china):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make_distorted_copies([china], [0, 1])
