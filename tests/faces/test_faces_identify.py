"""The table of faces and names: a row a face, whatever the image, and a row with the reason where there is none."""

from __future__ import annotations

import io

import dlib
import numpy as np
import pandas as pd
import pytest
from common import people_oracles
from common.people import METRICS, NO_FACE, TileFaces, described, of_descriptors, side_by_side, tile, tile_featurizer
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline

from sklearn_psp import FaceAligner, FaceIdentifier
from sklearn_psp.exceptions import FaceWarning, FewPairsWarning, ImageInputError, ImageReadError, MissingImageError
from sklearn_psp.faces import make_face_featurizer

COLUMNS = {
    "image": "int64",
    **dict.fromkeys(["left", "top", "right", "bottom", "confidence"], "float64"),
    "name": "object",
    "score": "float64",
    "probability": "float64",
    "source": "object",
    "runner_up": "object",
    "runner_up_score": "float64",
    "reason": "object",
}
BOX = ["left", "top", "right", "bottom"]
TILES = [tile(person, seed) for person in range(4) for seed in range(3)]
NAMES = [f"p{person:02d}" for person in range(4) for _ in range(3)]
# Two faces, none, a stranger's, and three faces with a gap before them.
IMAGES = [
    side_by_side(tile(2, 9), tile(0, 9)),
    NO_FACE,
    tile(50),
    side_by_side(NO_FACE, tile(1, 8), tile(51), tile(3, 7)),
]


@pytest.fixture(scope="module")
def identifier():
    return FaceIdentifier(tile_featurizer(), threshold=0.998).fit(TILES, NAMES)


