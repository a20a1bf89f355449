"""Our battery for images: the estimators pass it, and each of its checks fails for an estimator that is wrong."""

from __future__ import annotations

from functools import partial

import pytest
from sklearn.base import clone

from common.classifiers import BROKEN_CLASSIFIERS, ColourClassifier
from common.instances import CLASSIFIER_IMAGE_INSTANCES, IDENTIFIER_IMAGE_INSTANCES, IMAGE_INSTANCES
from common.transformers import BROKEN, CentresEachBatch, ColourGrid, RepeatsNames, WorksUnfitted
from sklearn_psp.utils import estimator_checks
from sklearn_psp.utils.estimator_checks import check_image_estimator, parametrize_with_image_checks

SINGLE_CHECKS = {name for name in estimator_checks.__all__ if name.startswith("check_image_")} - {
    "check_image_estimator"
}
CLASSIFIER_CHECKS = {name for name in SINGLE_CHECKS if "classifier" in name} | {"check_image_zero_weight_is_left_out"}
TRANSFORMER_CHECKS = SINGLE_CHECKS - CLASSIFIER_CHECKS
ALL_BROKEN = BROKEN + BROKEN_CLASSIFIERS
_CLASSIFIERS = [*CLASSIFIER_IMAGE_INSTANCES.values(), ColourClassifier()]
_IDENTIFIERS = [*IDENTIFIER_IMAGE_INSTANCES.values()]


@parametrize_with_image_checks([*IMAGE_INSTANCES.values(), ColourGrid(), *_CLASSIFIERS, *_IDENTIFIERS])
def test_image_battery(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", [IMAGE_INSTANCES["default backbone"], ColourGrid()], ids=["featurizer", "grid"])
def test_every_public_check_is_in_the_battery(estimator):
    mark = parametrize_with_image_checks([estimator])
    checks = [check.func.__name__ for _, check in mark.args[1]]
    assert sorted(checks) == sorted(TRANSFORMER_CHECKS)
    assert len(checks) == 20


@pytest.mark.parametrize("estimator", _CLASSIFIERS[-2:], ids=["network", "colours"])
def test_every_check_of_classifiers_is_in_their_battery(estimator):
    checks = [check.func.__name__ for _, check in parametrize_with_image_checks([estimator]).args[1]]
    assert sorted(checks) == sorted(CLASSIFIER_CHECKS | {"check_image_fit_keeps_params"})
    assert len(checks) == 6


def test_every_check_of_classifiers_without_weights_is_in_the_battery_of_the_identifier():
    checks = [check.func.__name__ for _, check in parametrize_with_image_checks(_IDENTIFIERS).args[1]]
    # Its fit takes no weights: enrolled is enrolled.
    weights = {"check_image_zero_weight_is_left_out"}
    assert sorted(checks) == sorted(CLASSIFIER_CHECKS - weights | {"check_image_fit_keeps_params"})
    assert len(checks) == 5


def test_every_check_has_an_estimator_that_breaks_it():
    assert {check for check, _, _ in ALL_BROKEN} == SINGLE_CHECKS


@pytest.mark.parametrize(
    ("check", "broken", "promise"), ALL_BROKEN, ids=[f"{c}-{b.__name__}" for c, b, _ in ALL_BROKEN]
)
def test_check_fails_for_a_broken_estimator(check, broken, promise):
    with pytest.raises(AssertionError, match=promise):
        getattr(estimator_checks, check)(broken.__name__, broken())


@pytest.mark.parametrize("broken", [WorksUnfitted, CentresEachBatch, RepeatsNames], ids=lambda broken: broken.__name__)
def test_whole_battery_fails_for_a_broken_estimator(broken):
    with pytest.raises(AssertionError):
        check_image_estimator(broken())


def test_checks_of_a_parameter_are_for_those_that_have_it():
    class NoBatches(ColourGrid):
        def __init__(self, size=4):
            super().__init__(size)

        def get_params(self, deep=True):
            return {"size": self.size}

    mark = parametrize_with_image_checks([NoBatches()])
    checks = {check.func.__name__ for _, check in mark.args[1]}
    left_out = {"check_image_batch_size_invariance", "check_image_bad_item_becomes_nan"}
    assert checks == TRANSFORMER_CHECKS - left_out


def test_classes_are_refused():
    with pytest.raises(TypeError, match="must be instances, not classes"):
        parametrize_with_image_checks([ColourGrid])


def test_checks_leave_the_estimator_as_it_was():
    estimator = ColourGrid()
    before = vars(clone(estimator))
    check_image_estimator(estimator)
    assert vars(estimator) == before


def test_test_ids_name_the_estimator_and_the_check():
    mark = parametrize_with_image_checks([ColourGrid(size=5)])
    estimator, check = mark.args[1][0]
    assert isinstance(check, partial)
    assert mark.kwargs["ids"](estimator) == "ColourGrid(size=5)"
    assert mark.kwargs["ids"](check) == "check_image_unfitted"
