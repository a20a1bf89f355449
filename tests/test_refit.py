"""A fit that fails, or is interrupted, leaves every estimator as it was."""

from __future__ import annotations

import functools
import os
import pickle
import sys
from contextlib import suppress
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from common.instances import REFIT_INSTANCES
from common.threads import one_thread
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

import sklearn_psp

_PACKAGE = os.path.join(os.path.dirname(sklearn_psp.__file__), "")
_WITH_LABELS = [name for name in REFIT_INSTANCES if name not in ("featurizer", "aligner")]
_OF_IMAGES = [name for name in REFIT_INSTANCES if "rows" not in name and name != "aligner"]
_OF_ROWS = [name for name in REFIT_INSTANCES if "rows" in name]
# Shares of the calls of a fit after which it is interrupted, and numbers of calls before its end.
_SHARES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)
_BEFORE_THE_END = (1, 2, 3, 5, 8, 12)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


def images(seed, n=24):
    """Return n images of 32 pixels and who is on each: everybody on two."""
    rng = np.random.default_rng(seed)
    fields = rng.integers(30, 226, (n // 2, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2).repeat(2, axis=0)
    return (fields + rng.integers(-20, 20, fields.shape)).astype(np.uint8), np.repeat(np.arange(n // 2), 2)


def data(name, seed):
    """Return X and y to fit an estimator with."""
    X, who = images(seed)
    if name.endswith("rows"):
        X = np.random.default_rng(seed).normal(size=(12, 8)).repeat(2, axis=0)
        X = (X + 0.3 * np.random.default_rng(seed + 1).normal(size=X.shape)).astype(np.float32)
    X = list(X)
    if name.startswith("verifier"):
        places = list(combinations(range(8), 2))
        return [(X[a], X[b]) for a, b in places], np.array([who[a] == who[b] for a, b in places])
    if name == "classifier":
        return X, np.array(["a", "b"])[np.arange(len(X)) % 2]
    return X, who


def answers(name, estimator):
    """Return what a fitted estimator says, as arrays that can be compared."""
    X, _ = data(name, seed=5)
    if name in ("featurizer", "aligner"):
        return [np.asarray(estimator.transform(X[:6]))]
    if name.startswith("retriever"):
        return [*estimator.kneighbors(X[:6]), *estimator.kneighbors(), estimator.predict(X[:6])]
    if name == "classifier":
        return [estimator.predict_proba(X[:6]), estimator.classes_]
    if name.startswith("verifier"):
        return [estimator.decision_function(X[:6]), np.array(estimator.threshold_)]
    return [np.asarray(column) for _, column in pd.DataFrame(estimator.identify(X[:6])).items()]


def _answers_if_any(name, estimator):
    try:
        return answers(name, estimator)
    except Exception as error:
        return [np.array(repr(error))]


def same(a, b):
    """Tell whether two lists of answers are equal."""
    return len(a) == len(b) and all(map(_equal, a, b))


def _equal(a, b):
    if a.dtype.kind == "O":
        return a.shape == b.shape and [str(x) for x in a.ravel()] == [str(x) for x in b.ravel()]
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


@functools.cache
def _pickled(name):
    return pickle.dumps(clone(REFIT_INSTANCES[name]).fit(*_arguments(name, *data(name, seed=0))))


def fit(name):
    """Return a fitted clone of an instance."""
    return pickle.loads(_pickled(name))


def _arguments(name, X, y):
    return (X,) if name in ("featurizer", "aligner") else (X, y)


def assert_nothing_changes(name, X, y, error):
    """Assert that a fit fails, and leaves a fitted estimator and an unfitted one as they were."""
    fitted, unfitted = fit(name), clone(REFIT_INSTANCES[name])
    expected, attributes, before = answers(name, fitted), set(vars(fitted)), dict(vars(unfitted))
    with pytest.raises(error):
        fitted.fit(*_arguments(name, X, y))
    assert set(vars(fitted)) == attributes
    assert same(answers(name, fitted), expected)
    assert same(answers(name, pickle.loads(pickle.dumps(fitted))), expected)
    with pytest.raises(error):
        unfitted.fit(*_arguments(name, X, y))
    assert set(vars(unfitted)) == set(before)
    with pytest.raises(NotFittedError):
        check_is_fitted(unfitted)


class Interrupted:
    """Counts the calls of functions of the package, and raises KeyboardInterrupt at the one asked for."""

    def __init__(self, at=None):
        self.at, self.n_calls = at, 0

    def __enter__(self):
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exception):
        sys.setprofile(None)

    def _profile(self, frame, event, argument):
        if event == "call" and frame.f_code.co_filename.startswith(_PACKAGE):
            self.n_calls += 1
            if self.n_calls == self.at:
                raise KeyboardInterrupt


@pytest.mark.parametrize("name", _OF_IMAGES)
def test_bad_image(name, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    X, y = data(name, seed=1)
    X[-2] = (X[-2][0], str(bad)) if name.startswith("verifier") else str(bad)
    assert_nothing_changes(name, X, y, ValueError)


@pytest.mark.parametrize("name", _WITH_LABELS)
def test_too_few_labels(name):
    X, y = data(name, seed=1)
    assert_nothing_changes(name, X, y[:-1], ValueError)


@pytest.mark.parametrize("name", _OF_ROWS)
def test_rows_of_several_widths(name):
    X, y = data(name, seed=1)
    wide = np.zeros(9, dtype=np.float32)
    X[-1] = (X[-1][0], wide) if name.startswith("verifier") else wide
    assert_nothing_changes(name, X, y, ValueError)


@pytest.mark.parametrize("name", REFIT_INSTANCES)
def test_invalid_parameter(name):
    fitted = fit(name)
    expected = answers(name, fitted)
    wrong = {"retriever": "metric", "verifier": "metric", "identifier": "fpir"}.get(name.split()[0], "n_jobs")
    wrong = wrong if wrong in fitted.get_params() else next(iter(fitted.get_params(deep=False)))
    before = getattr(fitted, wrong)
    fitted.set_params(**{wrong: object()})
    with pytest.raises((ValueError, TypeError)):
        fitted.fit(*_arguments(name, *data(name, seed=1)))
    fitted.set_params(**{wrong: before})
    assert same(answers(name, fitted), expected)


@pytest.mark.parametrize("name", REFIT_INSTANCES)
def test_interrupted_at_any_time(name):
    """Before the one step in which a fit takes effect all is old, after it all is new, and nothing is in between."""
    arguments = _arguments(name, *data(name, seed=1))
    fit(name).fit(*arguments)  # whatever is kept for the process is made
    fit_again = fit(name)
    with Interrupted() as counted:
        fit_again.fit(*arguments)
    n_calls = counted.n_calls
    new, old = answers(name, fit_again), answers(name, fit(name))
    assert not same(new, old) or name == "aligner"
    mixed = []
    for at in sorted({*(max(1, round(share * n_calls)) for share in _SHARES), *(n_calls - n for n in _BEFORE_THE_END)}):
        if at < 1:
            continue
        fitted, unfitted = fit(name), clone(REFIT_INSTANCES[name])
        before = set(vars(unfitted))
        with suppress(KeyboardInterrupt), Interrupted(at):
            fitted.fit(*arguments)
        said = _answers_if_any(name, fitted)
        if not same(said, old) and not same(said, new):
            mixed.append(f"after {at} of {n_calls} calls it answers like neither")
        with suppress(KeyboardInterrupt), Interrupted(at):
            unfitted.fit(*arguments)
        if set(vars(unfitted)) != before and not same(_answers_if_any(name, unfitted), new):
            mixed.append(f"after {at} of {n_calls} calls an unfitted one is half fitted")
    assert mixed == []
