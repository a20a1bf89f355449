"""PSPNetClassifier: images in, labels out; a linear head on parts, or the whole network, trained."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._featurizer import PackedStateMixin, PSPNetFeaturizer
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _fit_context,
    with_callbacks,
)
from sklearn_psp.utils._descriptions import Descriptions, warn_of_failures
from sklearn_psp.utils._libraries import import_optional_dependency
from sklearn_psp.utils._validation import check_rows

__all__ = ["PSPNetClassifier"]

# Parameters of the featurizer that a classifier decides itself.
_ITS_OWN = {"batch_size", "center", "compile", "normalize", "projection"}
_LEFT_OUT = "could not be read and are left out"
# Fitted attributes that not every fit sets.
_OPTIONAL = ("errors_", "feature_names_in_", "n_features_in_")


class PSPNetClassifier(PackedStateMixin, CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    r"""Classify images by their parts: PSPNet with a linear head, trained on labels.

    A network turns an image into feature maps, these are cut and pooled into an ordered sequence of parts, and the
    parts are aggregated to one global feature F(x), as by `PSPNetFeaturizer`; a linear layer gives each class a score
    :math:`z = W F(x) + b`, and the softmax of the scores gives probabilities. With `train="head"` the head alone is
    trained, on features for which the frozen network runs once; otherwise the last stage of the network, or all of it,
    end to end, with images read anew in every epoch.

    Parameters
    ----------
    backbone, weights, output_stride, image_size, resize : object
        The network and the images it is given: as of `PSPNetFeaturizer`.
    scales, flip : object
        As of `PSPNetFeaturizer`, except that `scales="auto"` is (1.0,) where the network is trained.
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
        The layers that are trained. "last_stage" are those after the last one that makes the feature maps coarser; of
        a network without such stages the last quarter.
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
        The learning rate falls to 0 along half a cosine, or stays.
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
        Passes over all images. "auto" is 30 for the head, 10 for the network.
    batch_size : int, default=32
        Images per step.
    clip_norm : float or None, default=None
        Greatest norm of the gradients, over all weights; longer ones are scaled down to it.
    validation_fraction : float in (0, 1) or None, default=None
        Share of the training images, of each class, that the model is judged by and not trained on, unless `fit` is
        given `validation_data`.
    early_stopping : bool or int, default=False
        Stop when the validation loss has not fallen for so many epochs; True is 5. An error without validation data;
        with them the model of the best epoch is kept in any case.
    checkpoint : str, path-like or None, default=None
        File in which the run is kept after every epoch. After a kill, a `fit` with the same parameters, images, labels
        and weights resumes it, and gives the same result to the bit. Functions, losses and callbacks are compared by
        their content, images in files by their path, and callbacks start anew; another run is a `CheckpointError`.
    warm_start : bool, default=False
        Let `fit` continue from the last model, for `epochs` more; a network may be trained after its head. Parameters
        that make the features must stay.
    callbacks : sequence of skorch.callbacks.Callback or None, default=None
        Callbacks of the training; each call of `fit` or `partial_fit` copies them. scikit-learn's own are given to
        `set_callbacks`.
    image_shape, on_error : object
        As of `PSPNetFeaturizer`. With `on_error="nan"` images that cannot be read are left out in training, and have
        probabilities of NaN.
    device : str or torch.device, default="auto"
        Device on which the network runs and is trained.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the network; "auto" is float32 for training on a CPU.
    runtime, n_jobs, cache, cache_size : object
        As of `PSPNetFeaturizer`, for the network before and after training.
    random_state : int, RandomState instance or None, default=None
        Seed of order, dropout, augmentation and the head's start. The same seed gives the same history, to the bit, on
        the same CPU with the same number of threads; pass `precision` too where fits in different processes must
        agree, because "auto" is decided by measuring.
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
        The epoch of least validation loss, whose model was kept; None without validation data.
    featurizer_ : PSPNetFeaturizer
        The trained network with its parts, fitted, for example for `NearestImageRetriever`.
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
    normalisation keeps its statistics, except with random weights. The optimizer's state is not pickled: `partial_fit`
    and `warm_start` after unpickling begin with a new one. A fit that fails or is interrupted changes nothing.

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
        **{name: rule for name, rule in PSPNetFeaturizer._parameter_constraints.items() if name not in _ITS_OWN},
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
    def fit(
        self,
        X: Any,
        y: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
        validation_data: Any = None,
    ) -> PSPNetClassifier:
        """Train.

        Parameters
        ----------
        X : collection of images, or iterable of (images, labels) batches
            What `PSPNetFeaturizer.fit` takes; or, without y, a `DataLoader`, `tf.data.Dataset`, `keras.utils.PyDataset`
            or list of (images, labels) batches, which is iterated in every epoch where the network is trained.
        y : array-like of shape (n_images,)
            Labels, of any type.
        sample_weight : array-like of shape (n_images,), default=None
            Weight of each image in the loss. Images of weight 0 are left out.
        validation_data : tuple (X, y), or iterable of (images, labels) batches, default=None
            Images that the model is judged by after every epoch.

        Returns
        -------
        PSPNetClassifier
            The fitted estimator.
        """
        import_optional_dependency("skorch", extra="train", purpose="training")
        from sklearn_psp._classifier._fitting import EpochHooks, Fitting
        from sklearn_psp._classifier._labelled import labelled, labelled_validation
        from sklearn_psp._classifier._settings import ClassifierSettings, FittedModel

        settings = ClassifierSettings.of(self.get_params(deep=False))
        previous = FittedModel.of(self.__dict__) if self.warm_start else None
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        given = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        hooks = EpochHooks(self._init_callback_context(max_subtasks=settings.epochs), given)
        X, attributes = self._checked_rows(X)
        data, validation = labelled(X, y, sample_weight, image_shape=self.image_shape), None
        if validation_data is not None:
            if isinstance(validation_data, tuple) and len(validation_data) == 2:
                validation_data = self._checked_rows(validation_data[0], attributes)[0], validation_data[1]
            validation = labelled_validation(validation_data, image_shape=self.image_shape)
        settings.check()
        settings.check_validation(data, validation)
        fitting = Fitting(settings, data, validation, previous)
        fitting.describe()
        warn_of_failures(fitting.failures, f"images {_LEFT_OUT}")
        warn_of_failures(fitting.validation_failures, f"images of the validation data {_LEFT_OUT}")
        if self.on_error == "nan":
            attributes["errors_"] = fitting.failures
        attributes |= fitting.fit(hooks, attributes).attributes()
        hooks.end(attributes)
        return self._take(attributes)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> PSPNetClassifier:
        """Train for one more epoch, on these images, at a constant learning rate.

        Parameters
        ----------
        X : collection of images, or iterable of (images, labels) batches
            As in `fit`.
        y : array-like of shape (n_images,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels of this and later calls. Needed by the first call only.
        sample_weight : array-like of shape (n_images,), default=None
            As in `fit`.

        Returns
        -------
        PSPNetClassifier
            The estimator. The centre of the features, and projections to start from, are those of the first call.
        """
        import_optional_dependency("skorch", extra="train", purpose="training")
        from sklearn_psp._classifier._fitting import Fitting
        from sklearn_psp._classifier._labelled import labelled
        from sklearn_psp._classifier._settings import ClassifierSettings, FittedModel

        settings, previous = ClassifierSettings.of(self.get_params(deep=False)), FittedModel.of(self.__dict__)
        X, attributes = self._checked_rows(X, None if previous is None else self.__dict__)
        attributes.pop("errors_", None)
        data = labelled(X, y, sample_weight, image_shape=self.image_shape)
        settings.check()
        fitting = Fitting(settings.for_one_epoch(), data, previous=previous)
        fitting.describe()
        warn_of_failures(fitting.failures, f"images {_LEFT_OUT}")
        if self.on_error == "nan":
            attributes["errors_"] = fitting.failures
        return self._take(attributes | fitting.partial_fit(classes).attributes())

    def decision_function(self, X: Any) -> np.ndarray:
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
        scores = self._warned_scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
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
        return softmax(self._warned_scores(X).astype(np.float64), axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
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
        return log_softmax(self._warned_scores(X).astype(np.float64), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each image.

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
        scores, failures = self._scores(X)
        if not failures.empty:
            raise ImageReadError(
                f"{len(failures)} images could not be read, the first is X[{failures['index'].iloc[0]}]: no label says "
                "so; predict_proba gives them rows of NaN",
                failures,
            )
        return self.classes_[scores.argmax(axis=1)]

    def _scores(self, X: Any) -> Descriptions:
        check_is_fitted(self)
        rows, failures = self.featurizer_.describe(self._checked_rows(X, self.__dict__)[0], on_error=None)
        return Descriptions(rows @ self.coef_.T + self.intercept_, failures)

    def _warned_scores(self, X: Any) -> np.ndarray:
        scores, failures = self._scores(X)
        warn_of_failures(failures, "images could not be read and are rows of NaN")
        return scores

    def _checked_rows(self, X: Any, known: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Validate a table as scikit-learn does, against known columns; return it with the columns that it has."""
        # scikit-learn notes the columns on a stand-in: a fit that fails must not leave them.
        stand_in = object.__new__(type(self))
        stand_in.__dict__ |= {name: item for name, item in vars(self).items() if name not in _OPTIONAL} | (known or {})
        X = check_rows(stand_in, X, reset=known is None)
        return X, {name: vars(stand_in)[name] for name in _OPTIONAL if name in vars(stand_in)}

    def _take(self, attributes: dict[str, Any]) -> PSPNetClassifier:
        """Become fitted, in one step."""
        self.__dict__ = {name: item for name, item in vars(self).items() if name not in _OPTIONAL} | attributes
        return self

    def __getstate__(self):
        # The loop itself is neither pickled nor saved.
        return {name: value for name, value in super().__getstate__().items() if name != "_training"}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        return tags
