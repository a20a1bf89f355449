"""Checks for estimators that take images, in the manner of `sklearn.utils.estimator_checks`.

scikit-learn's own battery hands out tables of numbers; these hand out images. A transformer that passes both works in
a `Pipeline` and a `GridSearchCV`, on whatever form the images come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier
from sklearn.utils.validation import has_fit_parameter

from sklearn_psp.utils._checks._classifiers import (
    check_image_classifier_bad_item,
    check_image_classifier_input_kinds,
    check_image_classifier_labels,
    check_image_classifier_order,
    check_image_zero_weight_is_left_out,
)
from sklearn_psp.utils._checks._fitted_state import (
    check_image_batch_size_invariance,
    check_image_clone,
    check_image_fit_keeps_params,
    check_image_fit_transform,
    check_image_order_invariance,
    check_image_pickle,
    check_image_refit_forgets,
    check_image_set_output_pandas,
    check_image_subset_invariance,
    check_image_transform_keeps_dict,
    check_image_unfitted,
)
from sklearn_psp.utils._checks._reading import (
    check_image_bad_item_becomes_nan,
    check_image_bad_item_raises,
    check_image_empty_input,
    check_image_exif_turn,
    check_image_generator_of_images,
    check_image_input_kinds,
    check_image_input_unchanged,
    check_image_missing_files,
    check_image_single_image,
)

if TYPE_CHECKING:
    import pytest

__all__ = [
    "check_image_bad_item_becomes_nan",
    "check_image_bad_item_raises",
    "check_image_batch_size_invariance",
    "check_image_classifier_bad_item",
    "check_image_classifier_input_kinds",
    "check_image_classifier_labels",
    "check_image_classifier_order",
    "check_image_clone",
    "check_image_empty_input",
    "check_image_estimator",
    "check_image_exif_turn",
    "check_image_fit_keeps_params",
    "check_image_fit_transform",
    "check_image_generator_of_images",
    "check_image_input_kinds",
    "check_image_input_unchanged",
    "check_image_missing_files",
    "check_image_order_invariance",
    "check_image_pickle",
    "check_image_refit_forgets",
    "check_image_set_output_pandas",
    "check_image_single_image",
    "check_image_subset_invariance",
    "check_image_transform_keeps_dict",
    "check_image_unfitted",
    "check_image_zero_weight_is_left_out",
    "parametrize_with_image_checks",
]

_CHECKS = (
    check_image_unfitted,
    check_image_fit_keeps_params,
    check_image_input_kinds,
    check_image_exif_turn,
    check_image_input_unchanged,
    check_image_empty_input,
    check_image_single_image,
    check_image_generator_of_images,
    check_image_missing_files,
    check_image_bad_item_raises,
    check_image_subset_invariance,
    check_image_order_invariance,
    check_image_transform_keeps_dict,
    check_image_fit_transform,
    check_image_refit_forgets,
    check_image_pickle,
    check_image_clone,
)
# A check that is about a parameter, or a method, is for those estimators that have it.
_CHECKS_OF_PARAMETER = {
    "on_error": check_image_bad_item_becomes_nan,
    "batch_size": check_image_batch_size_invariance,
}
_CHECKS_OF_CLASSIFIERS = (
    check_image_fit_keeps_params,
    check_image_classifier_input_kinds,
    check_image_classifier_labels,
    check_image_classifier_order,
    check_image_classifier_bad_item,
)
_CHECKS_OF_METHOD = {"get_feature_names_out": check_image_set_output_pandas}


def check_image_estimator(estimator: Any) -> None:
    """Run every check on a transformer or a classifier of images; the first that fails raises.

    Parameters
    ----------
    estimator : estimator
        A transformer of images: its `fit` and `transform` take paths, bytes, PIL images and arrays, in all the forms
        that `PSPNetFeaturizer` takes, and `transform` returns one row of floats per image. With a parameter
        `on_error` it takes "raise" and "nan", with a parameter `batch_size` any positive int. The invariances hold it
        to float32. Or a classifier of images with `predict_proba`, which has checks of its own. Each check clones it
        and makes its own images of 40 x 48 pixels.

    Raises
    ------
    AssertionError
        Saying which promise is broken, and how.

    See Also
    --------
    parametrize_with_image_checks : Each check as a test of its own.
    sklearn.utils.estimator_checks.check_estimator : The checks for tables of numbers.

    Examples
    --------
    >>> from sklearn_psp import PSPNetFeaturizer
    >>> from sklearn_psp.utils.estimator_checks import check_image_estimator
    >>> check_image_estimator(PSPNetFeaturizer(image_size=32, precision="float32"))
    """
    for checked, check in _checks_of(estimator):
        check(checked)


def parametrize_with_image_checks(estimators: Sequence[Any]) -> pytest.MarkDecorator:
    """Return the pytest decorator that makes a test of each check and each estimator.

    Parameters
    ----------
    estimators : list of estimator
        Instances of transformers or classifiers of images; see `check_image_estimator`.

    Returns
    -------
    pytest.MarkDecorator
        `pytest.mark.parametrize("estimator, check", ...)`; the test calls `check(estimator)`.

    See Also
    --------
    check_image_estimator : All checks in one call.
    sklearn.utils.estimator_checks.parametrize_with_checks : The same for scikit-learn's checks.

    Examples
    --------
    >>> from sklearn_psp import PSPNetFeaturizer
    >>> from sklearn_psp.utils.estimator_checks import parametrize_with_image_checks
    >>> @parametrize_with_image_checks([PSPNetFeaturizer(image_size=32, precision="float32")])
    ... def test_images(estimator, check):
    ...     check(estimator)
    """
    import pytest

    if any(isinstance(estimator, type) for estimator in estimators):
        raise TypeError("estimators must be instances, not classes: pass for example PSPNetFeaturizer()")
    pairs = [pair for estimator in estimators for pair in _checks_of(estimator)]
    return pytest.mark.parametrize(("estimator", "check"), pairs, ids=_name)


def _checks_of(estimator):
    params = estimator.get_params(deep=False)
    if is_classifier(estimator):
        checks = [*_CHECKS_OF_CLASSIFIERS]
        if has_fit_parameter(estimator, "sample_weight"):
            checks.append(check_image_zero_weight_is_left_out)
        return [(estimator, partial(check, type(estimator).__name__)) for check in checks]
    checks = [*_CHECKS]
    checks += [check for parameter, check in _CHECKS_OF_PARAMETER.items() if parameter in params]
    checks += [check for method, check in _CHECKS_OF_METHOD.items() if hasattr(estimator, method)]
    return [(estimator, partial(check, type(estimator).__name__)) for check in checks]


def _name(argument):
    """Name a parameter of a test: the check, or the estimator with the parameters that are not its defaults."""
    if isinstance(argument, partial):
        return argument.func.__name__
    return " ".join(str(argument).split())
