"""Training: a network with its parts and a linear head, from images or from local features, on skorch's loop."""

from sklearn_psp._training._augment import make_augmentation
from sklearn_psp._training._checkpoint import Checkpoint
from sklearn_psp._training._data import ImageBatches, PartBatches, StreamBatches
from sklearn_psp._training._losses import is_margin_loss, make_loss
from sklearn_psp._training._metrics import make_metrics
from sklearn_psp._training._model import PartModel, Trunk
from sklearn_psp._training._net import seeded
from sklearn_psp._training._stages import trainable_copy
from sklearn_psp._training._training import Settings, Training, make_optimizer

__all__ = [
    "Checkpoint",
    "ImageBatches",
    "PartBatches",
    "PartModel",
    "Settings",
    "StreamBatches",
    "Training",
    "Trunk",
    "is_margin_loss",
    "make_augmentation",
    "make_loss",
    "make_metrics",
    "make_optimizer",
    "seeded",
    "trainable_copy",
]
