from __future__ import annotations

from sklearn_psp.utils._names import did_you_mean


def test_the_nearest_name_is_asked_for_and_none_where_nothing_is_like_it():
    assert did_you_mean("arcfase", {"focal": 0, "arcface": 1}) == "did you mean 'arcface'? "
    assert did_you_mean("xyz", ["focal", "arcface"]) == ""


def test_did_you_mean__several():
    known = ["resnet18", "resnet50", "convnext"]
    assert did_you_mean("resnet19", known, n=2, cutoff=0.6) == "did you mean 'resnet18' or 'resnet50'? "
    assert did_you_mean("rsnt", known, cutoff=0.9) == ""
