"""A battery of scikit-learn's checks that runs once and is counted in that run.

An estimator that is tagged to take images alone gets one check of scikit-learn, and is green: the number of checks that
pass has to be guarded. Running the battery a second time for that costs a minute.
"""

from __future__ import annotations

import unittest
from collections import defaultdict
from contextlib import contextmanager, suppress

from sklearn.utils.estimator_checks import estimator_checks_generator


class Battery:
    """What became of each check of each instance, as far as they have been run."""

    def __init__(self):
        self._outcomes = defaultdict(dict)

    def run(self, estimator, check):
        """Run a check as a test does: its error is the test's."""
        with self._noting(estimator, check):
            check(estimator)

    def assert_passes(self, estimator, *, at_least, excused=(), skipped=()):
        """Assert how many checks pass, and that all others are excused, or skipped.

        Checks that the run has left out so far (`pytest -k`) are run here.
        """
        outcomes = self._outcomes[id(estimator)]
        for _, check in estimator_checks_generator(estimator):
            if _key(check) not in outcomes:
                with suppress(Exception, unittest.SkipTest):  # noted, and judged below
                    self.run(estimator, check)
        names = {"passed": [], "failed": [], "skipped": []}
        for key, outcome in outcomes.items():
            names[outcome].append(key[0])
        # Sets: a check may be there twice, with other arguments.
        assert set(names["failed"]) == set(excused)
        assert set(names["skipped"]) == set(skipped)
        assert len(names["passed"]) >= at_least

    @contextmanager
    def _noting(self, estimator, check):
        outcome = "failed"
        try:
            yield
            outcome = "passed"
        except unittest.SkipTest:
            outcome = "skipped"
            raise
        finally:
            self._outcomes[id(estimator)][_key(check)] = outcome


def _key(check):
    return check.func.__name__, repr(sorted(check.keywords.items()))
