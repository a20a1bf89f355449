"""scikit-learn's own battery on every instance of the table."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from common.battery import Battery
from common.instances import (
    CLASSIFIER_EXPECTED_FAILURES,
    CLASSIFIER_TABLE_INSTANCES,
    EXPECTED_FAILURES,
    IDENTIFIER_TABLE_INSTANCES,
    TABLE_INSTANCES,
)
from sklearn_psp import PSPNetFeaturizer
from sklearn_psp.utils import estimator_checks

_TABLES = (
    (TABLE_INSTANCES, EXPECTED_FAILURES),
    (CLASSIFIER_TABLE_INSTANCES, CLASSIFIER_EXPECTED_FAILURES),
    (IDENTIFIER_TABLE_INSTANCES, {}),
)
_BATTERY = Battery()
_INSTANCES = [estimator for instances, _ in _TABLES for estimator in instances.values()]


def _excused(estimator):
    for instances, failures in _TABLES:
        for name, instance in instances.items():
            if instance is estimator:
                return failures.get(name, {})
    raise AssertionError("an instance of no table")


@parametrize_with_checks(_INSTANCES, expected_failed_checks=_excused)
def test_scikit_learn_battery(estimator, check):
    _BATTERY.run(estimator, check)


@pytest.mark.parametrize("name", TABLE_INSTANCES)
def test_at_least_45_checks_pass_for_the_featurizer(name):
    assert_enough_pass(TABLE_INSTANCES[name], EXPECTED_FAILURES.get(name, {}), 45)


@pytest.mark.parametrize("name", ["head", "all"])
def test_at_least_55_checks_pass_for_the_classifier(name):
    assert_enough_pass(CLASSIFIER_TABLE_INSTANCES[name], CLASSIFIER_EXPECTED_FAILURES[name], 55)


def test_at_least_54_checks_pass_for_the_identifier():
    assert_enough_pass(IDENTIFIER_TABLE_INSTANCES["identifier"], {}, 54)


def assert_enough_pass(estimator, excused, least):
    # SCIPY_ARRAY_API is not set.
    _BATTERY.assert_passes(estimator, at_least=least, excused=excused, skipped=["check_array_api_input"])


def test_tags_follow_image_shape():
    images_only = PSPNetFeaturizer().__sklearn_tags__()
    assert not images_only.input_tags.two_d_array
    assert PSPNetFeaturizer(image_shape=(8, 8)).__sklearn_tags__().input_tags.two_d_array
    assert images_only.transformer_tags.preserves_dtype == ["float32"]


def test_excused_checks_name_their_replacement():
    for excused in (*EXPECTED_FAILURES.values(), *CLASSIFIER_EXPECTED_FAILURES.values()):
        for reason in excused.values():
            assert any(check in reason for check in estimator_checks.__all__), reason
