"""PSPNetFeaturizer: images in, descriptors out, by part-sequence pyramid pooling."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._featurizer._state import PackedStateMixin, adapted_state, columns_of, replace_fit
from sklearn_psp._persistence import SavedWeights
from sklearn_psp.utils._compat import HasMethods, Interval, StrOptions, _fit_context
from sklearn_psp.utils._descriptions import Descriptions, warn_of_failures
from sklearn_psp.utils._validation import check_rows

if TYPE_CHECKING:
    from sklearn_psp._featurizer._feature_model import FeatureModel

__all__ = ["PSPNetFeaturizer", "model_of"]

_UNREADABLE = "images could not be read and are rows of NaN"


class PSPNetFeaturizer(PackedStateMixin, TransformerMixin, BaseEstimator):
    r"""Describe images by their parts: part-sequence pyramid pooling of a network's feature maps.

    A convolutional network turns an image into feature maps; the maps are cut, level by level, into an ordered
    sequence of parts; each part is pooled into a local feature :math:`f_i(x)` of unit length; and the local features
    are aggregated into one global feature, :math:`F(x) = \sum_i w_i f_i(x)` or their concatenation. The mean of the
    training descriptors is subtracted and the result brought to unit length.

    Nothing is downloaded: the weights of the default backbone are an installed package.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="efficientnet_lite0"
        The network. `"efficientnet_lite0"` and `"efficientnet_lite2"` have installable weights, and so has
        `"dlib_face"`, for aligned faces (extra `faces`); every classification network of torchvision and every network
        of timm works by its name there (`"torchvision/resnet50"`, `"timm/resnet50"`; a bare name means torchvision's
        where both have it). A module of your own maps RGB images in [0, 1], shape (n, 3, height, width), to feature
        maps (n, channels, rows, columns).
    weights : {"default", "download"}, path-like or None, default="default"
        `"default"` takes the weights that are installed, and never the network; a path names a safetensors or a
        `state_dict` file; `"download"` fetches the published weights of torchvision's or timm's networks; None means
        random weights, for tests.
    output_stride : {8, 16, 32} or None, default=None
        Dilate the backbone so that its maps are that many times smaller than the image, as PSPNet does. None leaves
        it as it is. Not every backbone can.
    image_size : "auto", int or tuple of two ints, default="auto"
        (height, width) in pixels of the images the network sees, before `scales`. `"auto"` is the size the network
        was made for: 150 for `"dlib_face"`, that of a network of timm or Keras built for one size, else 224.
    resize : {"stretch", "crop", "pad"}, default="stretch"
        How an image is brought to that size: both sides by themselves, the largest middle part, or the whole with
        white margins.
    scales : "auto" or sequence of float, default="auto"
        The image is described at each of these multiples of `image_size` (sides are rounded to multiples of 16
        pixels, except at 1.0) and the local features are averaged. `"auto"` is (0.8, 1.15), the best found at no more
        than twice the cost of (1.0,), by `benchmarks/quality.py`; it is (1.0,) for a network made for one size, such as
        most vision transformers and `"dlib_face"`.
    flip : bool, default=False
        Average over the image and its mirror image, at twice the cost.
    bin_sizes : sequence of int or tuple of two ints, default=(1, 2, 3)
        Levels of the pyramid: b is a grid of b x b parts, a pair is (rows, columns); `((6, 1),)` are six stripes.
    part_order : {"raster", "column", "snake"}, default="raster"
        Order of a level's parts: row by row, column by column, or row by row with every second row backwards. It fixes
        which row of `transform_parts` is which, and changes no distance.
    pooling : {"max", "avg", "gem"}, default="max"
        How a part becomes a local feature: maximum, average, or generalised mean.
    gem_power : float, default=3.0
        Power of the generalised mean, above 0: 1 is the average, infinity the maximum.
    projection : array-like of shape (n_levels, n_channels, n_components) or None, default=None
        Matrices that the local features of each level are multiplied by, as by the 1x1 convolutions of the levels of
        PSPNet; the products are brought to unit length. `PSPNetClassifier(reduce_dim=...)` learns them.
    part_weights : {"uniform", "learned"} or array-like of shape (n_parts,), default="uniform"
        The weights w_i, non-negative, in the order of `parts_`. `"learned"` fits them to labels, in seconds: `fit`
        needs y, and describes up to 1,000 of the images twice, or once with a `cache`.
    aggregation : {"sum", "concat"}, default="sum"
        Sum of the weighted local features, or their concatenation in order, with every level given the same say.
    center : bool, default=True
        Subtract n / (n + 50) of the mean of the n training descriptors. With False, `fit` needs no images.
    normalize : bool, default=True
        Bring local features, their products with a `projection`, and descriptors to unit length. With False all of them
        keep their lengths: `bin_sizes=(1,), pooling="avg", center=False, normalize=False` is global average pooling as
        it is. Part weights are not learned then.
    image_shape : "auto", tuple of ints or None, default=None
        How to read 2-D X, an image per row: (height, width) or (height, width, channels), or `"auto"` for the squarest
        grey image. None refuses 2-D X. Rows of floats are taken as they are, on the scale where 1 is white.
    on_error : {"raise", "nan"}, default="raise"
        What an unreadable image does: raise `ImageReadError`, or become a row of NaN with one `ImageReadWarning`.
    batch_size : int or "auto", default="auto"
        Images per pass. `"auto"` measures a few sizes, once per process, network and image size; on a GPU it takes
        what half of the free memory holds.
    device : str or torch.device, default="auto"
        `"auto"` takes the first of cuda, xpu, mps and cpu that is there. One that is asked for and absent is an error.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the network; descriptors are float32 throughout. `"auto"` takes bfloat16 on a CPU where it
        measures faster, once per process, network and image size; on a GPU what it computes in.
    runtime : {"auto", "torch", "openvino"}, default="auto"
        What runs the network. OpenVINO (extra `cpu`) is the faster one on a CPU, and gives the same feature maps in
        float32; `"auto"` takes it there where it is installed and agrees with torch about an image of noise.
    compile : bool, default=False
        Let torch compile the network, which takes a minute and a C++ compiler; with torch as the runtime.
    n_jobs : int or None, default=None
        Threads that read images ahead of the network. None means one per core, at most eight; -1 one per core.
    cache : str, path-like or None, default=None
        Folder in which the feature maps of every image are kept, for any number of processes at once. With it,
        changing how maps are pooled, weighted and aggregated (`bin_sizes`, `part_order`, `pooling`, `gem_power`,
        `projection`, `part_weights`, `aggregation`, `center`, `normalize`) or any step after never runs the network
        again, and a run that was interrupted continues where it was. Maps are kept, and used from the first pass on, in
        half precision: 125 kB an image at one scale of 224 pixels, 256 kB at the default two; a million images take
        125 to 256 GB. They are found by the content of the image, the weights and all that is done before pooling.
    cache_size : float, default=10_000
        Most megabytes of feature maps in the folder; those used longest ago are forgotten.
    random_state : int, RandomState instance or None, default=None
        Seed of random weights (`weights=None`), and of the choice of images that part weights are learned from.
    verbose : int, default=0
        Above 0, show progress: a bar with images a second and the time left, or a line now and then in the worker
        processes of joblib.

    Attributes
    ----------
    backbone_info_ : dict
        Name, library, tap, licence and source of the backbone, sha256 of its weights, mean and standard deviation of
        its preprocessing, channels and grid of its feature maps.
    parts_ : pandas.DataFrame of shape (n_parts, 9)
        The sequence of parts: `level`, `row`, `column`, `n_rows`, `n_columns` of the grid, and the box `top`, `bottom`,
        `left`, `right` as shares of the image as the network sees it.
    n_parts_ : int
        Number of parts.
    part_weights_ : ndarray of shape (n_parts,), float32
        The weights w_i.
    image_size_ : tuple of two ints
        (height, width) in pixels of the images the network sees, before `scales_`.
    scales_ : tuple of float
        The multiples of `image_size_` in use.
    center_ : ndarray of shape (n_features_out_,), float32
        What is subtracted; zeros with `center=False`.
    device_ : str
        Where the network runs.
    runtime_ : {"torch", "openvino"}
        What runs the network.
    precision_ : {"float32", "bfloat16", "float16"}
        Precision of the network, kept by pickle: gallery and queries are described alike.
    batch_size_ : int
        Images per pass.
    errors_ : pandas.DataFrame
        Images that could not be read by `fit`: `index`, `source`, `reason`. Only with `on_error="nan"`.
    n_features_out_ : int
        Length of a descriptor.
    n_features_in_ : int
        Columns of X. Only defined when X is 2-D.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Columns of X. Only defined when X is 2-D with string columns.

    See Also
    --------
    NearestImageRetriever : Search among descriptors.

    Notes
    -----
    A named backbone is loaded once per process and shared by clones. A pickle holds what was fitted, and the name and
    sha256 of the weights, not the weights; a module of your own is pickled with its weights. The precision is part of
    the pickle. `sklearn_psp.save` writes a file without pickle, with weights that were read from a path in it.

    References
    ----------
    Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, for the pyramid of bins over dilated features; Sun et al.,
    "Beyond Part Models", ECCV 2018, and Fu et al., "Horizontal Pyramid Matching", AAAI 2019, for ordered parts; Tolias
    et al., ICLR 2016, for sums of max-pooled regions; Jegou and Chum, "Negative evidences and co-occurences in image
    retrieval", ECCV 2012, for centring.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sklearn_psp import PSPNetFeaturizer
    >>> images = load_sample_images().images
    >>> descriptors = PSPNetFeaturizer().fit_transform(images)
    >>> descriptors.shape
    (2, 1280)
    """

    _parameter_constraints = {
        "backbone": [str, HasMethods(["state_dict", "forward"]), HasMethods(["get_config", "get_weights"])],
        "weights": [str, os.PathLike, SavedWeights, None],
        "output_stride": [Interval(Integral, 1, None, closed="left"), None],
        "image_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left"), tuple, list],
        "resize": [StrOptions({"stretch", "crop", "pad"})],
        "scales": [StrOptions({"auto"}), tuple, list],
        "flip": ["boolean"],
        "bin_sizes": [tuple, list],
        "part_order": [StrOptions({"raster", "column", "snake"})],
        "pooling": [StrOptions({"max", "avg", "gem"})],
        "gem_power": [Interval(Real, 0, None, closed="neither")],
        "projection": ["array-like", None],
        "part_weights": [StrOptions({"uniform", "learned"}), "array-like"],
        "aggregation": [StrOptions({"sum", "concat"})],
        "center": ["boolean"],
        "normalize": ["boolean"],
        "image_shape": [StrOptions({"auto"}), tuple, list, None],
        "on_error": [StrOptions({"raise", "nan"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "device": [str, HasMethods(["type"])],
        "precision": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "runtime": [StrOptions({"auto", "torch", "openvino"})],
        "compile": ["boolean"],
        "n_jobs": [Integral, None],
        "cache": [str, os.PathLike, None],
        "cache_size": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    backbone_info_: dict[str, Any]
    parts_: pd.DataFrame
    n_parts_: int
    part_weights_: np.ndarray
    image_size_: tuple[int, int]
    scales_: tuple[float, ...]
    center_: np.ndarray
    device_: str
    runtime_: str
    precision_: str
    batch_size_: int
    errors_: pd.DataFrame
    n_features_out_: int

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        output_stride=None,
        image_size="auto",
        resize="stretch",
        scales="auto",
        flip=False,
        bin_sizes=(1, 2, 3),
        part_order="raster",
        pooling="max",
        gem_power=3.0,
        projection=None,
        part_weights="uniform",
        aggregation="sum",
        center=True,
        normalize=True,
        image_shape=None,
        on_error="raise",
        batch_size="auto",
        device="auto",
        precision="auto",
        runtime="auto",
        compile=False,
        n_jobs=None,
        cache=None,
        cache_size=10_000,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.output_stride = output_stride
        self.image_size = image_size
        self.resize = resize
        self.scales = scales
        self.flip = flip
        self.bin_sizes = bin_sizes
        self.part_order = part_order
        self.pooling = pooling
        self.gem_power = gem_power
        self.projection = projection
        self.part_weights = part_weights
        self.aggregation = aggregation
        self.center = center
        self.normalize = normalize
        self.image_shape = image_shape
        self.on_error = on_error
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.runtime = runtime
        self.compile = compile
        self.n_jobs = n_jobs
        self.cache = cache
        self.cache_size = cache_size
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any = None, y: Any = None) -> PSPNetFeaturizer:
        """Load the backbone, and learn part weights and the centre.

        Parameters
        ----------
        X : collection of images, default=None
            Paths, bytes, PIL images or arrays, in a list, Series, one-column DataFrame, array (n, height, width) or
            (n, height, width, channels), tensor (n, channels, height, width), or an iterable of batches of them. May be
            None with `center=False`.
        y : array-like of shape (n_images,), default=None
            Labels, for `part_weights="learned"`; ignored otherwise.

        Returns
        -------
        PSPNetFeaturizer
            The fitted estimator.
        """
        _, described = self._fit(X, y)
        if described is not None:
            warn_of_failures(described.failures, _UNREADABLE)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Learn the centre and describe the same images, reading each of them once.

        Parameters
        ----------
        X : collection of images
            As in `fit`.
        y : array-like of shape (n_images,), default=None
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images, n_features_out_), float32
            Descriptors.
        """
        rows, failures = self.fit_describe(X, y, on_error=None)
        warn_of_failures(failures, _UNREADABLE)
        return rows

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_describe(self, X: Any, y: Any = None, *, on_error: str | None = "nan") -> Descriptions:
        """Learn the centre and describe the same images, with the failures as a value.

        Parameters
        ----------
        X : collection of images
            As in `fit`.
        y : array-like of shape (n_images,), default=None
            As in `fit`.
        on_error : {"nan", "raise"} or None, default="nan"
            As for `describe`.

        Returns
        -------
        Descriptions
            As from `describe`.
        """
        model, described = self._fit(X, y, on_error, describe=True)
        return Descriptions(model.centred(described.rows), described.failures)

    def transform(self, X: Any) -> np.ndarray:
        """Describe images.

        Parameters
        ----------
        X : collection of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images, n_features_out_), float32
            Descriptors; rows of NaN for unreadable images with `on_error="nan"`.
        """
        rows, failures = self.describe(X, on_error=None)
        warn_of_failures(failures, _UNREADABLE)
        return rows

    def describe(self, X: Any, *, on_error: str | None = "nan") -> Descriptions:
        """Describe images, and say of which that was not possible; any number of threads may ask at once.

        Parameters
        ----------
        X : collection of images
            As in `fit`.
        on_error : {"nan", "raise"} or None, default="nan"
            What an image does that cannot be read: a row of NaN and a failure, or an `ImageReadError`. None: as the
            parameter `on_error` says.

        Returns
        -------
        Descriptions
            `rows`, as from `transform`, and `failures`, a DataFrame with the columns `index` (position in X), `source`
            and `reason`. No warning is issued.
        """
        check_is_fitted(self)
        return model_of(self).describe(self._images(X), on_error=on_error)

    def transform_parts(self, X: Any) -> np.ndarray:
        """Describe the parts of images.

        Parameters
        ----------
        X : collection of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images, n_parts_, n_channels), float32
            The local features f_i, in the order of `parts_`; of unit length with `normalize=True`, neither weighted nor
            centred. With a `projection` they are projected, and n_components long.
        """
        check_is_fitted(self)
        model = model_of(self)
        rows, failures = model.extract(self._images(X), model.projected_features)
        warn_of_failures(failures, _UNREADABLE)
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns of the descriptors.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Ignored; scikit-learn's convention.

        Returns
        -------
        ndarray of shape (n_features_out_,), object
            `psp0`, `psp1`, ... for a sum; `psp_level0_row0_column0_channel0`, ... for a concatenation, with `component`
            for `channel` where there is a `projection`.
        """
        check_is_fitted(self)
        if self.aggregation == "sum":
            names = [f"psp{i}" for i in range(self.n_features_out_)]
        else:
            element = "channel" if self.projection is None else "component"
            names = [
                f"psp_level{part.level}_row{part.row}_column{part.column}_{element}{i}"
                for part in self.parts_.itertuples()
                for i in range(self.n_features_out_ // self.n_parts_)
            ]
        return np.asarray(names, dtype=object)

    def _fit(self, X: Any, y: Any, on_error: str | None = None, *, describe: bool = False) -> tuple[FeatureModel, Any]:
        """Make a model first, then replace all that an earlier fit left, in one step.

        Also returned is X, described, normalised and not centred; None where it did not have to be described.
        """
        from sklearn_psp._featurizer._feature_model import fit_model, hold_backbone

        params = self.get_params(deep=False)
        noting = type(self)(**params)  # is told by scikit-learn of the columns of X
        if X is not None:
            X = check_rows(noting, X, reset=True)
        elif self.center:
            raise ValueError("X=None: center=True learns the mean of the training images; pass them, or center=False")
        hold_backbone(self)
        model, described = fit_model(params, X, y, on_error=on_error, describe=describe)
        fitted = columns_of(noting) | model.attributes()
        if described is not None and (on_error or self.on_error) == "nan":
            fitted["errors_"] = described.failures
        replace_fit(self, fitted)
        return model, described

    def _images(self, X: Any) -> Any:
        """Understand X; rows of numbers are validated as scikit-learn does."""
        from sklearn_psp._images import as_images

        if self.image_shape is not None:
            X = check_rows(self, X, reset=False)
        return as_images(X, image_shape=self.image_shape)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.update(adapted_state(self.__dict__))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.target_tags.required = isinstance(self.part_weights, str) and self.part_weights == "learned"
        return tags


def model_of(featurizer: PSPNetFeaturizer) -> FeatureModel:
    """Return what a fitted featurizer describes images with: backbone, plan, parts, weights and centre."""
    from sklearn_psp._featurizer._feature_model import fitted_model

    return fitted_model(featurizer)
