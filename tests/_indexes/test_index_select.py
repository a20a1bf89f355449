"""The rule of algorithm="auto", and what engines may be told."""

import numpy as np
import pytest

from sklearn_psp._indexes._select import EXACT_UP_TO, build_index, choose_algorithm

X = np.eye(8, dtype=np.float32)


def test_auto_is_exact_up_to_the_size_the_docstring_names():
    from sklearn_psp import NearestImageRetriever

    assert choose_algorithm("auto", EXACT_UP_TO // 512, 512) == "exact"
    assert choose_algorithm("auto", EXACT_UP_TO // 512 + 1, 512) == "pynndescent"
    assert choose_algorithm("pynndescent", 5, 512) == "pynndescent"
    assert choose_algorithm("exact", 10**9, 512) == "exact"
    assert f"{EXACT_UP_TO // 512:,} images of 512 features" in NearestImageRetriever.__doc__


def test_auto_takes_the_parameters_of_either_engine():
    algorithm, index = build_index(X, metric="cosine", engine_params={"epsilon": 0.3, "working_memory": 2})
    assert algorithm == "exact"
    assert index.searcher is None


@pytest.mark.parametrize(
    ("algorithm", "params", "message"),
    [
        ("exact", {"epsilon": 0.1}, r"'epsilon'\] is no parameter of algorithm='exact'.*working_memory"),
        ("auto", {"epsilom": 0.1}, "did you mean 'epsilon'"),
        ("pynndescent", {"metric": "cosine"}, r"'metric'\] is no parameter"),
        ("pynndescent", {"epsilon": 0}, r"'epsilon'\] must be a number above 0; got 0"),
        ("pynndescent", {"epsilon": float("nan")}, "must be a number above 0"),
        ("exact", {"working_memory": -1}, "must be a number above 0"),
        ("pynndescent", {"n_neighbors": 1}, "must be an int >= 2; got 1"),
    ],
)
def test_wrong_parameters_are_named(algorithm, params, message):
    with pytest.raises(ValueError, match=message):
        build_index(X, metric="cosine", algorithm=algorithm, engine_params=params)
