"""Helpers shared by the whole package; only `estimator_checks` is public."""
