"""The checks of `sklearn_psp.utils.estimator_checks`, by what they look at."""
