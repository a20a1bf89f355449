"""FaceVerifier: do two images show the same person?"""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._persistence import PackedValuesMixin
from sklearn_psp.exceptions import FaceError, FaceWarning, ImageInputError, ImageReadError
from sklearn_psp.faces._compared_pairs import compare_pairs, refused_pairs, two_images_error
from sklearn_psp.faces._describing import FEATURIZERS, new_featurizer
from sklearn_psp.faces._scores import METRICS, Calibration, as_score, fit_pair_threshold
from sklearn_psp.utils._compat import HasMethods, Interval, StrOptions, _check_sample_weight, _fit_context
from sklearn_psp.utils._flags import as_flags, check_target
from sklearn_psp.utils._pairs import as_pairs
from sklearn_psp.utils._warnings import warn_user

__all__ = ["FaceVerifier", "Verification"]

# Attributes that not every fit leaves; those of the last one go.
_SOMETIMES = frozenset({"featurizer_", "n_features_in_", "errors_"})
_NOT_FITTED = (
    "This %(name)s is not fitted: its threshold comes from pairs of which it is known whether they show the same "
    "person, and none is invented. Call fit(pairs, y), or load one that was saved"
)


class Verification(NamedTuple):
    """Verdict of `FaceVerifier.verify` on two images.

    Parameters
    ----------
    same : bool
        Whether it is the same person.
    score : float
        How alike they are, in the verifier's metric.
    threshold : float
        The score from which on it is the same person.
    probability : float
        Probability that it is the same person, if as many pairs are genuine as were in `fit`.
    """

    same: bool
    score: float
    threshold: float
    probability: float


