"""The errors and warnings of sklearn_psp.

`PSPError` is the root. Each error also inherits the built-in that scikit-learn users expect for the same mistake
(`ValueError`, `ImportError`, ...), so that `except ValueError` keeps working. All survive pickling, as joblib sends
them between processes.
"""

from __future__ import annotations

__all__ = [
    "BackboneError",
    "BatchSizeWarning",
    "CacheError",
    "CacheFormatWarning",
    "CacheSizeWarning",
    "CheckpointError",
    "DeviceError",
    "EnrolmentWarning",
    "FaceError",
    "FaceWarning",
    "FewPairsWarning",
    "ImageInputError",
    "ImageReadError",
    "ImageReadWarning",
    "IndexVersionWarning",
    "MissingDependencyError",
    "MissingImageError",
    "OutOfDeviceMemoryError",
    "PSPError",
    "PSPWarning",
    "PersistenceError",
    "RecallWarning",
    "RuntimeFallbackWarning",
    "TrainingDivergedError",
    "UnknownIdError",
    "UntrustedTypeError",
    "WeightsError",
]


class PSPError(Exception):
    """Root of the errors raised by sklearn_psp."""


class ImageInputError(PSPError, ValueError):
    """X as a whole is not a collection of images that can be understood."""


class ImageReadError(PSPError, ValueError):
    """One or more images could not be read.

    Parameters
    ----------
    message : str
        What happened and what to do about it.
    errors : pandas.DataFrame or None, default=None
        One row per unreadable image with the columns `index` (position in X), `source` and `reason`.
    remedy : str or None, default=None
        What to do besides leaving the images out, where the error knows more; it is part of the message too.
    """

    def __init__(self, message, errors=None, remedy=None):
        super().__init__(message)
        self.errors = errors
        self.remedy = remedy

    def __reduce__(self):
        return type(self), (self.args[0], self.errors, self.remedy)


class MissingImageError(ImageReadError, FileNotFoundError):
    """Files that do not exist, all named at once before any image is decoded."""


class FaceError(ImageReadError):
    """An image has no face, or several where one was asked for."""


class BackboneError(PSPError, ValueError):
    """A backbone is unknown, or cannot do what was asked of it."""


class WeightsError(PSPError, ValueError):
    """Weights are not installed, do not fit the network, or are not the file they claim to be."""


class DeviceError(PSPError, ValueError):
    """The device asked for is not there."""


class OutOfDeviceMemoryError(PSPError, MemoryError):
    """A single image does not fit into the memory of the device."""


class MissingDependencyError(PSPError, ImportError):
    """An optional package is not installed; the message holds the pip line that brings it."""


class CacheError(PSPError, OSError):
    """A cache of feature maps cannot be opened or written."""


class CheckpointError(PSPError, OSError):
    """A checkpoint of a training run cannot be read or written, or is of another run."""


class TrainingDivergedError(PSPError, ArithmeticError):
    """The loss is not a finite number any more."""


class UnknownIdError(PSPError, KeyError):
    """No image of the gallery has this id."""

    def __str__(self):
        return self.args[0]  # KeyError would show the text in quotes


class PersistenceError(PSPError, ValueError):
    """An estimator cannot be saved, or a file cannot be loaded."""


class UntrustedTypeError(PersistenceError):
    """A file asks for types that nobody has said to be harmless."""


class PSPWarning(UserWarning):
    """Root of the warnings issued by sklearn_psp."""


class ImageReadWarning(PSPWarning):
    """Some images could not be read and became rows of NaN.

    Parameters
    ----------
    message : str
        How many images, and the first of them.
    errors : pandas.DataFrame or None, default=None
        One row per unreadable image with the columns `index` (position in X), `source` and `reason`.
    """

    def __init__(self, message, errors=None):
        super().__init__(message)
        self.errors = errors

    def __reduce__(self):
        return type(self), (self.args[0], self.errors)


class FaceWarning(ImageReadWarning):
    """Some images gave no face: they have none, or several where one was asked for, or could not be read."""


class BatchSizeWarning(PSPWarning):
    """The batch did not fit into the device's memory and was made smaller."""


class CacheFormatWarning(PSPWarning):
    """The folder of a cache holds one of an earlier version, which is not read."""


class CacheSizeWarning(PSPWarning):
    """The feature maps of one call are more than the cache may hold."""


class RuntimeFallbackWarning(PSPWarning):
    """A faster runtime is installed but cannot run this network, or was there at fit and is gone."""


class RecallWarning(PSPWarning):
    """An approximate search finds less than was asked for."""


class IndexVersionWarning(PSPWarning):
    """A graph was made by another version of its library, and is built anew."""


class FewPairsWarning(PSPWarning):
    """There are too few comparisons for the rate of errors that was asked for."""


class EnrolmentWarning(PSPWarning):
    """Somebody who is enrolled looks like somebody else who is."""