def encoded(image, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", exif=exif)
    return file.getvalue()


def boxes(found):
    return found[BOX].to_numpy().tolist()


def test_every_face__has_a_row_with_its_box_and_its_two_best_people(identifier):
    found = identifier.identify(IMAGES)
    assert found["image"].tolist() == [0, 0, 1, 2, 3, 3, 3]
    lefts = [0, 64, None, 0, 64, 128, 192]
    expected = [[np.nan] * 4 if left is None else [left + 8.0, 8.0, left + 56.0, 56.0] for left in lefts]
    np.testing.assert_array_equal(boxes(found), expected)
    faces = [tile(2, 9), tile(0, 9), None, tile(50), tile(1, 8), tile(51), tile(3, 7)]
    enrolled = identifier.featurizer_.transform(TILES)
    names = []
    for row, face in zip(found.itertuples(), faces, strict=True):
        if face is None:
            names.append(None)
            continue
        assert row.confidence == pytest.approx(face.mean() / 255)
        ((first, second, *_),) = people_oracles.ranked(
            identifier.featurizer_.transform([face]), enrolled, NAMES, "cosine"
        )
        assert row.score == pytest.approx(first[0], abs=1e-6)
        assert (row.runner_up, row.runner_up_score) == (second[1], pytest.approx(second[0], abs=1e-6))
        probabilities = identifier.predict_proba([face])[0]
        assert row.probability == pytest.approx(dict(zip(identifier.classes_, probabilities, strict=True))[first[1]])
        names.append(first[1] if first[0] >= 0.998 else "unknown")
    assert found["name"].tolist() == names == ["p02", "p00", None, "unknown", "p01", "unknown", "p03"]
    assert found.loc[2, "reason"].startswith("no face was found in its 64 x 64 pixels by the detector")
    assert found["reason"].isna().tolist() == [True, True, False, True, True, True, True]


def test_faces_of_a_image__are_described_with_the_centre_of_fit():
    identifier = FaceIdentifier(tile_featurizer(psp__center=True), threshold=0.9).fit(TILES, NAMES)
    faces = [tile(person, 9) for person in range(4)]
    found = identifier.identify([side_by_side(*faces)])
    pd.testing.assert_frame_equal(found.loc[:, "name":"reason"], identifier.identify(faces).loc[:, "name":"reason"])
    pairs = people_oracles.ranked(
        identifier.featurizer_.transform(faces), identifier.featurizer_.transform(TILES), NAMES, "cosine"
    )
    np.testing.assert_allclose(found["score"], [people[0][0] for people in pairs], atol=1e-6)


@pytest.mark.parametrize(
    ("select", "lefts"), [("largest", [8, None, 8, 72]), ("confident", None), ("error", [None, None, 8, None])]
)
def test_select__chooses_among_the_faces_of_a_image(identifier, select, lefts):
    found = identifier.identify(IMAGES, select=select)
    assert found["image"].tolist() == [0, 1, 2, 3]
    if select == "confident":
        whole = identifier.identify(IMAGES)
        best = whole.groupby("image")["confidence"].max()
        np.testing.assert_array_equal(found["confidence"], best)
        assert found.loc[0, "name"] == "p00"
    else:
        assert [None if np.isnan(left) else left for left in found["left"]] == lefts
    if select == "error":
        assert found["reason"].str[:22].tolist()[::3] == ["2 faces were found whe", "3 faces were found whe"]
        assert found.loc[[0, 1, 3], "name"].isna().all()


@pytest.mark.parametrize("of", ["tiles", "descriptors"])
def test_select__is_checked_with_and_without_an_aligner(identifier, of):
    one = identifier if of == "tiles" else of_descriptors().fit(*described(range(4), 3))
    with pytest.raises(ValueError, match="select must be one of 'largest', 'confident', 'all', 'error', got 'first'"):
        one.identify(IMAGES if of == "tiles" else described([0])[0], select="first")


def test_image_that_cannot_be_read__is_an_error_or_a_row(identifier, tmp_path):
    X = [tile(0, 5), b"not images", NO_FACE, str(tmp_path / "not_there.png")]
    with pytest.raises(ImageReadError, match=r"X\[1\] \(<bytes, 10 long>\): it could not be decoded"):
        identifier.identify(X[:3])
    with pytest.raises(MissingImageError, match="not_there"):
        identifier.identify(X)
    lenient = FaceIdentifier(tile_featurizer(), threshold=0.998, on_error="nan").fit(TILES, NAMES)
    found = lenient.identify(X)  # without a warning: the table says it all
    assert found["image"].tolist() == [0, 1, 2, 3]
    assert found["name"].tolist() == ["p00", None, None, None]
    parts = ["it could not be decoded: not an image", "no face was found", "there is no such file"]
    assert all(part in reason for part, reason in zip(parts, found["reason"][1:], strict=True))
    assert found.drop(columns=["image", "reason"])[1:].isna().all(axis=None)
    assert not found.loc[0, found.columns.difference(["source", "reason"])].isna().any()


def kinds(found):
    return {name: str(dtype) for name, dtype in found.dtypes.items()}


def test_columns__are_the_promised_ones_whatever_is_in_them(identifier):
    assert kinds(identifier.identify(IMAGES)) == COLUMNS
    assert kinds(identifier.identify([tile(0)])) == COLUMNS
    assert kinds(identifier.identify([NO_FACE])) == COLUMNS
    X, names = described(range(4), 3)
    lenient = of_descriptors(on_error="nan").fit(X, names)
    assert kinds(lenient.identify(X[:2])) == COLUMNS
    assert kinds(lenient.identify(np.full((2, 16), np.nan))) == COLUMNS
    one = of_descriptors(threshold=0.5).fit(X[:3], names[:3])
    assert kinds(one.identify(X[:2])) == COLUMNS
    assert list(identifier.identify([tile(0)])) == list(COLUMNS)


def test_index_of_a_series_or_a_column__names_the_images(identifier):
    index = ["d", "c", "a", "b"]
    expected = identifier.identify(IMAGES).drop(columns="image")
    for X in (pd.Series(IMAGES, index=index), pd.DataFrame({"any": IMAGES}, index=index)):
        found = identifier.identify(X)
        assert found["image"].tolist() == ["d", "d", "c", "a", "b", "b", "b"]
        pd.testing.assert_frame_equal(found.drop(columns="image"), expected)
    batches = (IMAGES[i : i + 2] for i in (0, 2))
    assert identifier.identify(batches)["image"].tolist() == [0, 0, 1, 2, 3, 3, 3]


def test_nothing__is_refused(identifier):
    with pytest.raises(ImageInputError, match="X is empty"):
        identifier.identify([])


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [(3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p)), (8, lambda p: np.rot90(p, -1))],
)
def test_turn_of_a_phone__gives_the_box_in_the_turned_image(identifier, orientation, stored):
    upright = side_by_side(NO_FACE, tile(2, 9), NO_FACE)
    turned = encoded(np.ascontiguousarray(stored(upright)), orientation)
    found = identifier.identify([turned])
    assert boxes(found) == [[72, 8, 120, 56]]
    pd.testing.assert_frame_equal(found, identifier.identify([upright]))
    # As it is stored, nobody is there.
    assert identifier.identify([encoded(np.ascontiguousarray(stored(upright)))])["name"].tolist() != ["p02"]