class FaceVerifier(PackedValuesMixin, ClassifierMixin, BaseEstimator):
    """Tell whether two images show the same person, by a threshold that was learned from labelled pairs.

    The images of a pair are described, compared, and accepted if their score is at or above `threshold_`. What the
    threshold is to reach is `target`; what it reaches on the pairs of `fit`, and how far it may be off, are attributes.

    Parameters
    ----------
    featurizer : "dlib_face", transformer or None, default="dlib_face"
        Turns images into descriptors. `"dlib_face"` stands for `make_face_featurizer()`: faces found and aligned by
        dlib, and described by its network (extra `faces`). Give an estimator to set and tune its parameters, such as
        `featurizer__psp__bin_sizes`. It is cloned and fitted; who is whom it is told by the genuine pairs. None: the
        pairs hold descriptors.
    target : {"accuracy", "eer"} or tuple ("far", rate), default="accuracy"
        What the threshold is to reach on the pairs of `fit`: the most right decisions, equal rates of both errors, or
        at most this rate of false acceptances, such as `("far", 0.001)`. See `sklearn_psp.metrics.threshold_at`.
    metric : {"cosine", "euclidean"}, default="cosine"
        Cosine similarity, or Euclidean distance with a minus sign. On descriptors of unit length both decide alike.
    confidence : float in (0, 1), default=0.95
        How sure the intervals are.
    on_error : {"raise", "nan"}, default="raise"
        What happens to a pair of which an image cannot be read or has no face: an error that names it, or NaN and one
        `FaceWarning` for all of them. `fit` and `score` leave such pairs out then; `predict` has no label for them, and
        raises. It decides for every step of ours in `featurizer` as well, whatever their own `on_error` says; a
        transformer of another package does as it does.
    random_state : int, RandomState instance or None, default=None
        Seed of `threshold_interval_`. Nothing else is random.

    Attributes
    ----------
    threshold_ : float
        A pair is accepted if its score is at or above it; in the metric's units.
    threshold_interval_ : tuple of two floats
        Confidence interval of the threshold, by a bootstrap over the images; see
        `sklearn_psp.metrics.threshold_interval`.
    far_, frr_ : float
        False acceptance and false rejection rate on the pairs of `fit`. On others they will be worse.
    far_interval_, frr_interval_ : tuple of two floats
        Their confidence intervals, which take pairs for independent; see `sklearn_psp.metrics.rate_interval`.
    eer_ : float
        Equal error rate on the pairs of `fit`.
    n_genuine_, n_impostor_ : int
        Pairs that the threshold was learned from.
    classes_ : ndarray of shape (2,)
        The labels of `fit`: of two people, and of the same person.
    featurizer_ : transformer
        The fitted featurizer. Only if there is one.
    n_features_in_ : int
        Length of the descriptors. Only with `featurizer=None`.
    errors_ : pandas.DataFrame
        Images of `fit` that left a pair out: `index` (position of the pair), `side`, `source`, `reason`. Only with
        `on_error="nan"`.

    See Also
    --------
    FaceIdentifier : Tells who it is, among many people.
    sklearn_psp.displays.VerificationDisplay : Draws the error rates.
    sklearn_psp.metrics.lfw_accuracy : The protocol of Labeled Faces in the Wild.

    Notes
    -----
    A featurizer that learns, such as `part_weights="learned"`, learns from the same pairs as the threshold, which then
    comes out too favourable; fit it on other people and pass it in a `sklearn.frozen.FrozenEstimator`.

    References
    ----------
    Platt, "Probabilistic Outputs for Support Vector Machines", 1999, for the probability.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp import FaceVerifier
    >>> rng = np.random.default_rng(0)
    >>> people = rng.normal(size=(20, 16))
    >>> def photographs():
    ...     return people + 0.3 * rng.normal(size=people.shape)
    >>> genuine = np.stack([photographs(), photographs()], axis=1)
    >>> impostor = np.stack([photographs(), np.roll(photographs(), 1, axis=0)], axis=1)
    >>> verifier = FaceVerifier(featurizer=None, random_state=0)
    >>> verifier = verifier.fit(np.r_[genuine, impostor], np.repeat([True, False], 20))
    >>> verifier.predict(genuine[:3]).tolist(), verifier.predict(impostor[:3]).tolist()
    ([True, True, True], [False, False, False])
    >>> verifier.verify(genuine[0, 0], genuine[0, 1]).same
    True
    """

    _parameter_constraints = {
        "featurizer": [StrOptions(set(FEATURIZERS)), HasMethods(["fit", "transform"]), None],
        "target": "no_validation",  # `check_target` says more
        "metric": [StrOptions(set(METRICS))],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
        "on_error": [StrOptions({"raise", "nan"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        featurizer: Any = "dlib_face",
        *,
        target: Any = "accuracy",
        metric: str = "cosine",
        confidence: float = 0.95,
        on_error: str = "raise",
        random_state: Any = None,
    ):
        self.featurizer = featurizer
        self.target = target
        self.metric = metric
        self.confidence = confidence
        self.on_error = on_error
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)  # featurizer is an estimator with parameters of its own
    def fit(self, pairs: Any, y: npt.ArrayLike) -> FaceVerifier:
        """Learn the threshold, and what a score says of the person.

        Parameters
        ----------
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            Pairs of images: paths, bytes, PIL images or arrays; with `featurizer=None` of descriptors, of shape
            (n_pairs, 2, n_features). An image that is in several pairs is described once.
        y : array-like of shape (n_pairs,), bool or 0 and 1
            1 for a pair of the same person.

        Returns
        -------
        FaceVerifier
            The fitted estimator.

        Raises
        ------
        ImageInputError
            If they are no pairs.
        ImageReadError
            With `on_error="raise"`, if an image cannot be read; a `FaceError`, if it has no face.
        ValueError
            If y is not bool, or 0 and 1, or there are no pairs of one kind.

        Warns
        -----
        FewPairsWarning
            If there are too few impostor pairs for the target.
        FaceWarning
            With `on_error="nan"`, if pairs are left out.
        """
        check_target(self.target)
        given = as_pairs(pairs, descriptors=self.featurizer is None)
        same = _check_flags(y, given.n_pairs)
        featurizer = new_featurizer(self.featurizer, self.on_error)
        similarity, errors = compare_pairs(featurizer, given, metric=self.metric, on_error=self.on_error, same=same)
        self._report(given.n_pairs, errors)
        kept = ~np.isnan(similarity)
        _check_both_kinds(same[kept], len(errors))
        threshold = fit_pair_threshold(
            same[kept],
            similarity[kept],
            self.target,
            items=np.column_stack((given.first, given.second))[kept],
            metric=self.metric,
            confidence=self.confidence,
            random_state=self.random_state,
        )
        learned = {
            "threshold_": threshold.shown,
            "threshold_interval_": threshold.interval,
            "far_": threshold.far,
            "frr_": threshold.frr,
            "far_interval_": threshold.far_interval,
            "frr_interval_": threshold.frr_interval,
            "eer_": threshold.eer,
            "n_genuine_": threshold.n_genuine,
            "n_impostor_": threshold.n_impostor,
            "classes_": _classes_of(y),
            # Answers are given by what was fitted, whatever the parameters say by then.
            "_threshold": threshold.similarity,
            "_metric": self.metric,
            "_calibration": tuple(threshold.calibration),
        }
        learned |= {"n_features_in_": given.items.shape[1]} if featurizer is None else {"featurizer_": featurizer}
        if self.on_error == "nan":
            learned["errors_"] = errors
        # In one step, so that an error or Ctrl-C on the way here leaves the last fit as it was.
        self.__dict__ = {name: value for name, value in vars(self).items() if name not in _SOMETIMES} | learned
        return self

    def score_samples(self, pairs: Any) -> np.ndarray:
        """Say how alike the two of each pair are.

        Parameters
        ----------
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_pairs,), float64
            Cosine similarities, or distances with a minus sign; NaN for pairs that cannot be compared, with
            `on_error="nan"`.
        """
        return as_score(self._similarities(pairs)[0], self._metric)

    def decision_function(self, pairs: Any) -> np.ndarray:
        """Say how far the score of each pair is above the threshold.

        Parameters
        ----------
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_pairs,), float64
            The scores less `threshold_`: from 0 on it is the same person. NaN for pairs that cannot be compared, with
            `on_error="nan"`.
        """
        return self.score_samples(pairs) - self.threshold_

    def predict_proba(self, pairs: Any) -> np.ndarray:
        """Say how probable it is that each pair shows two people, and the same person.

        Parameters
        ----------
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_pairs, 2), float64
            Probabilities in the order of `classes_`, for a share of genuine pairs as in `fit`. They say nothing of the
            threshold: with the target "far" a pair may be rejected that is probably genuine. NaN for pairs that cannot
            be compared, with `on_error="nan"`.
        """
        probability = self._probabilities(self._similarities(pairs)[0])
        return np.column_stack((1 - probability, probability))

    def predict(self, pairs: Any) -> np.ndarray:
        """Say whether each pair shows the same person.

        Parameters
        ----------
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_pairs,)
            Labels, of `classes_`.

        Raises
        ------
        FaceError
            If a pair cannot be compared, with `on_error="nan"`: there is no label for that. `predict_proba` and
            `decision_function` give it NaN, and `verify` of two lists a missing value with the reason.
        """
        similarity, errors = self._similarities(pairs)
        if np.isnan(similarity).any():
            first = errors.iloc[0]
            raise FaceError(
                f"{int(np.isnan(similarity).sum()):,} pairs cannot be compared, the first is pairs[{first['index']}] "
                f"({first['source']}: {first['reason']}): no label says so; predict_proba gives them NaN",
                errors,
            )
        return self.classes_[(similarity >= self._threshold).astype(np.intp)]

    def score(self, pairs: Any, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """Share of the pairs that are decided rightly.

        Parameters
        ----------
        pairs : list of pairs, array of shape (n_pairs, 2, ...), or DataFrame with two columns
            As in `fit`.
        y : array-like of shape (n_pairs,), bool or 0 and 1
            1 for a pair of the same person.
        sample_weight : array-like of shape (n_pairs,), default=None
            Weights of the pairs.

        Returns
        -------
        score : float
            The accuracy. Pairs that cannot be compared are left out, with `on_error="nan"`.
        """
        similarity, _ = self._similarities(pairs)
        same = _check_flags(y, len(similarity))
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, same)
        kept = ~np.isnan(similarity)
        if not kept.any():
            raise FaceError("none of the pairs can be compared: there is nothing to score")
        weights = None if weights is None else weights[kept]
        return float(accuracy_score(same[kept], similarity[kept] >= self._threshold, sample_weight=weights))

    def verify(self, a: Any, b: Any) -> Verification | pd.DataFrame:
        """Compare two images, or two lists of images one by one.

        Parameters
        ----------
        a, b : image, or collection of images
            A path, bytes, a PIL image or an array each; or lists, columns or arrays of them, of one length. With
            `featurizer=None` descriptors, of shape (n_features,) or (n_pairs, n_features).

        Returns
        -------
        Verification or DataFrame
            For two images whether it is the `same` person, the `score`, the `threshold`, and the `probability`. For
            two lists a table with a row for each pair and these columns, and with `on_error="nan"` a `reason` where
            images cannot be compared, and `same` is missing.

        Raises
        ------
        ImageInputError
            If one is an image and the other a list, or their lengths differ.
        ImageReadError
            If one of two single images cannot be read, or has no face, whatever `on_error` says.
        """
        check_is_fitted(self, msg=_NOT_FITTED)
        a, b = (side.iloc[:, 0] if isinstance(side, pd.DataFrame) and side.shape[1] == 1 else side for side in (a, b))
        index = a.index if isinstance(a, pd.Series) else None
        single = [self._is_single(side) for side in (a, b)]
        if single[0] != single[1] or not (single[0] or len(a) == len(b)):
            what = "one image and a collection" if single[0] != single[1] else f"{len(a)} and {len(b)} images"
            raise ImageInputError(f"verify takes two images, or two collections of one length, got {what}")
        if single[0]:
            return self._verify_two(a, b)
        similarity, errors = self._similarities(list(zip(a, b, strict=True)))
        return self._table(similarity, errors, index)

    def _verify_two(self, a: Any, b: Any) -> Verification:
        try:
            similarity, errors = self._compared([(a, b)])
        except ImageReadError as error:
            if error.errors is None or "side" not in error.errors:
                raise
            raise two_images_error(type(error), error.errors, error.remedy) from error
        if len(errors):
            raise two_images_error(FaceError, errors)
        same, score = bool(similarity[0] >= self._threshold), float(as_score(similarity[0], self._metric))
        return Verification(same, score, self.threshold_, float(self._probabilities(similarity[0])))

    def _table(self, similarity: np.ndarray, errors: pd.DataFrame, index: pd.Index | None) -> pd.DataFrame:
        same = pd.array(similarity >= self._threshold, dtype="boolean")
        same[np.isnan(similarity)] = pd.NA
        table = pd.DataFrame(
            {
                "same": same,
                "score": as_score(similarity, self._metric),
                "threshold": self.threshold_,
                "probability": self._probabilities(similarity),
            }
        )
        if self.on_error == "nan":
            reasons = np.full(len(table), None, dtype=object)
            for pair, side, reason in zip(errors["index"].tolist(), errors["side"], errors["reason"], strict=True):
                said = f"{side}: {reason}"
                reasons[pair] = said if reasons[pair] is None else f"{reasons[pair]}; {said}"
            table["reason"] = pd.Series(reasons, dtype=reasons.dtype)
        return table if index is None else table.set_axis(index)

    def _is_single(self, image: Any) -> bool:
        if not hasattr(self, "featurizer_"):
            return np.ndim(image) == 1 and np.asarray(image).dtype.kind != "O"  # a column may hold vectors
        from sklearn_psp._images import is_one_image

        return is_one_image(image)

    def _probabilities(self, similarity: npt.ArrayLike) -> Any:
        return Calibration(*self._calibration).probability(similarity)

    def _similarities(self, pairs: Any) -> tuple[np.ndarray, pd.DataFrame]:
        """Compare pairs, and warn of those that cannot be compared."""
        similarity, errors = self._compared(pairs)
        self._report(len(similarity), errors)
        return similarity, errors

    def _compared(self, pairs: Any) -> tuple[np.ndarray, pd.DataFrame]:
        check_is_fitted(self, msg=_NOT_FITTED)
        featurizer = getattr(self, "featurizer_", None)
        given = as_pairs(pairs, descriptors=featurizer is None)
        if featurizer is None and given.items.shape[1] != self.n_features_in_:
            raise ImageInputError(
                f"pairs hold descriptors of {given.items.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_}, as in fit"
            )
        return compare_pairs(featurizer, given, metric=self._metric, on_error=self.on_error)

    def _report(self, n_pairs: int, errors: pd.DataFrame) -> None:
        if errors.empty:
            return
        if self.on_error == "raise":
            raise refused_pairs(errors)
        first = errors.iloc[0]
        warn_user(
            FaceWarning(
                f"{errors['index'].nunique():,} of {n_pairs:,} pairs cannot be compared; the first is "
                f"pairs[{first['index']}], the {first['side']} ({first['source']}): {first['reason']}",
                errors,
            )
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "threshold_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.classifier_tags.multi_class = False
        return tags


def _check_flags(y: npt.ArrayLike, n_pairs: int) -> np.ndarray:
    same = as_flags(y, "y", "1 for a pair of the same person")
    if len(same) != n_pairs:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: there are {n_pairs:,} pairs, but y has "
            f"{len(same):,} labels"
        )
    return same


def _check_both_kinds(same: np.ndarray, n_failed: int) -> None:
    left = " that could be compared" if n_failed else ""
    for kind, here in (("of the same person (1)", same), ("of two people (0)", ~same)):
        if not here.any():
            raise ValueError(f"y holds no pairs {kind}{left}: a threshold needs pairs of both kinds")


def _classes_of(y: npt.ArrayLike) -> np.ndarray:
    dtype = np.asarray(y).dtype
    return np.array([0, 1]).astype(bool if dtype.kind == "O" else dtype)
