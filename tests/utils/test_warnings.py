"""Warnings that point to the line of the user."""

from __future__ import annotations

import _thread
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_psp import FaceAligner
from sklearn_psp.exceptions import FaceWarning, PSPWarning
from sklearn_psp.utils._warnings import warn_user

WARN = "def warn(): warn_user(UserWarning('mine'))"
CALL = "def call(function): function()"


def function_of(module, source):
    """Return the function that source defines in a module of this name."""
    defined = {"__name__": module, "warn_user": warn_user}
    exec(compile(source, f"{module}.py", "exec"), defined)
    return defined.popitem()[1]


def places(function, *args):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*args)
    return [warning.filename for warning in caught]


@pytest.mark.parametrize("between", [[], ["sklearn_psp"], ["sklearn.pipeline", "joblib.parallel", "sklearn_psp.faces"]])
def test_warning__points_past_the_frames_that_lie_between(between):
    call = function_of("sklearn_psp.here", WARN)
    for module in between:
        call = partial(function_of(module, CALL), call)
    assert places(call) == [__file__]


@pytest.mark.parametrize("module", ["sklearn_psp_plugin", "sklearnex", "my.sklearn", "__main__"])
def test_other_modules__are_users(module):
    warn = partial(function_of("sklearn", CALL), function_of("sklearn_psp", WARN))
    assert places(function_of(module, CALL), warn) == [f"{module}.py"]


def test_line__is_that_of_the_call():
    with pytest.warns(UserWarning, match="mine") as caught:
        function_of("sklearn_psp", WARN)()
    line = Path(__file__).read_text(encoding="utf-8").splitlines()[caught[0].lineno - 1]
    assert line.strip() == 'function_of("sklearn_psp", WARN)()'


def test_warning__is_issued_as_it_is():
    message = PSPWarning("mine")
    with pytest.warns(PSPWarning) as caught:
        warn_user(message)
    assert [(warning.message, warning.filename) for warning in caught] == [(message, __file__)]


def test_without_a_user__the_outermost_frame_is_named():
    # A thread that was begun without Python's own frames.
    seen = []
    source = """
def begin(seen):
    import warnings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_user(UserWarning("mine"))
    seen.extend(warning.filename for warning in caught)
"""
    _thread.start_new_thread(function_of("sklearn_psp.thread", source), (seen,))
    # The main thread does not wait for a pool, so it is not the one that the warning concerns.
    while not seen:
        time.sleep(0.01)
    assert seen == ["sklearn_psp.thread.py"]


@pytest.mark.parametrize(
    "around",
    [
        lambda aligner: Pipeline([("align", aligner)]).transform,
        lambda aligner: Pipeline([("align", aligner), ("pass", FunctionTransformer())]).fit_transform,
        lambda aligner: (
            FeatureUnion([("align", Pipeline([("align", aligner), ("sum", FunctionTransformer(np.size))]))]).fit
        ),
        lambda aligner: FunctionTransformer(aligner.transform).fit_transform,
        lambda aligner: lambda X: Parallel(1)([delayed(aligner.transform)(X)]),
    ],
    ids=["Pipeline", "fit_transform", "FeatureUnion", "FunctionTransformer", "joblib"],
)
def test_warning_of_a_step__points_to_the_call_of_what_holds_it(around):
    call = around(FaceAligner(on_error="nan"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call([b"not images"])
    assert [(warning.category, warning.filename) for warning in caught] == [(FaceWarning, __file__)]
