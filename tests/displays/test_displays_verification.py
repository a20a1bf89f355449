"""Scores of pairs, drawn as curves and histograms."""

import io
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import StepPatch
from sklearn.model_selection import GridSearchCV

from sklearn_psp import FaceVerifier
from sklearn_psp.displays import VerificationDisplay
from sklearn_psp.displays._verification_display import percent
from sklearn_psp.exceptions import FaceWarning, FewPairsWarning, MissingDependencyError
from sklearn_psp.metrics import equal_error_rate, error_rates, far_frr, threshold_at

KINDS = ["roc", "det", "histogram"]


@pytest.fixture(scope="module")
def pairs():
    """Sixty genuine and 600 impostor pairs."""
    rng = np.random.default_rng(0)
    return np.repeat([True, False], [60, 600]), np.r_[rng.normal(0.6, 0.15, 60), rng.normal(0.15, 0.15, 600)].round(3)


def labels(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def height_at(line, x):
    """What a drawn line of steps shows at x."""
    assert line.get_drawstyle() == "steps-post"
    xs, ys = line.get_data()
    assert (np.diff(xs) >= 0).all()
    return ys[np.searchsorted(xs, x, side="right") - 1]


# ------------------------------------------------------------------------------------------------- curves


@pytest.mark.parametrize("log_far", [True, False])
def test_roc__shows_the_best_rate_at_each_far(pairs, log_far):
    display = VerificationDisplay.from_predictions(*pairs, log_far=log_far)
    far, frr, _ = error_rates(*pairs)
    for x in (0.001, 0.0017, 0.01, 0.1, 0.5, 1):
        assert height_at(display.line_, x) == pytest.approx(1 - frr[far <= x].min())
    assert display.ax_.get_xscale() == ("log" if log_far else "linear")
    assert display.ax_.get_xlabel() == "False acceptance rate (FAR)"
    assert display.ax_.get_ylabel() == "True acceptance rate (TAR)"


def test_det__shows_the_best_rate_at_each_far_on_axes_of_rates(pairs):
    display = VerificationDisplay.from_predictions(*pairs, kind="det")
    far, frr, _ = error_rates(*pairs)
    for x in (0.002, 0.01, 0.1, 0.5):
        assert height_at(display.line_, x) == pytest.approx(frr[far <= x].min().clip(0.5 / 60))
    xs, ys = display.line_.get_data()
    assert xs.min() == 0.5 / 600
    assert ys.min() == 0.5 / 60
    # Normal deviates: 0.5 is as far from 0.1 as 0.1 is from ndtr(2 ndtri(0.1)).
    places = display.ax_.transData.transform([[0.5, 0.5], [0.1, 0.1], [0.00518806, 0.00518806]])
    np.testing.assert_allclose(places[0] - places[1], places[1] - places[2], rtol=1e-4)
    assert display.ax_.get_xlim() == pytest.approx((0.5 / 600, 0.5))
    ticks = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert ticks == ["0.1%", "1%", "2%", "5%", "10%", "20%", "40%"]


@pytest.mark.parametrize("kind", ["roc", "det"])
def test_legend__names_the_scores_and_their_equal_error_rate(pairs, kind):
    eer = percent(equal_error_rate(*pairs))
    assert labels(VerificationDisplay.from_predictions(*pairs, kind=kind)) == [f"EER {eer}"]
    display = VerificationDisplay.from_predictions(*pairs, kind=kind, name="cosine")
    assert labels(display) == [f"cosine (EER {eer})"]
    assert labels(display.plot(kind=kind, name="other", color="red")) == [f"other (EER {eer})"]
    assert display.line_.get_color() == "red"


@pytest.mark.parametrize("kind", ["roc", "det"])
def test_two_curves__share_axes_that_show_both(pairs, kind):
    y_true, scores = pairs
    few = np.r_[0:30, 60:160]
    first = VerificationDisplay.from_predictions(y_true, scores, kind=kind, name="all")
    wide = first.ax_.get_xlim()
    second = VerificationDisplay.from_predictions(y_true[few], scores[few], kind=kind, name="few", ax=first.ax_)
    assert second.ax_ is first.ax_
    assert first.ax_.get_xlim()[0] == pytest.approx(wide[0])
    assert len(labels(second)) == 2
    assert first.line_.get_color() != second.line_.get_color()


def test_det__of_useless_scores_shows_the_whole_curve():
    rng = np.random.default_rng(0)
    display = VerificationDisplay.from_predictions(rng.random(200) < 0.5, rng.random(200), kind="det")
    assert display.ax_.get_ylim()[1] == pytest.approx(0.99)


def test_curve__has_corners_only():
    y_true = np.r_[np.zeros(5000, bool), True, True]
    scores = np.r_[np.linspace(0, 1, 5000), 0.5001, 0.9]
    display = VerificationDisplay.from_predictions(y_true, scores)
    assert len(display.thresholds) == 5003
    assert len(display.line_.get_xdata()) < 10


# ------------------------------------------------------------------------------------------------- threshold


@pytest.mark.parametrize("target", [0.4, "eer", "accuracy", ("far", 0.01)])
def test_threshold__is_marked_with_its_rates(pairs, target):
    threshold = target if isinstance(target, float) else threshold_at(*pairs, target)
    far, frr = far_frr(*pairs, threshold)
    expected = f"threshold {threshold:.3g}: FAR {percent(far)}, FRR {percent(frr)}"
    for kind in KINDS:
        display = VerificationDisplay.from_predictions(*pairs, kind=kind, threshold=target)
        assert display.threshold == threshold
        assert expected in labels(display)
        mark = display.ax_.lines[-1]
        if kind == "histogram":
            assert list(mark.get_xdata()) == [threshold, threshold]
        else:
            assert mark.get_xdata() == [far]
            assert mark.get_ydata() == [1 - frr if kind == "roc" else frr]


def test_threshold_without_false_acceptance__is_marked_at_the_border():
    for kind in ("roc", "det"):
        display = VerificationDisplay.from_predictions([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], kind=kind, threshold=0.5)
        assert display.ax_.lines[-1].get_xdata() == [0.25]
        assert "FAR 0%, FRR 0%" in labels(display)[1]


def test_threshold_beyond_the_axes__is_not_drawn_beside_them(pairs):
    for threshold, inside in ((-5, False), (0.4, True)):
        display = VerificationDisplay.from_predictions(*pairs, kind="det", threshold=threshold)
        assert display.ax_.lines[-1].get_clip_on() is not inside
        assert display.ax_.get_xlim()[1] == pytest.approx(0.5)


def test_too_few_pairs_for_the_target__are_said(pairs):
    with pytest.warns(FewPairsWarning, match="600 impostor pairs"):
        VerificationDisplay.from_predictions(*pairs, threshold=("far", 1e-4))


@pytest.mark.parametrize("threshold", ["best", ("far", 3)])
def test_unknown_target__is_an_error(pairs, threshold):
    with pytest.raises(ValueError, match="target must be"):
        VerificationDisplay.from_predictions(*pairs, threshold=threshold)


# ------------------------------------------------------------------------------------------------- histograms


def test_histograms__are_densities_over_the_same_bins(pairs):
    display = VerificationDisplay.from_predictions(*pairs, kind="histogram", bins=20, name="cosine")
    genuine, impostor = (artist for artist in display.ax_.patches if isinstance(artist, StepPatch))
    y_true, scores = pairs
    for patch, here in ((genuine, y_true), (impostor, ~y_true)):
        values, edges, _ = patch.get_data()
        np.testing.assert_allclose(edges, np.linspace(scores.min(), scores.max(), 21))
        np.testing.assert_allclose(values, np.histogram(scores[here], edges, density=True)[0])
    assert labels(display) == ["genuine (60 pairs)", "impostor (600 pairs)"]
    assert display.ax_.get_xlabel() == "Score (cosine)"
    assert display.line_ is None


def test_histogram__of_equal_scores_can_be_drawn():
    display = VerificationDisplay.from_predictions([0, 1], [0.5, 0.5], kind="histogram", threshold="accuracy")
    display.figure_.savefig(io.BytesIO())


# ------------------------------------------------------------------------------------------------- all kinds


@pytest.mark.parametrize("kind", KINDS)
def test_plot__draws_into_given_axes_and_returns_itself(pairs, kind):
    figure, ax = plt.subplots()
    display = VerificationDisplay(*pairs, threshold=0.4)
    assert not hasattr(display, "ax_")
    assert display.plot(ax, kind=kind) is display
    assert display.ax_ is ax
    assert display.figure_ is figure
    figure.savefig(io.BytesIO())
    assert display.plot(kind=kind).ax_ is not ax


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("y_true", "scores"),
    [([0, 1], [0.0, 1.0]), ([1, 0], [0.0, 1.0]), ([1, 0], [0.5, 0.5]), ([0, 0, 1], np.float16([0.1, 0.2, 0.2]))],
    ids=["right", "wrong", "equal", "float16"],
)
def test_a_few_pairs__can_be_drawn(kind, y_true, scores):
    for threshold in (None, "eer", -5.0, 5):
        display = VerificationDisplay.from_predictions(y_true, scores, kind=kind, threshold=threshold)
        display.figure_.savefig(io.BytesIO())


