"""PSPNetClassifier: images in, labels out; a head on parts, or the whole network trained."""

from __future__ import annotations

import os
import warnings
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._classifier._featurizers import trained_featurizer
from sklearn_psp._featurizer import PackedStateMixin, PSPNetFeaturizer
from sklearn_psp.exceptions import ImageReadError, ImageReadWarning
from sklearn_psp.utils._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _fit_context,
    with_callbacks,
)
from sklearn_psp.utils._optional import import_optional_dependency
from sklearn_psp.utils._tables import check_rows

__all__ = ["PSPNetClassifier"]

_FEATURIZER = PSPNetFeaturizer._parameter_constraints
# benchmarks/learning.py: what the head, and the network from its weights, are trained with unless told otherwise.
_AUTO_EPOCHS = {"head": 30, "last_stage": 10, "all": 10}
_AUTO_LEARNING_RATE = {"head": 1e-3, "last_stage": 3e-4, "all": 3e-4}
_AUTO_PATIENCE = 5


class PSPNetClassifier(PackedStateMixin, CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""Classify images by their parts: PSPNet with a linear head, trained on labels.

    A network turns an image into feature maps, these are cut and pooled into an ordered sequence of parts, and the
    parts are joined into one global feature F(x), as by `PSPNetFeaturizer`; a linear layer gives each class a score
    :math:`z = W F(x) + b`, and the softmax of the scores are probabilities. `train` says what is learned: the head
    alone, on features for which the frozen network runs once; or the last stage of the network, or all of it, end to
    end, with images read anew in every epoch.

    Parameters
    ----------
    backbone, weights, output_stride, image_size, resize : object
        The network and what it sees: as of `PSPNetFeaturizer`.
    scales, flip : object
        As of `PSPNetFeaturizer`; but `scales="auto"` is (1.0,) where the network is trained.
    bin_sizes, part_order, pooling, gem_power, part_weights, aggregation : object
        The parts: as of `PSPNetFeaturizer`. `part_weights="learned"` are trained with the head.
    reduce_dim : int or None, default=None
        Channels to which the local features of each level are brought by a matrix of its own, PSPNet's 1x1
        convolutions, trained with the head. None leaves them.
    dropout : float in [0, 1), default=0.0
        Share of the elements of F(x) that are left out in training, at random.
    part_dropout : float in [0, 1), default=0.8
        Share of the parts that are left out in training, at random for each image: the head learns to do without any
        one of them. With 0, without `reduce_dim` and learned weights, training keeps 5 kB an image instead of 36.
    train : {"head", "last_stage", "all"}, default="head"
        What is trained. "last_stage" are the layers after the last one that makes the maps coarser; of a network
        without such stages the last quarter.
    augment : "auto", bool or callable, default="auto"
        How images are changed when the network is trained: a random part of at least half of the image, mirrored
        every second time; or a function of an image, a uint8 tensor (3, height, width), such as torchvision's
        transforms. "auto" is True where the network is trained. The head alone sees images as they are.
    optimizer : str or subclass of torch.optim.Optimizer, default="adam"
        "adam", "adamw", "nadam", "radam", "adagrad", "rmsprop", "sgd", or a class.
    optimizer_params : dict or None, default=None
        More parameters of the optimizer, e.g. `{"weight_decay": 0.01}`.
    learning_rate : float or "auto", default="auto"
        "auto" is 1e-3 for the head and 3e-4 for the network.
    schedule : {"cosine", "constant"}, default="cosine"
        How the learning rate goes on: down to 0 along half a cosine, or as it is.
    loss : str, class or instance of torch.nn.Module, default="categorical_crossentropy"
        "categorical_crossentropy", "label_smoothing" (the same with 10 % of the label shared by all classes), "arcface"
        (additive angular margin), "focal"; or a loss of torch's or your own.
    loss_params : dict or None, default=None
        Parameters of the loss, e.g. `{"margin": 0.5, "scale": 64.0}` of "arcface".
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as scikit-learn's.
    metrics : sequence of str or callable, default=("accuracy",)
        Columns of `history_`: "accuracy", "balanced_accuracy", "f1_macro", "top_5_accuracy", or functions
        `metric(y_true, y_pred)`.
    epochs : int or "auto", default="auto"
        How often all images are gone through. "auto" is 30 for the head, 10 for the network.
    batch_size : int, default=32
        Images per step.
    clip_norm : float or None, default=None
        Longest gradient; longer ones are shortened.
    validation_fraction : float in (0, 1) or None, default=None
        Share of the training images, of each class, by which the model is judged and not trained, unless `fit` is
        given `validation_data`.
    early_stopping : bool or int, default=False
        Stop when the validation loss has not become less for so many epochs; True is 5. An error without validation
        data; with them the model of the best epoch is kept in any case.
    checkpoint : str, path-like or None, default=None
        File in which the run is kept after every epoch. A `fit` with the same parameters, images, labels and weights
        goes on from there after a kill, and gives the same result as if nothing had happened.
    warm_start : bool, default=False
        Let `fit` go on from the last model, for `epochs` more; a network may be trained after its head. The parts must
        stay as they are.
    callbacks : sequence of skorch.callbacks.Callback or None, default=None
        Told what happens in training; copied by each fit. For those of scikit-learn there is `set_callbacks`.
    image_shape, on_error : object
        As of `PSPNetFeaturizer`. With `on_error="nan"` images that cannot be read are left out in training, and have
        probabilities of NaN.
    device : str or torch.device, default="auto"
        Where the network runs and is trained.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        What the network computes in; training on a CPU is in float32 unless another is asked for.
    runtime, n_jobs, cache, cache_size : object
        As of `PSPNetFeaturizer`; for the network as it is before and after training.
    random_state : int, RandomState instance or None, default=None
        Decides order, dropout, augmentation and the head's start. The same seed gives the same history, to the bit, on
        the same CPU with the same number of threads; pass `precision` too where fits in different processes are to
        agree, for "auto" is decided by measuring.
    verbose : int, default=0
        Above 0, show a bar with the figures of the last epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    history_ : pandas.DataFrame
        A row per epoch: `epoch`, `loss`, the metrics, the same of the validation data as `val_loss`, ..., and
        `learning_rate`. Losses and metrics of the training images are of the model as it was at each step.
    best_epoch_ : int or None
        The epoch whose model was kept, the one of the least validation loss; None without validation data.
    featurizer_ : PSPNetFeaturizer
        The trained network with its parts, fitted: for `NearestImageRetriever` and all else.
    coef_ : ndarray of shape (n_classes, n_features), float32
        The head's W, on `featurizer_.transform`.
    intercept_ : ndarray of shape (n_classes,), float32
        The head's b.
    errors_ : pandas.DataFrame
        Images that could not be read by `fit`: `index`, `source`, `reason`. Only with `on_error="nan"`.
    n_features_in_ : int
        Columns of X. Only defined when X is 2-D.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Columns of X. Only defined when X is 2-D with string columns.

    See Also
    --------
    PSPNetFeaturizer : The features, for scikit-learn's own classifiers in a Pipeline.

    Notes
    -----
    Where the network is trained, it starts with a head that was trained on its features as they are, and batch
    normalisation keeps its statistics, but for random weights. The optimizer's state is not pickled: `partial_fit` and
    `warm_start` after unpickling begin with a new one.

    References
    ----------
    Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, for pyramid, 1x1 convolutions and dropout; Deng et al.,
    "ArcFace", CVPR 2019; Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7, for label
    smoothing; Kumar et al., ICLR 2022, for training the head first; Loshchilov and Hutter, "SGDR", ICLR 2017, for the
    cosine.

    Examples
    --------
    >>> from sklearn_psp import PSPNetClassifier
    >>> from sklearn_psp.datasets import load_photographs
    >>> photographs = load_photographs()
    >>> model = PSPNetClassifier(epochs=10, random_state=0)
    >>> model = model.fit(photographs.filenames, photographs.target)
    >>> model.score(photographs.filenames, photographs.target)
    1.0
    """

    _parameter_constraints = {
        **{name: _FEATURIZER[name] for name in ("backbone", "weights", "output_stride", "image_size", "resize")},
        **{name: _FEATURIZER[name] for name in ("scales", "flip", "bin_sizes", "part_order", "pooling", "gem_power")},
        **{name: _FEATURIZER[name] for name in ("part_weights", "aggregation")},
        "reduce_dim": [Interval(Integral, 1, None, closed="left"), None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "part_dropout": [Interval(Real, 0, 1, closed="left")],
        "train": [StrOptions({"head", "last_stage", "all"})],
        "augment": [StrOptions({"auto"}), "boolean", callable],
        "optimizer": [str, type],
        "optimizer_params": [dict, None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "schedule": [StrOptions({"cosine", "constant"})],
        "loss": [str, type, callable],
        "loss_params": [dict, None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "metrics": [tuple, list],
        "epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "early_stopping": ["boolean", Interval(Integral, 1, None, closed="left")],
        "checkpoint": [str, os.PathLike, None],
        "warm_start": ["boolean"],
        "callbacks": [tuple, list, None],
        **{name: _FEATURIZER[name] for name in ("image_shape", "on_error", "device", "precision", "runtime")},
        **{name: _FEATURIZER[name] for name in ("n_jobs", "cache", "cache_size", "random_state", "verbose")},
    }

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
        part_weights="uniform",
        aggregation="sum",
        reduce_dim=None,
        dropout=0.0,
        part_dropout=0.8,
        train="head",
        augment="auto",
        optimizer="adam",
        optimizer_params=None,
        learning_rate="auto",
        schedule="cosine",
        loss="categorical_crossentropy",
        loss_params=None,
        class_weight=None,
        metrics=("accuracy",),
        epochs="auto",
        batch_size=32,
        clip_norm=None,
        validation_fraction=None,
        early_stopping=False,
        checkpoint=None,
        warm_start=False,
        callbacks=None,
        image_shape=None,
        on_error="raise",
        device="auto",
        precision="auto",
        runtime="auto",
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
        self.part_weights = part_weights
        self.aggregation = aggregation
        self.reduce_dim = reduce_dim
        self.dropout = dropout
        self.part_dropout = part_dropout
        self.train = train
        self.augment = augment
        self.optimizer = optimizer
        self.optimizer_params = optimizer_params
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.loss = loss
        self.loss_params = loss_params
        self.class_weight = class_weight
        self.metrics = metrics
        self.epochs = epochs
        self.batch_size = batch_size
        self.clip_norm = clip_norm
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.image_shape = image_shape
        self.on_error = on_error
        self.device = device
        self.precision = precision
        self.runtime = runtime
        self.n_jobs = n_jobs
        self.cache = cache
        self.cache_size = cache_size
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, validation_data=None):
        """Train.

        Parameters
        ----------
        X : collection of images, or iterable of (images, labels) batches
            What `PSPNetFeaturizer.fit` takes; or, without y, a `DataLoader`, `tf.data.Dataset`, `keras.utils.PyDataset`
            or list of (images, labels) batches, which is gone through in every epoch where the network is trained.
        y : array-like of shape (n_images,)
            Labels, of any type.
        sample_weight : array-like of shape (n_images,), default=None
            How much each image counts. Images of weight 0 do not.
        validation_data : tuple (X, y), or iterable of (images, labels) batches, default=None
            By what the model is judged after every epoch.

        Returns
        -------
        PSPNetClassifier
            The fitted estimator.
        """
        _need_skorch()
        from sklearn_psp._classifier._fit import fit
        from sklearn_psp._classifier._hooks import FitHooks
        from sklearn_psp._classifier._labelled import labelled

        hooks = FitHooks(self, X, y, sample_weight)
        data = labelled(self._check_rows(X, reset=True), y, sample_weight, image_shape=self.image_shape)
        if isinstance(validation_data, tuple) and len(validation_data) == 2:
            validation_data = self._check_rows(validation_data[0], reset=False), validation_data[1]
        fit(self, data, validation_data, hooks.on_epoch)
        hooks.end()
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, classes=None, sample_weight=None):
        """Train for one more epoch, on these images, at a learning rate that stays.

        Parameters
        ----------
        X : collection of images, or iterable of (images, labels) batches
            As in `fit`.
        y : array-like of shape (n_images,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels there will ever be. Needed by the first call only.
        sample_weight : array-like of shape (n_images,), default=None
            As in `fit`.

        Returns
        -------
        PSPNetClassifier
            The estimator. The centre of the features, and projections to start from, are those of the first call.
        """
        _need_skorch()
        from sklearn_psp._classifier._fit import partial_fit
        from sklearn_psp._classifier._labelled import labelled

        X = self._check_rows(X, reset=not hasattr(self, "classes_"))
        partial_fit(self, labelled(X, y, sample_weight, image_shape=self.image_shape), classes)
        return self

    def decision_function(self, X):
        """Give each class a score.

        Parameters
        ----------
        X : collection of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes) or (n_images,), float32
            Scores; of two classes that of the second less that of the first. NaN for unreadable images with
            `on_error="nan"`.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X):
        """Give each class a probability, the softmax of the scores.

        Parameters
        ----------
        X : collection of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), float64
            Rows of sum 1, in the order of `classes_`; of NaN for unreadable images with `on_error="nan"`.
        """
        return softmax(self._scores(X).astype(np.float64), axis=1)

    def predict_log_proba(self, X):
        """Give each class the logarithm of its probability.

        Parameters
        ----------
        X : collection of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), float64
            Logarithms.
        """
        return log_softmax(self._scores(X).astype(np.float64), axis=1)

    def predict(self, X):
        """Say which class each image is of.

        Parameters
        ----------
        X : collection of images
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images,)
            Labels.

        Raises
        ------
        ImageReadError
            If an image cannot be read: there is no label for that, but `predict_proba` gives NaN with
            `on_error="nan"`.
        """
        scores = self._scores(X)
        unread = np.flatnonzero(np.isnan(scores[:, 0]))
        if len(unread):
            raise ImageReadError(
                f"{len(unread)} images could not be read, the first is X[{unread[0]}]: no label says so; "
                "predict_proba gives them rows of NaN"
            )
        return self.classes_[scores.argmax(axis=1)]

    def _scores(self, X):
        check_is_fitted(self)
        features = self.featurizer_.transform(self._check_rows(X, reset=False))
        return features @ self.coef_.T + self.intercept_

    def _check_rows(self, X, *, reset):
        """Validate X as scikit-learn does where it is 2-D; images are validated as they are read."""
        if reset:
            for attribute in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(attribute, None)
        return check_rows(self, X, reset=reset)

    def _learns_weights(self):
        return isinstance(self.part_weights, str) and self.part_weights == "learned"

    def _needs_parts(self):
        """Whether something between local features and the global one is trained."""
        return bool(self.train != "head" or self.part_dropout or self.reduce_dim or self._learns_weights())

    def _is_cosine(self):
        from sklearn_psp._training import is_margin_loss

        return is_margin_loss(self.loss)

    def _take_model(self, frozen, training):
        """Take what was trained."""
        from sklearn_psp._classifier._identity import parameters_of

        self.coef_, self.intercept_ = training.linear_head()
        self.featurizer_ = trained_featurizer(self, frozen, training.model)
        self.history_ = pd.DataFrame(training.history)
        self.best_epoch_ = training.best_epoch
        self._training = parameters_of(self), training

    def _report(self, failures):
        """Keep and warn of the images that could not be read."""
        self.__dict__.pop("errors_", None)
        if self.on_error == "raise":
            return
        from sklearn_psp.utils._descriptions import failures_frame

        self.errors_ = failures_frame(failures)
        if failures:
            self._warn_of(failures, "images")

    def _warn_of(self, failures, what):
        from sklearn_psp.utils._descriptions import failures_frame

        first = failures[0]
        warnings.warn(
            ImageReadWarning(
                f"{len(failures)} {what} could not be read and are left out; the first is X[{first.index}] "
                f"({first.source}): {first.reason}",
                failures_frame(failures),
            ),
            stacklevel=5,
        )

    def _seed(self):
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _n_epochs(self):
        return _AUTO_EPOCHS[self.train] if self.epochs == "auto" else int(self.epochs)

    def _rate(self):
        return _AUTO_LEARNING_RATE[self.train] if self.learning_rate == "auto" else float(self.learning_rate)

    def _patience(self):
        if isinstance(self.early_stopping, bool | np.bool_):
            return _AUTO_PATIENCE if self.early_stopping else None
        return int(self.early_stopping)

    def __getstate__(self):
        # The loop itself is neither pickled nor saved.
        return {name: value for name, value in super().__getstate__().items() if name != "_training"}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        return tags


def _need_skorch():
    import_optional_dependency("skorch", extra="train", purpose="training")