def test_source__is_the_path_of_the_most_alike_image(tmp_path):
    X = []
    for i, image in enumerate(TILES):
        path = tmp_path / f"{i}.png"
        path.write_bytes(encoded(image))
        X.append([str(path), path, image][i % 3])  # a path in either form, or none
    # Strangers have paths too, and are no part of the gallery.
    stranger = tmp_path / "stranger.png"
    stranger.write_bytes(encoded(tile(70)))
    identifier = FaceIdentifier(tile_featurizer(), threshold=0.998)
    identifier.fit([stranger, *X[:5], stranger, *X[5:]], ["unknown", *NAMES[:5], "unknown", *NAMES[5:]])
    queries = [tile(person, seed) for person in range(4) for seed in range(5, 10)]

    def check(kept):
        enrolled = identifier.featurizer_.transform([TILES[i] for i in kept]).astype(np.float64)
        nearest = [
            kept[int(np.argmin([sum((row - other) ** 2) for other in enrolled]))]
            for row in identifier.featurizer_.transform(queries).astype(np.float64)
        ]
        expected = [None if i % 3 == 2 else str(tmp_path / f"{i}.png") for i in nearest]
        assert identifier.identify(queries)["source"].tolist() == expected
        assert len({*expected} - {None}) > 2

    check(list(range(12)))
    identifier.remove("p01")
    check([0, 1, 2, *range(6, 12)])
    identifier.enroll(X[3:6], NAMES[3:6])
    check([0, 1, 2, *range(6, 12), 3, 4, 5])


def test_source_of_descriptors__is_missing():
    X, names = described(range(4), 3)
    assert of_descriptors().fit(X, names).identify(X)["source"].isna().all()


@given(st.integers(0, 2**16), st.sampled_from(METRICS), st.sampled_from([0.1, 0.5, 1.0]), st.booleans())
@settings(max_examples=15)
def test_descriptors__have_rows_without_a_box_and_two_different_people(seed, metric, fpir, closed):
    X, names = described(range(5), 3, seed=seed, noise=1.0)
    params = {"unknown_label": None} if closed else {"fpir": fpir}
    identifier = of_descriptors(metric, **params).fit(X, names)
    queries, _ = described([0, 1, 2, 60, 61], 4, seed=seed + 1, noise=1.0)
    found = identifier.identify(queries)
    assert found["image"].tolist() == list(range(20))
    assert found[[*BOX, "confidence"]].isna().all(axis=None)
    assert (found["name"] != found["runner_up"]).all()
    assert (found["runner_up_score"] <= found["score"]).all()
    assert ((found["name"] != "unknown") == (found["score"] >= identifier.threshold_)).all()
    assert found["name"].tolist() == identifier.predict(queries).tolist()
    assert set(found["runner_up"]) <= set(identifier.people_)


def test_descriptors_that_are_missing__are_an_error_or_a_row():
    identifier = of_descriptors(on_error="nan").fit(*described(range(4), 3))
    X, _ = described([0, 1, 2], seed=5)
    X[1], X[2] = np.nan, 0
    found = identifier.identify(X)  # without a warning
    assert found["name"].tolist() == ["p00", None, None]
    assert found["reason"].tolist() == [None, "its descriptor is NaN or infinite", "its descriptor is zero"]
    with pytest.raises(ImageReadError, match=r"X\[1\] \(row 1\)"):
        identifier.set_params(on_error="raise").identify(X)


class DarkIsMissing(TransformerMixin, BaseEstimator):
    """Mean colours of chips; NaN for those that are dark."""

    def fit(self, X, y=None):
        """Learn nothing."""
        self.fitted_ = True
        return self

    def transform(self, X):
        """Return rows of 27 means."""
        chips = np.asarray(X, dtype=np.float64)[:, :30, :30].reshape(len(X), 3, 10, 3, 10, 3)
        rows = chips.mean(axis=(2, 4)).reshape(len(X), -1)
        rows[rows.mean(axis=1) < 60] = np.nan
        return rows


