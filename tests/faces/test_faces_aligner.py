"""What FaceAligner finds, takes, and says: dlib's own functions are the oracle."""

from __future__ import annotations

import io
import warnings

import dlib
import numpy as np
import pandas as pd
import pytest
from common.faces import BOX, EYES_NOSE_MOUTH, MarkedFace
from PIL import Image

from sklearn_psp import FaceAligner
from sklearn_psp.exceptions import FaceError, FaceWarning, ImageInputError, ImageReadError, MissingImageError
from sklearn_psp.faces._chips import Face, choose


@pytest.fixture(scope="module")
def couple(astronaut):
    """One image with two faces, the right one the larger."""
    large = np.asarray(Image.fromarray(astronaut[:, 100:356]).resize((384, 384)))
    return np.hstack([np.pad(astronaut[:, 100:356], ((0, 128), (0, 0), (0, 0))), large])


def as_file(image, file_format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("params", [{}, {"size": 96, "padding": 0.4}, {"upsample": 0}, {"size": 20}], ids=str)
def test_hog__gives_dlibs_chip_box_points_and_score(astronaut, predictor, params):
    aligner = FaceAligner(**params)
    chips = aligner.fit_transform([astronaut])
    size, padding = params.get("size", 150), params.get("padding", 0.25)
    boxes, scores, _ = dlib.get_frontal_face_detector().run(astronaut, params.get("upsample", 1), 0.0)
    shape = predictor(astronaut, boxes[0])
    assert chips.dtype == np.uint8
    np.testing.assert_array_equal(chips, [dlib.get_face_chip(astronaut, shape, size=size, padding=padding)])
    (face,) = aligner.faces_.itertuples()
    box = (boxes[0].left(), boxes[0].top(), boxes[0].right(), boxes[0].bottom())
    assert (face.left, face.top, face.right, face.bottom) == box
    assert (face.confidence, face.selected, face.chip) == (scores[0], True, 0)
    assert [(face.point3_x, face.point3_y)] == [(shape.part(3).x, shape.part(3).y)]


def test_cnn__gives_dlibs_chip(astronaut, predictor):
    from sklearn_psp.faces._detectors import _model_file

    image = np.ascontiguousarray(astronaut[:, 130:330])
    detector = dlib.cnn_face_detection_model_v1(str(_model_file("mmod_human_face_detector.dat")))
    (found,) = detector(image, 0)
    aligner = FaceAligner("cnn", upsample=0)
    chips = aligner.fit_transform([image])
    np.testing.assert_array_equal(chips, [dlib.get_face_chip(image, predictor(image, found.rect))])
    assert aligner.faces_["confidence"].tolist() == [found.confidence]


@pytest.mark.parametrize("side", [1, 5, 9, 12])
@pytest.mark.parametrize("detector", ["hog", "cnn"])
def test_images_of_a_few_pixels__have_no_face(detector, side):
    with pytest.raises(FaceError, match=rf"X\[0\] \(<array .*no face was found in its {side} x {side} pixels"):
        FaceAligner(detector, upsample=0).transform(np.zeros((1, side, side, 3), dtype=np.uint8))


def test_same_image_in_every_form__gives_the_same_chip(astronaut, tmp_path):
    path = tmp_path / "face.png"
    path.write_bytes(as_file(astronaut))
    expected = FaceAligner().transform([astronaut])
    forms = [path, str(path), path.read_bytes(), Image.open(path), np.asfortranarray(astronaut)]
    for X in (forms, pd.Series(forms, index=list("abcde")), pd.DataFrame({"image": forms}), [[f] for f in forms]):
        X = iter(X) if X is not forms and isinstance(X, list) else X
        np.testing.assert_array_equal(FaceAligner().transform(X), np.repeat(expected, 5, axis=0))
    np.testing.assert_array_equal(FaceAligner().transform(np.stack([astronaut])), expected)


def test_transparent_image__is_composed_on_white(astronaut):
    opaque = np.dstack([astronaut, np.full(astronaut.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(FaceAligner().transform([opaque]), FaceAligner().transform([astronaut]))


def test_small_grey_pgm__is_doubled_and_found(astronaut):
    grey = Image.fromarray(astronaut[20:236, 130:307]).convert("L").resize((92, 112))
    pgm = as_file(np.asarray(grey), "PPM")
    assert pgm.startswith(b"P5")
    chips = FaceAligner().transform([pgm])
    assert chips.shape == (1, 150, 150, 3)
    assert (chips[..., 0] == chips[..., 2]).all()
    with pytest.raises(FaceError, match=r"92 x 112 pixels by .*upsample=0.*about 80.*pass upsample=1"):
        FaceAligner(upsample=0).transform([pgm])


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (3, lambda p: p[::-1, ::-1]),
        (6, lambda p: np.rot90(p)),
        (8, lambda p: np.rot90(p, -1)),
        (2, lambda p: p[:, ::-1]),
    ],
)
def test_turn_of_a_phone__is_undone_before_the_search(astronaut, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = as_file(np.ascontiguousarray(stored(astronaut)), exif=exif)
    aligner = FaceAligner()
    np.testing.assert_array_equal(aligner.fit_transform([turned]), aligner.transform([astronaut]))
    assert aligner.faces_[["left", "top", "right", "bottom"]].to_numpy().tolist() == [list(BOX)]


def test_mirrored_image__gives_nearly_the_mirrored_chip(astronaut):
    upright, mirrored = FaceAligner().transform([astronaut, astronaut[:, ::-1]]).astype(int)
    assert np.abs(mirrored[:, ::-1] - upright).mean() < np.abs(mirrored - upright).mean() / 2


def test_select__takes_the_largest_the_most_confident_or_all(couple):
    faces = FaceAligner().detect([couple])
    assert len(faces) == 2
    area = (faces["right"] - faces["left"]) * (faces["bottom"] - faces["top"])
    all_chips = FaceAligner(select="all").transform([couple])
    assert all_chips.shape == (2, 150, 150, 3)
    for select, best in [("largest", area.argmax()), ("confident", faces["confidence"].argmax())]:
        aligner = FaceAligner(select=select)
        np.testing.assert_array_equal(aligner.fit_transform([couple]), all_chips[[best]])
        assert aligner.faces_["selected"].tolist() == [i == best for i in range(2)]
        assert aligner.faces_.loc[aligner.faces_["selected"], "chip"].tolist() == [0]
    assert faces["left"][area.argmax()] > 256


def test_choose():
    faces = [Face((0, 0, 9, 9), None, 0.5), Face((0, 0, 20, 20), None, np.nan), Face((0, 0, 20, 20), None, 0.7)]
    assert choose(faces, "largest") == [1]
    assert choose(faces, "confident") == [2]
    assert choose(faces, "all") == [0, 1, 2]
    assert choose(faces, "error") == []
    assert choose(faces[:1], "error") == [0]
    assert choose(faces[1:2], "confident") == [0]
    assert all(choose([], select) == [] for select in ("largest", "confident", "all", "error"))


def test_select_all__tells_which_chip_is_of_which_image(couple, astronaut, china):
    aligner = FaceAligner(select="all", on_error="nan")
    with pytest.warns(FaceWarning, match=r"1 images gave no face; the first is X\[1\]"):
        chips = aligner.fit_transform([couple, china, astronaut])
    assert aligner.faces_["image"].tolist() == [0, 0, 2]
    assert aligner.faces_["chip"].tolist() == [0, 1, 3]
    assert [chip is None for chip in chips] == [False, False, True, False]
    np.testing.assert_array_equal(chips[3], FaceAligner().transform([astronaut])[0])
    pd.testing.assert_frame_equal(aligner.detect([couple, china, astronaut]), aligner.faces_)


def test_several_faces__are_an_error_that_names_the_image(couple, astronaut):
    with pytest.raises(FaceError, match=r"^X\[1\] \(<array .*2 faces were found.*; pass select=.*crop") as caught:
        FaceAligner(select="error").transform([astronaut, couple])
    assert caught.value.errors["index"].tolist() == [1]
    assert FaceAligner(select="error").transform([astronaut]).shape == (1, 150, 150, 3)
    assert FaceAligner(select="error").detect([couple])["selected"].tolist() == [False, False]


def test_no_face__is_an_error_that_names_the_image_and_the_remedies(astronaut, china):
    with pytest.raises(
        FaceError, match=r"^X\[1\] \('.*china.jpg'\): no face .*640 x 427.*upsample=2.*\"cnn\""
    ) as caught:
        FaceAligner().transform([astronaut, china])
    assert caught.value.errors["source"].tolist() == [china]
    assert isinstance(caught.value, ImageReadError)
    assert isinstance(caught.value, ValueError)
    assert FaceAligner().detect([china]).empty


def test_on_error_nan__puts_none_for_every_failure_and_warns_once(astronaut, china, couple, tmp_path):
    X = [astronaut, china, str(tmp_path / "not_there.jpg"), b"not images", couple, astronaut]
    aligner = FaceAligner(select="error", on_error="nan")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chips = aligner.fit_transform(X)
    (warning,) = caught
    assert warning.category is FaceWarning
    assert warning.filename == __file__
    assert chips.shape == (6,)
    assert [chip is None for chip in chips] == [False, True, True, True, True, False]
    np.testing.assert_array_equal(chips[5], FaceAligner().transform([astronaut])[0])
    for errors in (aligner.errors_, warning.message.errors):
        assert errors["index"].tolist() == [1, 2, 3, 4]
        reasons = ["no face was found", "there is no such file", "not an image", "2 faces were found"]
        assert all(part in reason for part, reason in zip(reasons, errors["reason"], strict=True))
    assert aligner.faces_["image"].tolist() == [0, 4, 4, 5]


@pytest.mark.parametrize("method", ["transform", "detect", "fit_transform"])
def test_warning__points_to_the_caller(method):
    with pytest.warns(FaceWarning) as caught:
        getattr(FaceAligner(on_error="nan"), method)([b"not images"])
    assert [warning.filename for warning in caught] == [__file__]


def test_without_failures__on_error_nan_gives_plain_pixels(astronaut):
    assert FaceAligner(on_error="nan").transform([astronaut]).dtype == np.uint8


def test_only_failures__are_an_array_of_none(china):
    with pytest.warns(FaceWarning):
        chips = FaceAligner(on_error="nan").transform([china, china])
    assert chips.tolist() == [None, None]


def test_files_that_do_not_exist__are_all_named_at_once(astronaut):
    with pytest.raises(MissingImageError, match=r"2 of 3 images.*X\[0\] \('a.jpg'\), X\[2\] \('b.jpg'\)"):
        FaceAligner().transform(["a.jpg", astronaut, "b.jpg"])


@pytest.mark.parametrize("method", ["transform", "detect"])
def test_unreadable_image__is_named_with_the_reason(astronaut, method):
    with pytest.raises(ImageReadError, match=r"^X\[1\] \(<bytes, 10 long>\): it could not be decoded: not a") as caught:
        getattr(FaceAligner(), method)([astronaut, b"not images"])
    assert not isinstance(caught.value, FaceError)


@pytest.mark.parametrize("X", [[], "a.jpg", iter([]), np.zeros((3, 4))], ids=["empty", "path", "generator", "table"])
def test_x_that_is_no_collection__is_refused(X):
    with pytest.raises(ImageInputError):
        FaceAligner().transform(X)


@pytest.mark.parametrize("method", ["fit", "transform", "detect"])
@pytest.mark.parametrize(
    "params", [{"detector": "mtcnn"}, {"select": "first"}, {"size": 0}, {"padding": -0.1}, {"upsample": -1}], ids=str
)
def test_parameters__are_checked_without_fit_too(astronaut, method, params):
    with pytest.raises(ValueError, match=f"The {next(iter(params))!r} parameter of FaceAligner"):
        getattr(FaceAligner(**params), method)([astronaut])


def test_callable__gets_a_copy_of_the_image(astronaut):
    def spoil(image):
        image[:] = 0
        return [(BOX, EYES_NOSE_MOUTH, 1.0)]

    before = astronaut.copy()
    FaceAligner(spoil).transform([astronaut])
    np.testing.assert_array_equal(astronaut, before)


def test_callable__follows_the_face_when_it_is_turned_and_scaled(astronaut):
    (expected,) = FaceAligner(MarkedFace()).transform([astronaut]).astype(int)
    turned = np.ascontiguousarray(np.rot90(astronaut.repeat(2, axis=0).repeat(2, axis=1), -1))
    height = 2 * len(astronaut)
    points = [(height - 1 - (2 * y + 0.5), 2 * x + 0.5) for x, y in EYES_NOSE_MOUTH]
    aligner = FaceAligner(lambda image: [((0, 0, 9, 9), points, None)])
    assert np.abs(aligner.transform([turned])[0] - expected).mean() < 4
    assert np.isnan(aligner.detect([turned])["confidence"]).all()


def test_callable_without_faces__is_the_same_failure(astronaut):
    with pytest.raises(FaceError, match=r"X\[1\] .*no face .*by the detector that was given; pass detector=None"):
        FaceAligner(MarkedFace()).transform([astronaut, astronaut // 8])


@pytest.mark.parametrize(
    "found",
    [
        [(BOX, EYES_NOSE_MOUTH)],
        [(BOX[:3], EYES_NOSE_MOUTH, 1.0)],
        [((9, 0, 3, 4), EYES_NOSE_MOUTH, 1.0)],
        [(BOX, EYES_NOSE_MOUTH[:4], 1.0)],
        [(BOX, [(np.nan, 0)] * 5, 1.0)],
        [(BOX, "eyes", 1.0)],
        None,
    ],
    ids=["no confidence", "three sides", "inside out", "four points", "NaN", "text", "None"],
)
def test_callable_that_returns_something_else__is_told_so_whatever_on_error_says(astronaut, found):
    with pytest.raises(ValueError, match=r"detector\(image\) must return a list of \(box, points, confi") as caught:
        FaceAligner(lambda image: found, on_error="nan").transform([astronaut])
    assert caught.value.__notes__ == ["while searching X[0] (<array (256, 512, 3) uint8>) for faces"]


def test_callable_that_raises__is_not_swallowed(astronaut):
    def broken(image):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        FaceAligner(broken, on_error="nan").transform([astronaut])
    assert "X[0]" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([EYES_NOSE_MOUTH[i] for i in (1, 0, 2, 4, 3)], "left and right exchanged"),
        ([(50.0, 50.2)] * 5, "all in one place"),
    ],
)
def test_callable_with_points_that_make_no_face__is_a_failure_of_that_image(astronaut, points, reason):
    def detector(image):
        return [(BOX, points, 1.0)]

    with pytest.raises(FaceError, match=rf"X\[0\] .*{reason}.*correct the detector"):
        FaceAligner(detector).transform([astronaut])
    aligner = FaceAligner(detector, on_error="nan")
    with pytest.warns(FaceWarning, match=reason):
        assert aligner.transform([astronaut]).tolist() == [None]
    assert aligner.detect([astronaut])["selected"].tolist() == [False]


def test_chips__pass_as_they_are_or_are_resized(astronaut):
    chips = FaceAligner().transform([astronaut])
    aligner = FaceAligner(None)
    np.testing.assert_array_equal(aligner.fit_transform(chips), chips)
    assert aligner.faces_[["left", "top", "right", "bottom"]].to_numpy().tolist() == [[0, 0, 150, 150]]
    assert aligner.faces_.filter(like="point").isna().all(axis=None)
    small = FaceAligner(None, size=20).transform(chips)
    assert small.shape == (1, 20, 20, 3)
    assert abs(small.mean() - chips.mean()) < 2


def test_detect__has_the_promised_columns_also_without_a_row(astronaut, china):
    for frame in (FaceAligner().detect([astronaut]), FaceAligner().detect([china])):
        assert frame.shape[1] == 19
        head = ["image", "source", "left", "top", "right", "bottom", "confidence", "selected", "chip"]
        assert list(frame)[:11] == [*head, "point0_x", "point0_y"]
        assert frame["image"].dtype == frame["chip"].dtype == np.int64
        assert frame["selected"].dtype == bool
        assert (frame.dtypes[["left", "bottom", "confidence", "point4_y"]] == np.float64).all()


def test_many_images__come_in_order(astronaut, china):
    bright = [astronaut // 4 * 3, astronaut, astronaut // 2]
    expected = [FaceAligner().transform([image])[0] for image in bright]
    X = [bright[i % 3] if i % 5 else china for i in range(20)]
    with pytest.warns(FaceWarning, match="4 images"):
        chips = FaceAligner(on_error="nan", n_jobs=2).transform(X)
    for i, chip in enumerate(chips):
        if i % 5:
            np.testing.assert_array_equal(chip, expected[i % 3])
        else:
            assert chip is None
