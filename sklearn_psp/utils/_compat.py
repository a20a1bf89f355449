"""The only door to scikit-learn's private API."""

from __future__ import annotations

from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)
from sklearn.utils.validation import _check_sample_weight

__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "_check_sample_weight",
    "_fit_context",
    "validate_params",
    "with_callbacks",
]

try:  # experimental in scikit-learn 1.9, absent before
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's: it calls no callbacks."""

        def _init_callback_context(self, **options):
            return _SilentContext()

    class _SilentContext:
        def subcontext(self, **options):
            return self

        def call_on_fit_task_begin(self, **options):
            return None

        def call_on_fit_task_end(self, **options):
            return False

    def with_callbacks(method):
        """Return the method as it is."""
        return method
