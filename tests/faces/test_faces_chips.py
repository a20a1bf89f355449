"""The geometry of chips: dlib's own is the oracle."""

from __future__ import annotations

import dlib
import numpy as np
import pytest
from common.faces import EYES_NOSE_MOUTH

from sklearn_psp.faces import FaceAligner, _chips
from sklearn_psp.faces._chips import alignment, exchanged, similarity, warp

# From dlib/image_transforms/interpolation.h: outer and inner corner of the eye on the right, on the left, and the nose.
DLIB_FACE = np.array(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ]
)


def dlib_points(shape):
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=float)


@pytest.mark.parametrize(("size", "padding"), [(150, 0.25), (300, 0.25), (200, 0.4)])
def test_warp_of_dlibs_points__is_dlibs_chip_to_the_last_bit(monkeypatch, astronaut, shape, size, padding):
    monkeypatch.setattr(_chips, "_MEAN_FACE", DLIB_FACE)
    monkeypatch.setattr(_chips, "_WEIGHTS", np.ones(5))
    chip = warp(astronaut, *alignment(dlib_points(shape), size, padding), size)
    np.testing.assert_array_equal(chip, dlib.get_face_chip(astronaut, shape, size=size, padding=padding))


@pytest.mark.parametrize(("size", "apart"), [(20, 10), (50, 6), (100, 3)])  # dlib shrinks by halves: it blurs more
def test_smaller_chips__are_close_to_dlibs_and_not_aliased(monkeypatch, astronaut, shape, size, apart):
    monkeypatch.setattr(_chips, "_MEAN_FACE", DLIB_FACE)
    monkeypatch.setattr(_chips, "_WEIGHTS", np.ones(5))
    a, b = alignment(dlib_points(shape), size, 0.25)
    assert abs(a) > 1
    chip = warp(astronaut, a, b, size).astype(int)
    assert np.abs(chip - dlib.get_face_chip(astronaut, shape, size=size, padding=0.25)).mean() < apart
    # A checkerboard of single pixels becomes grey.
    board = np.zeros_like(astronaut)
    board[::2, ::2] = board[1::2, 1::2] = 255
    if abs(a) > 2:
        assert warp(board, a, b, size).std() < 20


def test_eyes_of_dlib__are_the_middles_of_the_corners():
    np.testing.assert_allclose(_chips._MEAN_FACE[0], DLIB_FACE[2:4].mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(_chips._MEAN_FACE[1], DLIB_FACE[:2].mean(axis=0), atol=1e-12)


def test_points_of_another_detector__give_dlibs_chip_within_a_few_pixels(astronaut, shape):
    ours = alignment(np.array(EYES_NOSE_MOUTH), 150, 0.25)
    a, b, _ = similarity((0.25 + DLIB_FACE) / 1.5 * 150, dlib_points(shape))
    corners = np.array([25 + 25j, 125 + 25j, 25 + 125j, 125 + 125j, 75 + 75j])
    apart = np.abs((ours[0] * corners + ours[1] - b) / a - corners)
    assert apart.max() < 5
    expected = dlib.get_face_chip(astronaut, shape).astype(int)
    detector = FaceAligner(lambda image: [((175, 76, 265, 166), EYES_NOSE_MOUTH, None)])
    (chip,) = detector.transform([astronaut])
    similar = np.corrcoef(chip.ravel(), expected.ravel())[0, 1]
    mirrored = np.corrcoef(chip[:, ::-1].ravel(), expected.ravel())[0, 1]
    assert similar > 0.9
    assert similar > mirrored + 0.1


@pytest.mark.parametrize("weights", [None, np.array([2.0, 2, 1, 0, 0])])
def test_similarity__is_found_again_and_is_the_least_sum_of_squares(weights):
    random = np.random.default_rng(0)
    start = random.normal(size=(5, 2))
    a, b = 0.7 * np.exp(2.5j), 30 - 4j
    end = a * (start @ (1, 1j)) + b
    found = similarity(start, np.c_[end.real, end.imag], weights)
    np.testing.assert_allclose(found, (a, b, 0), atol=1e-12)
    noisy = np.c_[end.real, end.imag] + random.normal(size=(5, 2))
    a, b, least = similarity(start, noisy, weights)
    share = np.ones(5) if weights is None else weights
    for change in random.normal(scale=1e-3, size=(20, 4)):
        other = (a + change[0] + 1j * change[1]) * (start @ (1, 1j)) + b + change[2] + 1j * change[3]
        assert share @ np.abs(noisy @ (1, 1j) - other) ** 2 > least


def test_warp_without_change__is_a_crop_and_black_outside(astronaut):
    np.testing.assert_array_equal(warp(astronaut, 1, 30 + 20j, 64), astronaut[20:84, 30:94])
    chip = warp(astronaut, 1, -10 - 20j, 64)
    np.testing.assert_array_equal(chip[20:, 10:], astronaut[:44, :54])
    assert not chip[:20].any()
    assert not chip[:, :10].any()
    assert not warp(astronaut, 1, 5000, 8).any()


def test_warp_turned_by_a_quarter(astronaut):
    np.testing.assert_array_equal(warp(astronaut, 1j, 63, 64), np.rot90(astronaut[:64, :64], 1, (0, 1))[:, ::1][::1])


@pytest.mark.parametrize("turn", [0, 90, 180])
def test_exchanged__tells_left_from_right_however_the_face_is_turned(turn):
    points = (np.array(EYES_NOSE_MOUTH) @ (1, 1j)) * np.exp(1j * np.radians(turn))
    points = np.c_[points.real, points.imag]
    assert not exchanged(points)
    assert exchanged(points[[1, 0, 2, 4, 3]])


def test_exchanged__leaves_profiles_alone():
    # The eyes one behind the other, the nose to the side.
    profile = np.array([(100.0, 50), (97, 50), (70, 75), (92, 100), (90, 100)])
    assert not exchanged(profile)
    assert not exchanged(profile[[1, 0, 2, 4, 3]])
