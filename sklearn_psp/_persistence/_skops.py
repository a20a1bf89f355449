"""skops, imported without what it does not need."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from types import ModuleType

__all__ = ["import_skops"]

_UNNEEDED = "sklearn.externals.array_api_compat.torch"
_LOCK = threading.Lock()


def import_skops():
    """Import `skops.io` without torch.

    Returns
    -------
    module
        `skops.io`.
    """
    with _LOCK:
        if "skops.io" in sys.modules:
            import skops.io  # another thread may still be at it: this waits
        else:
            with _left_out(_UNNEEDED):
                import skops.io
    return skops.io


@contextmanager
def _left_out(name):
    # skops asks scikit-learn for all its estimators, which imports every package below `sklearn` on the way. One is a
    # layer over torch: 1.2 of 1.6 seconds, for no estimator. An empty package stands in its place meanwhile.
    if name in sys.modules or "torch" in sys.modules:
        yield
        return
    parent_name, _, attribute = name.rpartition(".")
    empty = ModuleType(name)
    empty.__path__ = []
    sys.modules[name] = empty
    try:
        yield
    finally:
        if sys.modules.get(name) is empty:
            del sys.modules[name]
        parent = sys.modules.get(parent_name)
        if getattr(parent, attribute, None) is empty:
            delattr(parent, attribute)