def test_rates__are_those_of_the_metrics(pairs):
    display = VerificationDisplay(*pairs)
    for got, wanted in zip((display.far, display.frr, display.thresholds), error_rates(*pairs), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert display.equal_error_rate == equal_error_rate(*pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "ROC"}, "The 'kind' parameter of VerificationDisplay.from_predictions must be a str among"),
        ({"bins": 0}, "The 'bins' parameter"),
        ({"log_far": "yes"}, "The 'log_far' parameter"),
        ({"threshold": np.nan}, "threshold must be a number"),
        ({"y_true": np.ones(660)}, "no impostor"),
    ],
)
def test_bad_arguments__are_named(pairs, arguments, message):
    with pytest.raises(ValueError, match=message):
        VerificationDisplay.from_predictions(**{"y_true": pairs[0], "scores": pairs[1]} | arguments)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (1e-6, "0.0001%"),
        (3e-10, "0.00000003%"),
        (1e-3, "0.1%"),
        (0.123456, "12.3%"),
        (0.5, "50%"),
        (0.9999, "100%"),
    ],
)
def test_percent__has_three_digits(rate, text):
    assert percent(rate) == text


def test_without_matplotlib__the_error_names_the_extra(pairs, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"VerificationDisplay needs .*sklearn_psp\[plot\]"):
        VerificationDisplay.from_predictions(*pairs)


