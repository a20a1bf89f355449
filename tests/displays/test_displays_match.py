"""MatchDisplay: which pairs are shown, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from common.transformers import DescribingGrid

from sklearn_psp import FaceVerifier
from sklearn_psp.displays import MatchDisplay, ShownMatch

# Of the six images: two of a colour each; the last pair is called the same person, and is not alike at all.
PAIRS = [(0, 1), (2, 3), (4, 5), (0, 2), (1, 4), (3, 5), (0, 3)]
SAME = [1, 1, 1, 0, 0, 0, 1]


class Colours(DescribingGrid):
    """Mean colours, of unit length once compared."""

    def describe(self, X, *, on_error="nan"):
        """Describe without the centre, which would be that of few images."""
        described = super().describe(X, on_error=on_error)
        return described._replace(rows=described.rows + self.center_ - 100)


@pytest.fixture(scope="module")
def pairs(paths):
    return [(paths[i], paths[j]) for i, j in PAIRS]


@pytest.fixture(scope="module")
def verifier(pairs):
    return FaceVerifier(Colours(size=1, on_error="nan"), on_error="nan", random_state=0).fit(pairs[:6], SAME[:6])


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_pairs__are_shown_in_order_with_decision_score_and_probability(verifier, pairs):
    display = MatchDisplay.from_estimator(verifier, pairs, SAME, n_pairs=4)
    assert display.ax_.shape == (4, 3)
    assert display.threshold == verifier.threshold_
    assert [match.names for match in display.matches] == [[f"{a}.png", f"{b}.png"] for a, b in _ids(PAIRS[:4])]
    assert [match.same for match in display.matches] == [True, True, True, False]
    assert [match.right for match in display.matches] == [True] * 4
    np.testing.assert_array_equal([match.score for match in display.matches], verifier.score_samples(pairs[:4]))
    np.testing.assert_array_equal(
        [match.probability for match in display.matches], verifier.predict_proba(pairs[:4])[:, 1]
    )
    same, two = texts(display.ax_[0, 2]), texts(display.ax_[3, 2])
    assert (same[0], two[0]) == ("same person", "two people")
    assert same[1] == f"score {display.matches[0].score:.3f} ≥ {verifier.threshold_:.3f}"
    assert two[1] == f"score {display.matches[3].score:.3f} < {verifier.threshold_:.3f}"
    assert same[3] == "right"


def _ids(pairs):
    names = ["r1", "r2", "b1", "b2", "g1", "g2"]
    return [(names[i], names[j]) for i, j in pairs]


def test_without_labels__nothing_is_right_or_wrong(verifier, pairs):
    display = MatchDisplay.from_estimator(verifier, pairs, n_pairs=2)
    assert [match.right for match in display.matches] == [None, None]
    assert len(texts(display.ax_[0, 2])) == 3


def test_worst__are_wrong_decisions_first_and_then_the_closest(verifier, pairs):
    display = MatchDisplay.from_estimator(verifier, pairs, SAME, n_pairs=3, select="worst")
    assert display.matches[0].names == ["r1.png", "b2.png"]
    assert [match.right for match in display.matches] == [False, True, True]
    distances = np.abs(np.array([match.score for match in display.matches]) - verifier.threshold_)
    assert distances[1] <= distances[2]
    assert texts(display.ax_[0, 2])[3] == "wrong"


def test_worst__needs_labels(verifier, pairs):
    with pytest.raises(ValueError, match='select="worst" needs y'):
        MatchDisplay.from_estimator(verifier, pairs, select="worst")


def test_labels_of_another_length__are_refused(verifier, pairs):
    with pytest.raises(ValueError, match="one label for each of the 7 pairs; got 6"):
        MatchDisplay.from_estimator(verifier, pairs, SAME[:6])


def test_random__repeats_with_the_seed(verifier, pairs):
    first, second = (
        [
            match.names
            for match in MatchDisplay.from_estimator(verifier, pairs, n_pairs=3, select="random", **seed).matches
        ]
        for seed in ({"random_state": 3}, {"random_state": 3})
    )
    assert first == second
    assert len(first) == 3


def test_pair_that_cannot_be_compared__is_said_and_has_an_empty_box(verifier, pairs, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not images")
    with pytest.warns(UserWarning, match="1 of 1 pairs cannot be compared"):
        display = MatchDisplay.from_estimator(verifier, [(pairs[0][0], broken)], [1])
    (match,) = display.matches
    assert (match.same, match.right) == (None, None)
    assert texts(display.ax_[0, 2]) == ["not compared"]
    assert texts(display.ax_[0, 1]) == ["broken.png"]


def test_arrays__are_named_by_what_they_are(verifier, images):
    display = MatchDisplay.from_estimator(verifier, [(images[0], images[1])])
    assert display.matches[0].names == ["<array (8, 8, 3) uint8>", "<array (8, 30, 3) uint8>"]


def test_plot__draws_into_a_figure_that_is_given(images):
    import matplotlib.pyplot as plt

    match = ShownMatch([images[0], None], ["a", "b"], same=False, score=0.2, probability=0.1)
    figure = plt.figure()
    display = MatchDisplay([match], threshold=0.5).plot(figure=figure)
    assert display.figure_ is figure
    assert texts(display.ax_[0, 1]) == ["b"]
