"""The guard of tests/conftest.py, on small suites of its own."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_HERE = Path(__file__).parent


@pytest.fixture
def suite(pytester):
    """A suite with this suite's guard; a test that passes is in it."""
    pytester.makeconftest((_HERE / "conftest.py").read_text(encoding="utf-8"))
    pytester.path.joinpath("allowed_skips.txt").write_text("# a comment\n\nthe moon is (new|full)\n", encoding="utf-8")
    pytester.makepyfile(test_passes="def test_passes(): pass")
    return pytester


def _run(suite):
    return suite.runpytest("-p", "no:cacheprovider")


def test_allowed_skip__passes_and_is_listed(suite):
    suite.makepyfile("import pytest\ndef test_it(): pytest.skip('the moon is full tonight')")
    result = _run(suite)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*skips: 1, of them not allowed: 0*", "allowed *::test_it: the moon is full tonight"])


@pytest.mark.parametrize(
    "code",
    [
        "def test_it(): pytest.skip('no reason: the moon is full')",
        "@pytest.mark.skip(reason='later')\ndef test_it(): pass",
        "@pytest.mark.skipif(True, reason='later')\ndef test_it(): pass",
        "def test_it(): pytest.importorskip('a_package_that_is_not_there')",
        "pytest.skip('the whole module', allow_module_level=True)",
        "@pytest.fixture\ndef thing(): pytest.skip('later')\ndef test_it(thing): pass",
    ],
)
def test_other_skip__fails_the_run(suite, code):
    suite.makepyfile(f"import pytest\n{code}")
    result = _run(suite)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skips: 1, of them not allowed: 1*", "NOT ALLOWED *"])


def test_expected_failure__is_no_skip(suite):
    suite.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_it(): assert False")
    result = _run(suite)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*skips: 0*"])


def test_no_skip_hides_a_failure(suite):
    suite.makepyfile("def test_it(): assert False")
    assert _run(suite).ret == pytest.ExitCode.TESTS_FAILED
