"""What people do without us: the same weights, float32, one view of each image, from files.

Each peer is called with a list of paths and returns descriptors (global average pooling of the same network). None
downloads anything: where a library would fetch weights, the installed ones are put into its model instead.
"""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import timm
import torch
from _bare import default_backbone
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

_SIZE = 224
_TIMM_BATCH = 32


def timm_network():
    """Return timm's network with the installed weights, as `timm.create_model(name, pretrained=True)` would."""
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    weights = default_backbone(_SIZE).module.network.state_dict()
    network.load_state_dict({key: value for key, value in weights.items() if not key.startswith("classifier")})
    return network


class TutorialLoop:
    """What tutorials show: open with Pillow, torchvision's transforms, the model, in a loop."""

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.network = timm_network().eval()
        self.transform = transforms.Compose(
            [
                transforms.Resize((_SIZE, _SIZE)),
                transforms.ToTensor(),
                transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
            ]
        )

    @torch.no_grad()
    def __call__(self, paths):
        features = []
        for i in range(0, len(paths), self.batch_size):
            images = [Image.open(path).convert("RGB") for path in paths[i : i + self.batch_size]]
            features.append(self.network(torch.stack([self.transform(image) for image in images])).numpy())
        return np.concatenate(features)


class _Files(Dataset):
    def __init__(self, paths, transform):
        self.paths, self.transform = paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.transform(Image.open(self.paths[i]).convert("RGB"))


class TimmLoader:
    """The way timm's own scripts infer: its transform and a DataLoader, whose workers live on between calls."""

    def __init__(self, n_workers):
        self.n_workers = n_workers
        self.network = timm_network().eval()
        config = timm.data.resolve_model_data_config(self.network)
        self.transform = timm.data.create_transform(**config, is_training=False)
        self.loaders = {}

    def _loader(self, paths):
        key = paths[0], len(paths)
        if key not in self.loaders:
            self.loaders[key] = DataLoader(
                _Files(paths, self.transform),
                batch_size=_TIMM_BATCH,
                num_workers=self.n_workers,
                persistent_workers=self.n_workers > 0,
            )
        return self.loaders[key]

    @torch.inference_mode()
    def __call__(self, paths):
        return torch.cat([self.network(batch) for batch in self._loader(paths)]).numpy()


class Embetter:
    """embetter's pipeline of ImageLoader and TimmEncoder, as its documentation shows.

    TimmEncoder asks timm for pretrained weights when it is made; the call is answered with the installed ones. It never
    calls `eval()`, so that batch normalisation takes the statistics of the one image at hand; with `repaired` it is
    called for it.
    """

    def __init__(self, repaired):
        from embetter.vision import ImageLoader, TimmEncoder
        from sklearn.pipeline import make_pipeline

        network = timm_network()
        with patch("timm.create_model", return_value=network):
            encoder = TimmEncoder("tf_efficientnet_lite0")
        if repaired:
            encoder.model.eval()
        self.pipeline = make_pipeline(ImageLoader(), encoder)

    def __call__(self, paths):
        return self.pipeline.fit_transform(paths)


class Img2VecLoop:
    """img2vec_pytorch, image by image, as its documentation shows.

    It knows models of torchvision only, and fetches their weights. Its method that makes the model is replaced; its
    preprocessing (ImageNet's mean and standard deviation, which it always takes), its hook and its loop are its own.
    """

    def __init__(self):
        from img2vec_pytorch import Img2Vec

        class SameNetwork(Img2Vec):
            def _get_model_and_layer(self, model_name, layer):
                network = timm_network()
                # The hook expects (n, channels, 1, 1), as from the pooling layer of a ResNet.
                network.global_pool = nn.AdaptiveAvgPool2d(1)
                return network, network.global_pool

        self.encoder = SameNetwork(layer_output_size=1280)

    def __call__(self, paths):
        return np.stack([self.encoder.get_vec(Image.open(path).convert("RGB")) for path in paths])


def make_peers():
    """Return the peers by name; where a setting is open, once with each value."""
    return {
        "tutorial loop, batch 1": TutorialLoop(1),
        "tutorial loop, batch 32": TutorialLoop(32),
        "timm, DataLoader with 2 workers": TimmLoader(2),
        "timm, DataLoader with 0 workers": TimmLoader(0),
        "embetter TimmEncoder": Embetter(repaired=False),
        "embetter TimmEncoder, eval()": Embetter(repaired=True),
        "img2vec_pytorch": Img2VecLoop(),
    }
