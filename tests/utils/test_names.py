from __future__ import annotations

from sklearn_psp.utils._names import did_you_mean


def test_the_nearest_name_is_asked_for_and_none_where_nothing_is_like_it():
    assert did_you_mean("arcfase", {"focal": 0, "arcface": 1}) == "did you mean 'arcface'? "
    assert did_you_mean("xyz", ["focal", "arcface"]) == ""
