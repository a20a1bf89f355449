"""Changes of an image that leave its class as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["make_augmentation"]

# Least share of the image that is seen, and how much wider or narrower it may become.
_LEAST_SHARE, _MOST_STRETCH = 0.5, 4 / 3


def make_augmentation(augment, image_size: tuple[int, int]) -> Callable | None:
    """Return a function of an image (3, height, width) that gives another one of this size and dtype.

    Parameters
    ----------
    augment : bool or callable
        True: a random part of at least half of the image, brought to the whole size, and mirrored every second time.
        A callable is taken as it is, for example one of torchvision's transforms.
    image_size : tuple of two ints
        (height, width) of the images.

    Returns
    -------
    callable or None
        The function; None for False.
    """
    if augment is False:
        return None
    if augment is True:
        from torchvision.transforms import v2

        return v2.Compose(
            [
                v2.RandomResizedCrop(
                    image_size, scale=(_LEAST_SHARE, 1.0), ratio=(1 / _MOST_STRETCH, _MOST_STRETCH), antialias=True
                ),
                v2.RandomHorizontalFlip(),
            ]
        )
    return _Checked(augment, image_size)


class _Checked:
    """An augmentation of the user's, whose images must fit together."""

    def __init__(self, function, image_size):
        self._function = function
        self._shape = (3, *image_size)

    def __call__(self, image):
        # A copy: it may be changed in place, and be somebody's array.
        changed = self._function(image.clone())
        is_tensor = isinstance(changed, torch.Tensor)
        if not is_tensor or tuple(changed.shape) != self._shape or changed.dtype != image.dtype:
            got = (
                f"a tensor of {changed.dtype} and shape {tuple(changed.shape)}" if is_tensor else type(changed).__name__
            )
            raise ValueError(
                f"augment must return images as it gets them, tensors of {image.dtype} and shape {self._shape}, "
                f"but gave {got}"
            )
        return changed
