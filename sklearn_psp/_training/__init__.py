"""Training of a network with its parts and a linear head, from images or local features, on skorch's loop."""

from sklearn_psp._training._checkpoint import Checkpoint, UnidentifiedError, fingerprint
from sklearn_psp._training._data import Batches, ImageBatches, PartBatches, StreamBatches, make_augmentation
from sklearn_psp._training._model import ImageBackbone, PartModel, trainable_copy
from sklearn_psp._training._net import seeded
from sklearn_psp._training._objectives import is_margin_loss, make_loss, make_metrics, make_optimizer
from sklearn_psp._training._training import Training, TrainingSettings

__all__ = [
    "Batches",
    "Checkpoint",
    "ImageBackbone",
    "ImageBatches",
    "PartBatches",
    "PartModel",
    "StreamBatches",
    "Training",
    "TrainingSettings",
    "UnidentifiedError",
    "fingerprint",
    "is_margin_loss",
    "make_augmentation",
    "make_loss",
    "make_metrics",
    "make_optimizer",
    "seeded",
    "trainable_copy",
]