def test_face_without_a_descriptor__has_its_box_and_the_reason():
    featurizer = Pipeline([("aligner", FaceAligner(TileFaces(), size=32)), ("means", DarkIsMissing())])
    identifier = FaceIdentifier(featurizer, fpir=0.1).fit(TILES, NAMES)
    found = identifier.identify([side_by_side(tile(0, 5), tile(1, 5) // 3, tile(2, 5))])
    assert boxes(found) == [[8, 8, 56, 56], [72, 8, 120, 56], [136, 8, 184, 56]]
    assert found["name"].tolist() == ["p00", None, "p02"]
    assert found["reason"].tolist() == [None, "its descriptor is NaN or infinite", None]
    nobody = identifier.identify([tile(1, 5) // 3])
    assert boxes(nobody) == [[8, 8, 56, 56]]
    assert nobody["name"].tolist() == [None]


def test_detector_that_exchanges_left_and_right__is_the_reason_of_that_image():
    class Exchanging(TileFaces):
        def __call__(self, image):
            found = super().__call__(image)
            order = [1, 0, 2, 4, 3] if len(found) > 1 else slice(None)
            return [(box, points[order], confidence) for box, points, confidence in found]

    featurizer = tile_featurizer(aligner__detector=Exchanging())
    found = FaceIdentifier(featurizer, threshold=0.998).fit(TILES, NAMES).identify([*IMAGES[:1], tile(0, 9)])
    assert found["name"].tolist() == [None, "p00"]
    assert "left and right exchanged" in found.loc[0, "reason"]


def test_featurizer_that_finds_no_faces__takes_a_image_for_one(identifier):
    alone = FaceIdentifier(tile_featurizer()["psp"], threshold=0.998).fit(TILES, NAMES)
    found = alone.identify(pd.Series([tile(1, 5), tile(2, 5)], index=[7, 3]))
    assert found["image"].tolist() == [7, 3]
    assert found["name"].tolist() == ["p01", "p02"]
    assert found[BOX].isna().all(axis=None)
    with pytest.raises(ImageReadError, match=r"X\[0\] \(<bytes, 2 long>\)"):
        alone.identify([b"no"])


def test_identify__leaves_the_aligner_and_the_identifier_as_they_were(identifier):
    before = {name: id(value) for name, value in vars(identifier).items()}
    aligner = dict(vars(identifier.featurizer_[0]))
    identifier.identify(IMAGES, select="all")
    assert {name: id(value) for name, value in vars(identifier).items()} == before
    assert vars(identifier.featurizer_[0]) == aligner
    assert identifier.featurizer_[0].select == "largest"


def test_real_faces__have_dlibs_boxes(astronaut, china):
    couple = np.hstack([astronaut[:, 100:356], astronaut[::-1, :100], astronaut[:, 100:356]])
    featurizer = make_face_featurizer().set_params(psp__runtime="torch", psp__precision="float32")
    identifier = FaceIdentifier(featurizer, threshold=0.9)
    with pytest.warns(FewPairsWarning, match="nobody has two images"):
        identifier.fit([astronaut], ["eileen"])
    found = identifier.identify([china, couple])
    rectangles = dlib.get_frontal_face_detector()(couple, 1)
    expected = [[r.left(), r.top(), r.right(), r.bottom()] for r in rectangles]
    assert len(expected) == 2
    assert found["image"].tolist() == [0, 1, 1]
    assert boxes(found)[1:] == expected
    assert found["name"].tolist() == [None, "eileen", "eileen"]
    assert 'detector="cnn"' not in found.loc[0, "reason"]
    assert "no face was found in its 640 x 427 pixels" in found.loc[0, "reason"]
    assert found["runner_up"].isna().all()
    assert (found["score"][1:] > 0.95).all()


def test_faces_of_a_set__are_named_and_strangers_are_not(shared_data):
    def paths(people, photographs):
        return [shared_data / "orl_faces" / f"s{i}" / f"{j}.pgm" for i in people for j in photographs]

    enrolled, first, rest, everything = range(1, 21), range(1, 6), range(6, 11), range(1, 11)
    aligner = FaceAligner(upsample=2, on_error="nan")
    names = [f"s{i}" for i in enrolled for _ in first]
    with pytest.warns(FaceWarning, match="images gave no face"):
        chips = {
            "enrolled": aligner.transform(paths(enrolled, first)),
            "probes": aligner.transform(paths(enrolled, rest)),
            "strangers": aligner.transform(paths(range(21, 31), first)),
            "others": aligner.transform(paths(range(31, 41), everything)),
        }
    featurizer = make_face_featurizer(detector=None, on_error="nan")
    featurizer.set_params(psp__runtime="torch", psp__precision="float32")
    identifier = FaceIdentifier(featurizer, on_error="nan")
    with pytest.warns(FaceWarning, match="are left out"):
        identifier.fit([*chips["enrolled"], *chips["strangers"]], names + ["unknown"] * 50)
    assert identifier.n_nonmated_ > 140
    assert identifier.fpir_ <= 0.01
    probes, others = (identifier.identify(list(chips[which])) for which in ("probes", "others"))
    seen = probes["reason"].isna()
    assert seen.sum() >= 98
    assert (probes["name"] != pd.Series(names))[seen].mean() <= 0.02
    assert (others.loc[others["reason"].isna(), "name"] != "unknown").mean() <= 0.05
