"""Many threads, each with its own bad image: every reason is its own, and nothing of the process is changed."""

from __future__ import annotations

import inspect
import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from common.people import NO_FACE, TileFaces, side_by_side, tile
from common.transformers import DescribingGrid
from joblib import Parallel, delayed
from PIL import Image
from sklearn.pipeline import Pipeline

from sklearn_psp import FaceAligner, FaceIdentifier, FaceVerifier
from sklearn_psp.exceptions import FaceWarning

TILES = [tile(person, seed) for person in range(4) for seed in range(3)]
NAMES = [f"p{person}" for person in range(4) for _ in range(3)]
N_CALLS = 50


def featurizer():
    return Pipeline([("aligner", FaceAligner(TileFaces(), size=16, n_jobs=1)), ("grid", DescribingGrid(4))])


@pytest.fixture(scope="module")
def verifier():
    pairs = [(TILES[a], TILES[b]) for a in range(12) for b in range(a)]
    same = [NAMES[a] == NAMES[b] for a in range(12) for b in range(a)]
    return FaceVerifier(featurizer(), on_error="nan", random_state=0).fit(pairs, same)


@pytest.fixture(scope="module")
def identifier():
    return FaceIdentifier(featurizer(), threshold=0.5, on_error="nan").fit(TILES, NAMES)


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    """Paths that give no face, each for a reason of its own."""
    folder = tmp_path_factory.mktemp("bad")
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(TILES[0]).save(jpeg, "JPEG")
    Image.fromarray(NO_FACE).save(png, "PNG")
    contents = {
        "empty.jpg": b"",
        "cut.jpg": jpeg.getvalue()[:300],
        "no_face.png": png.getvalue(),
        "text.txt": b"Remove X[1] from X",
        "longer.txt": b"X[0] could not be decoded",
        "cut.png": png.getvalue()[:40],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    return [str(folder / name) for name in (*contents, "folder", "missing.jpg")]


def in_threads(ask, files, n_calls=N_CALLS):
    """Let a thread for each file ask many times; return its answers, and check what belongs to the process."""
    interval = sys.getswitchinterval()
    with warnings.catch_warnings():
        # The only rule: one that a thread misses while another puts its own in front makes no error of a warning.
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        before = list(warnings.filters), warnings.showwarning, warnings.formatwarning
        sys.setswitchinterval(1e-4)
        try:
            with ThreadPoolExecutor(len(files)) as pool:
                answers = list(pool.map(lambda path: [ask(path) for _ in range(n_calls)], files))
        finally:
            sys.setswitchinterval(interval)
        assert (list(warnings.filters), warnings.showwarning, warnings.formatwarning) == before
    return answers


@pytest.mark.parametrize("verb", ["verify", "identify"])
def test_reasons__are_those_of_the_threads_own_image(verifier, identifier, bad_files, verb):
    def ask(path):
        if verb == "verify":
            return verifier.verify([TILES[0], path], [TILES[1], TILES[0]])["reason"].tolist()
        return identifier.identify([TILES[0], path])["reason"].tolist()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = [ask(path) for path in bad_files]
    assert len({reason for _, reason in alone}) == len(bad_files) == 8
    for expected, found in zip(alone, in_threads(ask, bad_files), strict=True):
        assert found == [expected] * N_CALLS


def test_errors__name_the_threads_own_image(verifier, bad_files):
    strict = FaceVerifier(featurizer(), random_state=0).fit(
        [(TILES[a], TILES[b]) for a in range(6) for b in range(a)],
        [NAMES[a] == NAMES[b] for a in range(6) for b in range(a)],
    )

    def ask(path):
        with pytest.raises(ValueError, match=r"pairs\[1\], the second") as caught:
            strict.predict([TILES[:2], (TILES[0], path)])
        return caught.value.errors["source"].tolist() == [path] and repr(path) in str(caught.value)

    assert all(all(answers) for answers in in_threads(ask, bad_files, 10))


# ------------------------------------------------------------------------------------------------- lines of warnings


def lines(caught):
    assert {warning.category for warning in caught} == {FaceWarning}
    return {(warning.filename, warning.lineno) for warning in caught}


def here():
    return __file__, inspect.currentframe().f_back.f_lineno


def test_warning__points_to_the_line_of_the_user(verifier, identifier, bad_files):
    pairs = [(TILES[0], bad_files[0])]
    aligner = FaceAligner(TileFaces(), size=16, on_error="nan")
    after_a_step = Pipeline([("as_is", "passthrough"), ("identifier", identifier)])
    whole = Pipeline([("as_is", "passthrough"), ("aligner", aligner)])
    for call, X in (
        (verifier.predict_proba, pairs),
        (verifier.decision_function, pairs),
        (identifier.predict_proba, bad_files[:1]),
        (after_a_step.predict_proba, bad_files[:1]),
        (aligner.transform, bad_files[:1]),
        (aligner.fit_transform, bad_files[:1]),
        (aligner.detect, bad_files[:1]),
        (whole.fit_transform, bad_files[:1]),
    ):
        with pytest.warns(FaceWarning) as caught:
            line = here(), call(X)
        assert lines(caught) == {line[0]}


def by_joblib(ask, images):
    return here(), Parallel(2, prefer="threads")(delayed(ask)(image) for image in images)


def by_futures(ask, images):
    with ThreadPoolExecutor(2) as executor:
        return here(), list(executor.map(ask, images))


@pytest.mark.parametrize("in_a_pool", [by_joblib, by_futures])
def test_warning_in_a_thread_of_a_pool__points_to_the_line_that_waits(identifier, bad_files, in_a_pool):
    with pytest.warns(FaceWarning) as caught:
        line, _ = in_a_pool(identifier.predict_proba, [[path] for path in bad_files[:4]])
    assert lines(caught) == {line}
    assert len(caught) == 4


def test_faces_beside_a_bad_image__are_told_all_the_same(identifier, bad_files):
    found = identifier.identify([side_by_side(tile(0, 9), tile(1, 9)), bad_files[0]])
    assert found["image"].tolist() == [0, 0, 1]
    assert np.isnan(found["score"]).tolist() == [False, False, True]
