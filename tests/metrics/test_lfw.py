"""The protocol of Labeled Faces in the Wild: files made by hand, and folds in a loop."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import PredefinedSplit

from sklearn_psp.metrics import lfw_accuracy, read_lfw_pairs

from . import verification_oracles as oracles

PAIRS = """2\t2
Abel_Pacheco\t1\t4
Akhmed_Zakayev\t1\t3
Abdel_Madi_Shabneh\t1\tDean_Barker\t1
Abdel_Madi_Shabneh\t1\tGiancarlo_Fisichella\t12
Woody_Allen\t2\t5
Yossi_Beilin\t1\t2
AJ_Cook\t1\tMarsha_Thomason\t1
Aaron_Sorkin\t2\tFrank_Solich\t5
"""


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode(encoding))
    return path


# ------------------------------------------------------------------------------------------------- the file


def test_pairs__are_read_fold_by_fold(tmp_path):
    pairs = read_lfw_pairs(written(tmp_path, PAIRS))
    assert pairs.columns.tolist() == [
        *["fold", "name_a", "number_a", "name_b", "number_b", "same"],
        *["file_a", "file_b"],
    ]
    assert pairs["fold"].tolist() == [0] * 4 + [1] * 4
    assert pairs["same"].dtype == bool
    assert pairs["same"].tolist() == [True, True, False, False] * 2
    assert pairs.loc[0, ["name_a", "number_a", "name_b", "number_b"]].tolist() == ["Abel_Pacheco", 1, "Abel_Pacheco", 4]
    assert pairs.loc[0, "file_b"] == "Abel_Pacheco/Abel_Pacheco_0004.jpg"
    assert pairs.loc[3, "file_b"] == "Giancarlo_Fisichella/Giancarlo_Fisichella_0012.jpg"
    assert PredefinedSplit(pairs["fold"]).get_n_splits() == 2


@pytest.mark.parametrize(
    "text",
    [
        PAIRS.replace("\n", "\r\n"),
        "\ufeff" + PAIRS,
        PAIRS.replace("\t", "  "),
        PAIRS + "\n\n",
        PAIRS.rstrip("\n"),
    ],
    ids=["crlf", "bom", "spaces", "blank-lines", "no-last-newline"],
)
def test_pairs__are_the_same_however_written(tmp_path, text):
    expected = read_lfw_pairs(written(tmp_path, PAIRS))
    pd.testing.assert_frame_equal(read_lfw_pairs(str(written(tmp_path, text))), expected)


def test_file_of_the_first_view__is_one_fold(tmp_path):
    pairs = read_lfw_pairs(written(tmp_path, "1\nAda\t1\t2\nAda\t1\tBob\t1\n"))
    assert pairs["fold"].tolist() == [0, 0]


def test_names_may_hold_spaces_and_letters_of_all_kinds(tmp_path):
    pairs = read_lfw_pairs(written(tmp_path, "1 1\nJosé de la Ó\t1\t2\nJosé de la Ó\t1\tBob\t1\n"))
    assert pairs.loc[0, "file_a"] == "José de la Ó/José de la Ó_0001.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; its first line must hold the number of folds"),
        ("Ada\t1\t2\n", "line 1: must hold the number of folds and of pairs"),
        ("10\t0\n", "line 1: must hold"),
        ("1\t1\nAda\t1\t2\tx\ty\nAda\t1\tBob\t1\n", r"line 2: must be 'name number number'.*got 'Ada\\t1\\t2\\tx\\ty'"),
        ("1\t1\nAda\t1\tBob\t1\nAda\t1\t2\n", "line 2: must be 'name number number', a pair of the same person"),
        ("1\t1\nAda\t1\t2\nAda\t1\t2\n", "line 3: must be 'name number name number', a pair of two people"),
        (
            "1\t1\n\nAda\t1\tzwei\nAda\t1\tBob\t1\n",
            "line 3: the number of an image must be an integer from 1; got 'zwei'",
        ),
        ("1\t1\nAda\t0\t2\nAda\t1\tBob\t1\n", "line 2: the number of an image must be an integer from 1; got '0'"),
        ("1\t1\nAda\t1\t2\nAda\t1\tAda\t2\n", "line 3: 'Ada' is paired with itself"),
        ("1\t1\nAda\t1\t2\nAda\t1\tBob\t1\nAda\t1\t3\n", "line 4: one pair too many; line 1 promises 2 pairs"),
        ("2\t1\nAda\t1\t2\nAda\t1\tBob\t1\n", "ends after line 3 with 2 pairs; line 1 promises 4 pairs: 2 folds"),
    ],
)
def test_bad_file__is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_lfw_pairs(written(tmp_path, text))
    assert "pairs.txt" in str(error.value)


def test_file_in_another_encoding__is_said(tmp_path):
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_lfw_pairs(written(tmp_path, PAIRS.replace("Abel", "José"), "latin-1"))


def test_missing_file__is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_lfw_pairs(tmp_path / "none.txt")


# ------------------------------------------------------------------------------------------------- the accuracy


def test_accuracy__equals_the_loop_over_folds():
    rng = np.random.default_rng(0)
    same, folds = np.tile([True, False], 150), np.repeat(np.arange(10), 30)
    scores = rng.normal(size=300) + 1.5 * same
    result = lfw_accuracy(same, scores, folds)
    for fold in range(10):
        train, test = folds != fold, folds == fold
        threshold = result.thresholds[fold]
        reached = oracles.accuracy(same[train], scores[train], threshold)
        assert reached == oracles.best_accuracy(same[train], scores[train])
        assert result.accuracies[fold] == oracles.accuracy(same[test], scores[test], threshold)
    assert result.mean == pytest.approx(sum(result.accuracies) / 10)
    variance = sum((accuracy - result.mean) ** 2 for accuracy in result.accuracies) / 9
    assert result.standard_error == pytest.approx((variance / 10) ** 0.5)
    assert result.folds.tolist() == list(range(10))


def test_order_of_pairs_and_names_of_folds__change_nothing():
    rng = np.random.default_rng(0)
    same, folds, scores = np.tile([True, False], 20), np.repeat(["c", "a", "b", "d"], 10), rng.normal(size=40)
    order = rng.permutation(40)
    expected = lfw_accuracy(same, scores, folds)
    result = lfw_accuracy(same[order], scores[order], pd.Series(folds[order], index=order))
    assert result.folds.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(result.accuracies, expected.accuracies)


def test_threshold_is_not_chosen_on_its_own_fold():
    # Each fold is separable by itself, at thresholds that are wrong for the other.
    result = lfw_accuracy([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.2], [0, 0, 1, 1])
    assert result.mean == 0.5


def test_float32_scores__are_decided_as_on_the_other_folds():
    low = np.float32(0.3)
    scores = np.array([low, np.nextafter(low, np.float32(1))] * 2, dtype=np.float32)
    assert lfw_accuracy([0, 1, 0, 1], scores, [0, 0, 1, 1]).mean == 1


@pytest.mark.parametrize(
    ("y_true", "folds", "message"),
    [
        ([1, 0, 1, 0], [0, 0, 0, 0], "at least two folds; got 1"),
        ([1, 0, 1, 0], [0, 0, 0], r"one fold for each of the 4 pairs; got the shape \(3,\)"),
        ([1, 0, 1, 0], [0, 0, 1, np.nan], r"folds must not be missing; folds\[3\] is"),
        ([1, 0, 1, 1], [0, 0, 1, 1], r"outside the fold 0(\.0)? there are no impostor \(0\) pairs"),
        ([0, 0, 1, 0], [0, 0, 1, 1], r"outside the fold 1(\.0)? there are no genuine \(1\) pairs"),
    ],
)
def test_bad_folds__are_named(y_true, folds, message):
    with pytest.raises(ValueError, match=message):
        lfw_accuracy(y_true, [0.1, 0.2, 0.3, 0.4], folds)