def test_importing_the_display__loads_no_matplotlib():
    code = "import sys; from sklearn_psp.displays import VerificationDisplay; print('matplotlib' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=900)
    assert run.stdout.strip() == "False"


def verifier_and_pairs():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(30, 8))
    genuine = np.stack([people, people + 0.3 * rng.normal(size=people.shape)], axis=1)
    impostor = np.stack([people, np.roll(people, 1, axis=0)], axis=1)
    pairs, y = np.concatenate([genuine, impostor]), np.repeat([1, 0], 30)
    return FaceVerifier(None, on_error="nan", random_state=0).fit(pairs, y), pairs, y


@pytest.mark.parametrize("kind", ["roc", "det", "histogram"])
def test_from_estimator__marks_the_threshold_of_the_estimator(kind):
    verifier, pairs, y = verifier_and_pairs()
    display = VerificationDisplay.from_estimator(verifier, pairs, y, kind=kind)
    assert display.threshold == verifier.threshold_
    np.testing.assert_array_equal(display.scores, verifier.score_samples(pairs))
    assert display.name == "FaceVerifier"
    expected = VerificationDisplay.from_estimator(verifier, pairs, y, threshold=("far", 0.1), name="mine")
    assert expected.threshold == threshold_at(y, display.scores, ("far", 0.1))
    assert expected.name == "mine"
    assert VerificationDisplay.from_estimator(verifier, pairs, y, threshold=None).threshold is None


def test_from_estimator__leaves_out_what_cannot_be_compared():
    verifier, pairs, y = verifier_and_pairs()
    pairs = pairs.copy()
    pairs[0, 0] = np.nan
    with pytest.warns(FaceWarning, match="1 of 60 pairs cannot be compared"):
        display = VerificationDisplay.from_estimator(verifier, pairs, y)
    assert len(display.scores) == 59


def test_from_estimator__takes_a_search_over_parameters():
    verifier, pairs, y = verifier_and_pairs()
    search = GridSearchCV(verifier, {"target": ["accuracy", "eer"]}, cv=2).fit(pairs, y)
    display = VerificationDisplay.from_estimator(search, pairs, y)
    assert display.threshold == search.best_estimator_.threshold_
