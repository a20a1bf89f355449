"""scikit-learn's own battery on the retriever."""

import pytest
from common.battery import Battery
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_psp import NearestImageRetriever

ZERO_ROWS = {
    "check_estimators_dtypes": "its integers hold a row of zeros, which has no direction; the cosine metric refuses it "
    "by name (test_retriever_invalid.py::test_invalid_rows_are_named)"
}
NO_LABEL_MADE_UP = {
    "check_estimators_dtypes": "it predicts for a row of zeros, which is skipped; predict makes up no label "
    "(test_retriever_invalid.py::test_predict_names_queries_without_neighbours)",
    "check_estimators_pickle": "it predicts for rows of NaN, which are skipped; predict makes up no label "
    "(test_retriever_invalid.py::test_predict_names_queries_without_neighbours)",
}
GRAPH = {"algorithm": "pynndescent", "engine_params": {"n_neighbors": 2}, "random_state": 0}

INSTANCES = {
    "default": (NearestImageRetriever(), ZERO_ROWS),
    "exact euclidean": (NearestImageRetriever(algorithm="exact", metric="euclidean", weights="uniform"), {}),
    "connectivity": (NearestImageRetriever(mode="connectivity"), ZERO_ROWS),
    "skip": (NearestImageRetriever(on_invalid="skip"), NO_LABEL_MADE_UP),
    # Degree 2, so that the battery's 20 to 30 rows make a graph at all.
    "pynndescent": (NearestImageRetriever(3, metric="euclidean", **GRAPH), {}),
}
BATTERY = Battery()
EXCUSED = {repr(estimator): excused for estimator, excused in INSTANCES.values()}


@parametrize_with_checks(
    [estimator for estimator, _ in INSTANCES.values()],
    expected_failed_checks=lambda estimator: EXCUSED[repr(estimator)],
)
def test_scikit_learn_battery(estimator, check):
    BATTERY.run(estimator, check)


@pytest.mark.parametrize("name", INSTANCES)
def test_at_least_40_checks_pass(name):
    estimator, excused = INSTANCES[name]
    # Of those that did not pass each is named: an image-only tag would skip nearly all and still be green.
    BATTERY.assert_passes(estimator, at_least=40, excused=excused, skipped=["check_array_api_input"])
