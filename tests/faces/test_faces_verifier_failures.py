"""Images that cannot be compared: what FaceVerifier says of their pairs, and that it says it once."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from common.pairs import DarkIsNaN, all_pairs, descriptor_pairs, portraits
from common.transformers import ColourGrid, DescribingGrid
from PIL import Image
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sklearn_psp import FaceVerifier
from sklearn_psp.exceptions import FaceError, FaceWarning, ImageReadError, MissingImageError
from sklearn_psp.faces import make_face_featurizer

NO_IMAGE = "not an image of a format that Pillow reads (10 bytes)"


def verifier(on_error="nan", featurizer=DescribingGrid, **params):
    return FaceVerifier(featurizer(2, on_error=on_error), on_error=on_error, random_state=0, **params)


@pytest.fixture
def pairs():
    """All pairs of twelve portraits."""
    return all_pairs(*portraits())


@pytest.fixture
def bad(pairs, tmp_path):
    """Pairs of which four of seven cannot be compared, and why."""
    (good, other), path = pairs[0][0], tmp_path / "broken.jpg"
    path.write_bytes(b"not images")
    missing = str(tmp_path / "missing.jpg")
    asked = [(good, other), (str(path), good), (good, missing), (good, other), (missing, str(path)), (other, None)]
    rows = [
        (1, "first", str(path), NO_IMAGE),
        (2, "second", missing, "there is no such file"),
        (4, "first", missing, "there is no such file"),
        (4, "second", str(path), NO_IMAGE),
        (5, "second", "<missing value>", "it is a missing value (None)"),
    ]
    return [*asked, (other, good)], pd.DataFrame(rows, columns=["index", "side", "source", "reason"])


IS_BAD = [False, True, True, False, True, True, False]
SAID = r"4 of 7 pairs cannot be compared; the first is pairs\[1\], the first \(.*broken.jpg\): not an image of a format"


def snapshot(fitted):
    return {name: pickle.dumps(value) for name, value in vars(fitted).items()}


# ------------------------------------------------------------------------------------------------- on_error="raise"


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (
            "broken",
            ImageReadError,
            r"^pairs\[2\], the second \('.*broken.jpg'\): not an image .*; remove the pair or pass "
            r'on_error="nan"$',
        ),
        (
            "missing",
            MissingImageError,
            r"^1 of 3 images are files that do not exist: pairs\[2\], the second \('.*missing.jpg'\); correct the "
            r'paths .*, remove the pair or pass on_error="nan"$',
        ),
        (
            "no value",
            ImageReadError,
            r"^pairs\[2\], the second \(<missing value>\): .*a missing value \(nan\).*remove the pair",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "predict", "predict_proba", "score", "verify"])
def test_bad_image__is_an_error_that_says_which_and_why(pairs, tmp_path, second, error, message, verb):
    (tmp_path / "broken.jpg").write_bytes(b"not images")
    second = float("nan") if second == "no value" else str(tmp_path / f"{second}.jpg")
    fitted = verifier("raise").fit(*pairs)
    before = snapshot(fitted)
    good, other = pairs[0][0]
    asked, y = [(good, other), (other, good), (good, second), (second, other)], [True, False, True, False]
    arguments = {"fit": (asked, y), "score": (asked, y), "verify": tuple(zip(*asked, strict=True))}
    with pytest.raises(error, match=message) as caught:
        getattr(fitted, verb)(*arguments.get(verb, (asked,)))
    assert type(caught.value) is error
    assert caught.value.errors[["index", "side"]].to_numpy().tolist() == [[2, "second"], [3, "first"]]
    assert len(set(caught.value.errors["reason"])) == 1
    assert snapshot(fitted) == before


def test_error__names_the_first_pair_of_the_image(pairs):
    good, other = pairs[0][0]
    bad = b"not images"
    fitted = verifier("raise").fit(*pairs)
    with pytest.raises(ImageReadError, match=r"^pairs\[1\], the second "):
        fitted.predict([(good, other), (good, bad), (bad, good)])


@pytest.mark.parametrize("verb", ["fit", "predict", "score_samples", "decision_function", "predict_proba", "score"])
def test_row_of_nan__is_an_error_too(pairs, verb):
    fitted = verifier("raise", DarkIsNaN).fit(*pairs)
    before = snapshot(fitted)
    dark = np.zeros((8, 8, 3), np.uint8)
    asked = [*pairs[0][:5], (pairs[0][0][0], dark)]
    arguments = (asked, pairs[1][:6]) if verb in ("fit", "score") else (asked,)
    with pytest.raises(
        FaceError,
        match=r"^pairs\[5\], the second \(<array \(8, 8, 3\) uint8>\): its descriptor is NaN or infinite; remove the "
        r'pair or pass on_error="nan"$',
    ) as caught:
        getattr(fitted, verb)(*arguments)
    assert caught.value.errors.to_numpy().tolist() == [
        [5, "second", "<array (8, 8, 3) uint8>", "its descriptor is NaN or infinite"]
    ]
    assert snapshot(fitted) == before


def test_descriptor_of_zeros__has_no_direction_but_a_place():
    pairs, same = descriptor_pairs()
    pairs[3, 1] = 0
    with pytest.raises(FaceError, match=r"^pairs\[3\], the second \(<array .*>\): its descriptor is zero; remove"):
        FaceVerifier(None).fit(pairs, same)
    fitted = FaceVerifier(None, metric="euclidean").fit(pairs, same)
    assert fitted.score_samples(pairs)[3] == pytest.approx(-np.linalg.norm(pairs[3, 0]))


# ------------------------------------------------------------------------------------------------- on_error="nan"


@pytest.mark.parametrize("verb", ["score_samples", "decision_function", "predict_proba"])
def test_pairs_that_cannot_be_compared__are_nan(pairs, bad, verb):
    asked, errors = bad
    fitted = verifier().fit(*pairs)
    with pytest.warns(FaceWarning, match=SAID) as caught:
        result = getattr(fitted, verb)(asked)
    assert np.isnan(result).reshape(7, -1).all(axis=1).tolist() == IS_BAD
    good = [pair for pair, is_bad in zip(asked, IS_BAD, strict=True) if not is_bad]
    np.testing.assert_array_equal(result[~np.array(IS_BAD)], getattr(fitted, verb)(good))
    (warning,) = caught
    assert warning.filename == __file__
    pd.testing.assert_frame_equal(warning.message.errors, errors, check_dtype=False)


def test_predict__has_no_label_for_them(pairs, bad):
    asked, errors = bad
    fitted = verifier().fit(*pairs)
    with (
        pytest.warns(FaceWarning, match=SAID),
        pytest.raises(
            FaceError, match=r"^4 pairs cannot be compared, the first is pairs\[1\] .*predict_proba"
        ) as caught,
    ):
        fitted.predict(asked)
    pd.testing.assert_frame_equal(caught.value.errors, errors, check_dtype=False)


def test_score__leaves_them_out_with_their_weights(pairs, bad):
    asked, _ = bad
    fitted = verifier().fit(*pairs)
    kept = ~np.array(IS_BAD)
    good = [pair for pair, keep in zip(asked, kept, strict=True) if keep]
    y, weights = np.array([True, True, True, False, False, False, True]), np.arange(1, 8)
    with pytest.warns(FaceWarning, match=SAID):
        score = fitted.score(asked, y, sample_weight=weights)
    assert score == fitted.score(good, y[kept], sample_weight=weights[kept]) == pytest.approx(8 / 12)
    with pytest.warns(FaceWarning, match="3 of 3"), pytest.raises(FaceError, match="there is nothing to score"):
        fitted.score([asked[1], asked[2], asked[4]], [True, False, True])


def test_verify_of_columns__has_a_missing_verdict_and_the_reason(pairs, bad):
    asked, _ = bad
    fitted = verifier().fit(*pairs)
    first, second = (pd.Series([pair[side] for pair in asked], index=list("abcdefg"), dtype=object) for side in (0, 1))
    with pytest.warns(FaceWarning, match=SAID) as caught:
        table = fitted.verify(first, second)
    assert [warning.filename for warning in caught] == [__file__]
    assert table.index.tolist() == list("abcdefg")
    assert table["same"].isna().tolist() == IS_BAD
    assert table["same"]["b"] is pd.NA
    assert table["score"].isna().tolist() == table["probability"].isna().tolist() == IS_BAD
    assert (table["threshold"] == fitted.threshold_).all()
    assert table["reason"].tolist() == [
        None,
        f"first: {NO_IMAGE}",
        "second: there is no such file",
        None,
        f"first: there is no such file; second: {NO_IMAGE}",
        "second: it is a missing value (None)",
        None,
    ]


@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_verify_of_two__is_an_error_whatever_on_error_says(pairs, on_error):
    fitted = verifier(on_error, DarkIsNaN).fit(*pairs)
    good, other = pairs[0][0]
    for bad, error in ((b"not images", ImageReadError), (np.zeros((8, 8, 3), np.uint8), FaceError)):
        for two in ((good, bad), (bad, good)):
            with pytest.raises(error, match=r"<(bytes, 10 long|array \(8, 8, 3\) uint8)>"):
                fitted.verify(*two)
    assert fitted.verify(good, other).same


def test_fit__leaves_them_out_and_says_so_once(pairs, bad):
    asked, errors = bad
    y = [True, True, False, True, False, True, False]
    good = [pair for pair, is_bad in zip(asked, IS_BAD, strict=True) if not is_bad]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = verifier().fit(asked + pairs[0], np.append(y, pairs[1]))
    (warning,) = caught
    assert (warning.category, warning.filename) == (FaceWarning, __file__)
    assert str(warning.message).startswith("4 of 73 pairs cannot be compared; the first is pairs[1], the first")
    expected = verifier().fit(good + pairs[0], np.append([True, True, False], pairs[1]))
    assert fitted.n_genuine_ + fitted.n_impostor_ == 69
    assert fitted.threshold_ == pytest.approx(expected.threshold_)
    assert fitted.threshold_interval_ == pytest.approx(expected.threshold_interval_, abs=1e-6)
    assert (fitted.far_, fitted.frr_, fitted.n_genuine_) == (expected.far_, expected.frr_, expected.n_genuine_)
    for table in (fitted.errors_, warning.message.errors):
        pd.testing.assert_frame_equal(table, errors, check_dtype=False)
    assert fitted.errors_["index"].dtype == np.int64
    assert expected.errors_.empty
    assert list(expected.errors_) == list(errors)


def test_fit_with_on_error_raise__has_no_table(pairs):
    fitted = verifier().fit(*pairs)
    fitted.set_params(on_error="raise", featurizer__on_error="raise").fit(*pairs)
    assert not hasattr(fitted, "errors_")


@pytest.mark.parametrize("y", [[True, False, True], [True, True, True]])
def test_fit_of_pairs_that_all_failed__says_that_none_could_be_compared(pairs, bad, y):
    asked, _ = bad
    fitted = verifier().fit(*pairs)
    before = snapshot(fitted)
    with (
        pytest.warns(FaceWarning, match="3 of 3 pairs"),
        pytest.raises(
            ValueError, match=r"y holds no pairs of the same person \(1\) that could be compared: a threshold"
        ),
    ):
        fitted.fit([asked[1], asked[2], asked[4]], y)
    assert snapshot(fitted) == before


@pytest.mark.parametrize("row", [np.nan, np.inf, 0.0], ids=str)
def test_descriptors_that_cannot_be_compared__are_left_out(row):
    pairs, same = descriptor_pairs()
    bad = pairs.copy()
    bad[[3, 40], [0, 1]] = row
    with pytest.warns(
        FaceWarning, match=r"2 of 90 pairs cannot be compared; the first is pairs\[3\], the first"
    ) as said:
        fitted = FaceVerifier(None, on_error="nan", random_state=0).fit(bad, same)
    assert [warning.filename for warning in said] == [__file__]
    assert fitted.errors_["side"].tolist() == ["first", "second"]
    assert set(fitted.errors_["reason"]) == {"its descriptor is NaN or infinite" if row else "its descriptor is zero"}
    kept = np.delete(np.arange(90), [3, 40])
    expected = FaceVerifier(None, random_state=0).fit(pairs[kept], same[kept])
    np.testing.assert_array_equal(fitted.predict_proba(pairs), expected.predict_proba(pairs))
    assert fitted.threshold_interval_ == expected.threshold_interval_


# ------------------------------------------------------------------------------------------------- what others say


class Talkative(ColourGrid):
    """Warns of something else than images."""

    def transform(self, X):
        """Describe the images."""
        warnings.warn("mine", RuntimeWarning, stacklevel=1)
        return super().transform(X)


def test_other_warnings_of_the_featurizer__are_heard(pairs):
    with pytest.warns(RuntimeWarning, match="mine"):
        verifier(featurizer=Talkative).fit(*pairs)


def test_other_errors_of_the_featurizer__pass(pairs):
    class Broken(ColourGrid):
        def rows(self, images):
            raise KeyError("X[0] is mine")

    with pytest.raises(KeyError, match=r"X\[0\] is mine"):
        verifier(featurizer=Broken).fit(*pairs)


# ------------------------------------------------------------------------------------------------- faces


@pytest.fixture(scope="module")
def faces(astronaut, tmp_path_factory):
    """Files of the astronaut, of her mirrored, and of her in the dark."""
    folder = tmp_path_factory.mktemp("faces")
    images = {"face": astronaut, "mirrored": astronaut[:, ::-1], "darker": astronaut // 2}
    for name, image in images.items():
        Image.fromarray(image[:, 128:384]).save(folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in images]


def dlib_face(on_error):
    fast = {"psp__runtime": "torch", "psp__precision": "float32", "psp__device": "cpu"}
    return make_face_featurizer(on_error=on_error).set_params(**fast)


def test_image_without_a_face__is_named_with_what_to_do(faces, china):
    fitted = FaceVerifier(dlib_face("raise")).fit([faces[:2], faces[1:]], [True, False])
    with pytest.raises(
        FaceError,
        match=r"^pairs\[1\], the second \('.*china.jpg'\): no face was found .*upsample=2.*remove the pair or",
    ):
        fitted.predict([faces[:2], (faces[0], china)])
    with pytest.raises(FaceError, match=r"china.jpg.*no face was found"):
        fitted.verify(china, faces[0])


def test_image_without_a_face__is_left_out_and_described_once(faces, china):
    face, mirrored, darker = faces
    pairs = [(face, mirrored), (face, china), (china, darker), (mirrored, darker), (face, darker)]
    with pytest.warns(
        FaceWarning, match=r"2 of 5 pairs.*pairs\[1\], the second \(.*china.jpg\): no face was"
    ) as caught:
        fitted = FaceVerifier(dlib_face("nan"), on_error="nan").fit(pairs, [1, 0, 1, 0, 1])
    assert [(warning.category, warning.filename) for warning in caught] == [(FaceWarning, __file__)]
    assert fitted.errors_[["index", "side", "source"]].to_numpy().tolist() == [
        [1, "second", china],
        [2, "first", china],
    ]
    assert fitted.errors_["reason"].str.startswith("no face was found").all()
    with pytest.raises(FaceError, match=r"^the second image \('.*china.jpg'\) cannot be compared: no face was found"):
        fitted.verify(face, china)


@pytest.mark.parametrize("own", ["raise", "nan"])
def test_on_error__decides_for_the_featurizer_too(pairs, bad, own):
    asked, errors = bad
    grid = DescribingGrid(2, on_error=own)
    nested = Pipeline([("inner", Pipeline([("as_is", "passthrough"), ("grid", grid)]))])
    for featurizer in (
        grid,
        nested,
        FrozenEstimator(clone(nested).fit([image for pair in pairs[0] for image in pair])),
    ):
        fitted = FaceVerifier(featurizer, on_error="nan", random_state=0)
        with pytest.warns(FaceWarning) as caught:
            fitted.fit(asked + pairs[0], np.append([True, True, False, True, False, True, False], pairs[1]))
        assert [(warning.category, warning.filename) for warning in caught] == [(FaceWarning, __file__)]
        pd.testing.assert_frame_equal(fitted.errors_, errors, check_dtype=False)
        with pytest.raises(ImageReadError, match=r"^pairs\[1\], the first \('.*broken.jpg'\): not an image"):
            fitted.set_params(on_error="raise").predict(asked[:2])


def test_file_names__are_never_taken_for_places(pairs, tmp_path):
    path = str(tmp_path / "remove it from X, X[1].jpg")
    (tmp_path / "remove it from X, X[1].jpg").write_bytes(b"not images")
    fitted = verifier("raise").fit(*pairs)
    with pytest.raises(ImageReadError) as caught:
        fitted.predict([pairs[0][0], (pairs[0][0][0], path)])
    assert str(caught.value) == (f'pairs[1], the second ({path!r}): {NO_IMAGE}; remove the pair or pass on_error="nan"')
    missing = [str(tmp_path / f"X[{i}].jpg") for i in (7, 0)]
    with pytest.raises(MissingImageError) as caught:
        fitted.predict([pairs[0][0], missing])
    said = f"pairs[1], the first ({missing[0]!r}), pairs[1], the second ({missing[1]!r}); correct the paths"
    assert f"2 of 4 images are files that do not exist: {said}" in str(caught.value)


def test_missing_file_of_two__is_a_missing_file(pairs, tmp_path):
    missing = str(tmp_path / "missing.jpg")
    with pytest.raises(
        MissingImageError, match=r"^the second image \('.*missing.jpg'\) cannot be compared: there is no"
    ):
        verifier("raise").fit(*pairs).verify(pairs[0][0][0], missing)


def test_error_of_pairs__survives_a_pickle(faces, china):
    fitted = FaceVerifier(dlib_face("raise")).fit([faces[:2], faces[1:]], [True, False])
    with pytest.raises(FaceError) as caught:
        fitted.predict([(faces[0], china)])
    error = pickle.loads(pickle.dumps(caught.value))
    assert (type(error), str(error), error.remedy) == (FaceError, str(caught.value), caught.value.remedy)
    assert "upsample=2" in error.remedy
    pd.testing.assert_frame_equal(error.errors, caught.value.errors)
