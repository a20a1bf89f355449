"""What the network sees of an image."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sklearn_psp._nets import Views
from sklearn_psp._nets._views import images_tensor


def batch(dtype=torch.uint8, size=(32, 24)):
    return torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).to(dtype)


def test_the_largest_size_is_seen_as_it_is():
    x = batch()
    ((view, mirrored),) = Views([(32, 24)]).of(x)
    assert view is x
    assert mirrored is False


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-3), (torch.uint8, 1.0)])
def test_a_smaller_size_is_antialiased_bilinear_interpolation(dtype, atol):
    x = batch(dtype)
    _, (view, _) = Views([(32, 24), (16, 12)]).of(x)
    expected = F.interpolate(x.double(), (16, 12), mode="bilinear", antialias=True)
    assert view.dtype == dtype
    torch.testing.assert_close(view.double(), expected, rtol=0, atol=atol)


def test_every_size_is_seen_plain_then_mirrored():
    views = list(Views([(32, 24), (16, 12)], flip=True).of(batch()))
    assert [mirrored for _, mirrored in views] == [False, True, False, True]
    for (plain, _), (mirror, _) in (views[:2], views[2:]):
        assert torch.equal(mirror, plain.flip(-1))


@pytest.mark.parametrize("flip", [False, True])
def test_length_and_shapes_are_those_of_the_views(flip):
    views = Views([(32, 24), (16, 12)], flip=flip)
    shapes = [tuple(view.shape[-2:]) for view, _ in views.of(batch())]
    assert views.shapes() == shapes
    assert len(views) == len(shapes)


def test_images_are_viewed_and_not_copied():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = images_tensor(images)
    assert tensor.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(tensor.numpy(), images.transpose(0, 3, 1, 2))
    assert np.shares_memory(tensor.numpy(), images)


def test_read_only_and_strided_images_are_copied():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    images.flags.writeable = False
    for given in (images, images[:, ::-1], images[::2]):
        tensor = images_tensor(given)
        np.testing.assert_array_equal(tensor.numpy(), given.transpose(0, 3, 1, 2))
        assert not np.shares_memory(tensor.numpy(), images)
