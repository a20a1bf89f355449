"""FaceIdentifier: who of the enrolled people is it, if anybody?"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._persistence import PackedValuesMixin
from sklearn_psp._retriever import NearestImageRetriever
from sklearn_psp.exceptions import EnrolmentWarning, FaceError, FaceWarning
from sklearn_psp.faces._chips import SELECTIONS
from sklearn_psp.faces._describing import (
    FEATURIZERS,
    FaceDescriptors,
    comparable,
    describe_all_faces,
    describe_images,
    describe_rows,
    has_aligner,
    new_featurizer,
)
from sklearn_psp.faces._identities import (
    Identities,
    check_one_identity_each,
    flat_state,
    gallery_sources,
    gathered_state,
    new_retriever,
)
from sklearn_psp.faces._identity_names import check_names, check_somebody, featurizer_labels, lost
from sklearn_psp.faces._open_set import Rule
from sklearn_psp.utils._compat import HasMethods, Interval, StrOptions, _check_sample_weight, _fit_context
from sklearn_psp.utils._descriptions import warn_of_failures
from sklearn_psp.utils._validation import own_index
from sklearn_psp.utils._warnings import warn_user

__all__ = ["FaceIdentifier"]

# Attributes that not every fit leaves; those of the last one go.
_SOMETIMES = frozenset({"featurizer_", "errors_", "n_features_in_", "feature_names_in_"})


class FaceIdentifier(PackedValuesMixin, ClassifierMixin, BaseEstimator):
    """Say who of the enrolled people a face is, or that it is none of them.

    The score of a person is that of their most alike enrolled image. The best person is named if the score is at or
    above `threshold_`, which lets a share `fpir` of unknown people be named, as measured on images that are at hand:
    those that y says are of `unknown_label`, and each enrolled image against everybody else.

    Parameters
    ----------
    featurizer : "dlib_face", transformer or None, default="dlib_face"
        Turns images into descriptors. `"dlib_face"` stands for `make_face_featurizer()`: faces found and aligned by
        dlib, and described by its network (extra `faces`). Give an estimator to set and tune its parameters, such as
        `featurizer__aligner__detector`. It is cloned and fitted by `fit`, and not fitted again by `enroll`. None: X
        holds descriptors.
    fpir : float in (0, 1], default=0.01
        False positive identification rate: the share of unknown people whom the threshold may give a name.
    threshold : float or None, default=None
        The threshold, in the metric of `retriever`: a cosine similarity, or a distance with a minus sign. None: it is
        fitted for `fpir`, again whenever people are enrolled or removed, because the rate grows with the gallery.
    unknown_label : object, default="unknown"
        What `predict` calls a face that is nobody's, and y an image of somebody who is not enrolled. None: everybody
        gets a name (closed set), there is no threshold, and it is a classifier like any other.
    unknown_prior : float in (0, 1), default=0.5
        Share of unknown people among the faces that `predict_proba` will be shown.
    retriever : NearestImageRetriever or None, default=None
        How the gallery is searched; its parameters are taken. None: `NearestImageRetriever()`, by cosine similarity.
    on_error : {"raise", "nan"}, default="raise"
        What happens to an image that cannot be read or has no face: an error that names it; or it is left out by `fit`
        and `enroll` and has probabilities of NaN, with one `FaceWarning` for all of them. `predict` has no label for
        it, and raises. It decides for every step of ours in `featurizer` as well, whatever their own `on_error` says;
        a transformer of another package does as it does.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of images that stand for a large gallery when the threshold is fitted.

    Attributes
    ----------
    people_ : ndarray of shape (n_people,)
        Names of the enrolled, sorted.
    classes_ : ndarray of shape (n_people + 1,) or (n_people,)
        The same, and `unknown_label` at the end unless that is None.
    threshold_ : float
        The best person is named if the score is at or above it; minus infinity with `unknown_label=None`.
    fpir_ : float
        Share of the non-mated probes that `threshold_` names; NaN where there were none. On other unknown people
        it will be different.
    fpir_interval_ : tuple of two floats
        Its confidence interval at 95%, which takes probes for independent; several images of one person are not.
    fnir_ : float
        Share of enrolled images that are not given their own name when the others are the gallery; NaN if nobody has
        two images.
    fnir_interval_ : tuple of two floats
        Its confidence interval.
    n_mated_, n_nonmated_ : int
        Probes of which the rates were measured.
    retriever_ : NearestImageRetriever
        The gallery: descriptors, names as labels, and the paths of the images as metadata `source`.
    featurizer_ : transformer
        The fitted featurizer. Only if there is one.
    n_features_in_ : int
        Number of features. Only without `featurizer`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features. Only without `featurizer`, and if X has string names.
    errors_ : pandas.DataFrame
        Images that `fit` left out: `index`, `source`, `reason`. Only with `on_error="nan"`.

    See Also
    --------
    FaceVerifier : Tells whether two images show the same person.
    sklearn_psp.metrics.fpir_fnir : The rates.
    sklearn_psp.displays.MatchDisplay : Draws faces with their names.

    Notes
    -----
    `predict` decides by the threshold, `predict_proba` by Bayes' rule with `unknown_prior`; they need not agree on who
    is unknown.

    `cross_val_predict` with `method="predict_proba"` puts numbers in the place of the names of y, so that nobody would
    be unknown; it fails. With its default method, and in `cross_val_score` and `GridSearchCV`, names stay names.

    References
    ----------
    P. Grother, M. Ngan and K. Hanaoka, "Face Recognition Vendor Test (FRVT) Part 2: Identification", NISTIR 8271, 2019,
    for the rates.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_psp import FaceIdentifier
    >>> rng = np.random.default_rng(0)
    >>> faces = rng.normal(size=(60, 32))
    >>> def photographs(which):
    ...     return faces[which] + 0.2 * rng.normal(size=(len(which), 32))
    >>> enrolled, unknown = np.repeat(np.arange(40), 3), np.arange(40, 60)
    >>> names = [f"person {i:02d}" for i in enrolled] + ["unknown"] * 20
    >>> identifier = FaceIdentifier(featurizer=None)
    >>> identifier = identifier.fit(np.r_[photographs(enrolled), photographs(unknown)], names)
    >>> identifier.predict(photographs([0, 1, 50])).tolist()
    ['person 00', 'person 01', 'unknown']
    >>> identifier.remove(["person 01"]).predict(photographs([0, 1])).tolist()
    ['person 00', 'unknown']
    """

    _parameter_constraints = {
        "featurizer": [StrOptions(set(FEATURIZERS)), HasMethods(["fit", "transform"]), None],
        "fpir": [Interval(Real, 0, 1, closed="right")],
        "threshold": [Real, None],
        "unknown_label": "no_validation",
        "unknown_prior": [Interval(Real, 0, 1, closed="neither")],
        "retriever": [NearestImageRetriever, None],
        "on_error": [StrOptions({"raise", "nan"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        featurizer: Any = "dlib_face",
        *,
        fpir: float = 0.01,
        threshold: float | None = None,
        unknown_label: Any = "unknown",
        unknown_prior: float = 0.5,
        retriever: NearestImageRetriever | None = None,
        on_error: str = "raise",
        random_state: Any = None,
    ):
        self.featurizer = featurizer
        self.fpir = fpir
        self.threshold = threshold
        self.unknown_label = unknown_label
        self.unknown_prior = unknown_prior
        self.retriever = retriever
        self.on_error = on_error
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)  # featurizer is an estimator with parameters of its own
    def fit(self, X: Any, y: npt.ArrayLike) -> FaceIdentifier:
        """Enroll people, and fit the threshold.

        Parameters
        ----------
        X : collection of images, or array-like of shape (n_images, n_features)
            Images as the featurizer takes them, one face each; with `featurizer=None` descriptors.
        y : array-like of shape (n_images,)
            Who is in each: names of one kind, such as str or int. Images of `unknown_label` are not enrolled; they
            are of unknown people, whom the threshold is to keep out.

        Returns
        -------
        FaceIdentifier
            The fitted estimator.

        Raises
        ------
        ImageReadError
            With `on_error="raise"`, if an image cannot be read; a `FaceError`, if it has no face.
        ValueError
            If nobody is enrolled, a name is missing, an image is enrolled as two people, or as a person and as
            unknown, or there is nothing to fit the threshold on: one person alone, and no unknown people.

        Warns
        -----
        FewPairsWarning
            If there are too few probes for `fpir`, or nobody has two images.
        FaceWarning
            With `on_error="nan"`, if images are left out.
        """
        names, unknown = check_names(y, X, self.unknown_label)
        check_somebody(unknown, self.unknown_label)
        labels = featurizer_labels(names, unknown)  # refuses names of several kinds
        retriever = new_retriever(self.retriever)
        featurizer = new_featurizer(self.featurizer, self.on_error)
        learned: dict[str, Any] = {}
        if featurizer is None:
            noted = type(self)(**self.get_params(deep=False))  # scikit-learn writes down the features of X there
            described = describe_rows(noted, X, reset=True)
            learned |= {name: value for name, value in vars(noted).items() if name in _SOMETIMES}
        else:
            described = describe_images(featurizer, X, labels, on_error=self.on_error, fit=True)
            learned["featurizer_"] = featurizer
        faces, errors = comparable(described, X, retriever.metric, self.on_error, names)
        enrolled = faces.valid & ~unknown
        warn_of_failures(errors, f"images are left out{lost(names, enrolled, unknown)}", FaceWarning)
        if not enrolled.any():
            raise FaceError("no image of anybody to be enrolled has a descriptor: the gallery would be empty", errors)
        # Somebody who is unknown and enrolled would raise the threshold above everybody's score.
        check_one_identity_each(faces.rows[faces.valid], names[faces.valid], np.flatnonzero(faces.valid))
        retriever.fit(faces.rows[enrolled], names[enrolled], metadata=gallery_sources(X, enrolled))
        identities = Identities.of(retriever, faces.rows[faces.valid & unknown], self._rule())
        if self.on_error == "nan":
            learned["errors_"] = errors
        # In one step, so that an error or Ctrl-C on the way here leaves the last fit as it was.
        kept = {name: value for name, value in vars(self).items() if name not in _SOMETIMES}
        self.__dict__ = kept | learned | identities.attributes()
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def enroll(self, X: Any, y: npt.ArrayLike, *, add: bool = False) -> FaceIdentifier:
        """Add people to the gallery; they are found from now on. The first call is `fit`.

        Parameters
        ----------
        X : collection of images, or array-like of shape (n_images, n_features)
            As in `fit`.
        y : array-like of shape (n_images,)
            Who is in each.
        add : bool, default=False
            Whether names may be there already, whose images these are added to.

        Returns
        -------
        FaceIdentifier
            The estimator. The threshold is fitted again, unless it was given.

        Raises
        ------
        ImageReadError
            As in `fit`. Nobody is added then.
        ValueError
            If somebody is enrolled already, and not `add`, a name is `unknown_label` or missing, or an image is there
            already as another person, or was given to `fit` as an unknown person's. Nobody is added then.

        Warns
        -----
        EnrolmentWarning
            If most images of somebody new would have been taken for the same enrolled person.
        FewPairsWarning, FaceWarning
            As in `fit`.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y)
        names, unknown = check_names(y, X, self.unknown_label)
        if unknown.any():
            raise ValueError(f"nobody can be enrolled as {self.unknown_label!r}, which is the name of unknown people")
        identities = self._identities
        identities.refuse_enrolled(names, add=add)
        faces, errors = self._described(X, identities.metric, names)
        valid = faces.valid
        left = lost(names, valid | np.isin(names, identities.people), unknown)
        warn_of_failures(errors, f"images are left out{left}", FaceWarning)
        if not valid.any():
            return self
        changed, resemblances = identities.with_images(
            faces.rows[valid], names[valid], np.flatnonzero(valid), gallery_sources(X, valid), self._rule()
        )
        for resemblance in resemblances:
            warn_user(EnrolmentWarning(resemblance))
        self.__dict__ = vars(self) | changed.attributes()
        return self

    def remove(self, names: Any) -> FaceIdentifier:
        """Remove people from the gallery; they are unknown from now on.

        Parameters
        ----------
        names : array-like of shape (n,), or a single name
            Whom.

        Returns
        -------
        FaceIdentifier
            The estimator. The threshold is fitted again, unless it was given.

        Raises
        ------
        UnknownIdError
            If nobody is enrolled by one of the names. Nobody is removed then.
        """
        check_is_fitted(self)
        self.__dict__ = vars(self) | self._identities.without(names, self._rule()).attributes()
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Name the faces.

        Parameters
        ----------
        X : collection of images, or array-like of shape (n_images, n_features)
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images,)
            Names, of `classes_`.

        Raises
        ------
        FaceError
            If an image has no descriptor, with `on_error="nan"`: there is no name for that, not even that of unknown
            people. `predict_proba` gives it NaN, and `identify` a row with the reason.
        ValueError
            If the gallery is empty.
        """
        identities, faces, errors = self._probes(X)
        if len(errors):
            first = errors.iloc[0]
            raise FaceError(
                f"{len(errors):,} images have no descriptor, the first is X[{first['index']}] ({first['source']}): "
                f"{first['reason']}; no label says so; predict_proba gives them NaN",
                errors,
            )
        return identities.names_of(identities.nearest(faces.rows))

    def predict_proba(self, X: Any) -> np.ndarray:
        r"""Say how probable each person is, and that it is none of them.

        With :math:`L(s)` how many times as likely a score s is for the same as for another person, learned from the
        gallery and rising with s, N people and :math:`\pi` for `unknown_prior`

        .. math:: P(p | x) \propto \frac{1 - \pi}{N} L(s(x, p)), \qquad P(\text{unknown} | x) \propto \pi.

        Parameters
        ----------
        X : collection of images, or array-like of shape (n_images, n_features)
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), float64
            Rows of sum 1, in the order of `classes_`; of NaN for images without a descriptor, with `on_error="nan"`.

        Raises
        ------
        ValueError
            If nobody has two images, or there is one person alone and nobody unknown, so that nothing says what a score
            means, or if the gallery is empty.
        """
        identities, faces, _ = self._probes(X)
        probabilities = np.full((len(faces.rows), len(identities.classes)), np.nan)
        probabilities[faces.valid] = identities.probabilities(faces.rows[faces.valid], self.unknown_prior)
        return probabilities

    def score(self, X: Any, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """Share of the faces that are given their name, or `unknown_label` where they are nobody's.

        Parameters
        ----------
        X : collection of images, or array-like of shape (n_images, n_features)
            As in `fit`.
        y : array-like of shape (n_images,)
            Who is in each; anybody who is not enrolled should be `unknown_label`.
        sample_weight : array-like of shape (n_images,), default=None
            Weights of the images.

        Returns
        -------
        score : float
            The accuracy. Images without a descriptor are left out, with `on_error="nan"`.
        """
        names, _ = check_names(y, X, self.unknown_label)
        identities, faces, _ = self._probes(X, names)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, names)[faces.valid]
        if not faces.valid.any():
            raise FaceError("none of the images has a descriptor: there is nothing to score")
        named = identities.names_of(identities.nearest(faces.rows[faces.valid]))
        # Not names with names: scikit-learn refuses numbers beside "unknown".
        right = named == names[faces.valid]
        return float(accuracy_score(np.ones(len(right), dtype=bool), right, sample_weight=weights))

    def identify(self, X: Any, *, select: str = "all") -> pd.DataFrame:
        """Tabulate the faces of images and who they are.

        Parameters
        ----------
        X : collection of images, or array-like of shape (n_images, n_features)
            As in `fit`, but an image may have any number of faces if the featurizer is a `Pipeline` that begins with a
            `FaceAligner`.
        select : {"all", "largest", "confident", "error"}, default="all"
            Which faces of an image with several, as for `FaceAligner`.

        Returns
        -------
        faces : DataFrame
            A row for each face, in the order of the images: `image`, its position in X, or its index if X is a
            Series or one-column DataFrame; `left`, `top`, `right`, `bottom`, the box in pixels, and `confidence` of the
            detector (NaN where no aligner found them); `name`, or `unknown_label`; `score` and `probability` of the
            best person (the latter NaN if nobody has two images); `source`, the path of their most alike image;
            `runner_up` and `runner_up_score`, the next person, missing if there is none; `reason`, None. An image
            without a face, or with `on_error="nan"` one that cannot be read, has one row with the `reason` and nothing
            else.

        Raises
        ------
        ImageReadError
            If an image cannot be read, with `on_error="raise"`.
        ValueError
            If the gallery is empty, or `select` is something else.
        """
        identities = self._searchable()
        if select not in SELECTIONS:
            raise ValueError(f"select must be one of {', '.join(map(repr, SELECTIONS))}, got {select!r}")
        featurizer = getattr(self, "featurizer_", None)
        boxes, failures = None, None
        if has_aligner(featurizer):
            boxes, faces, failures = describe_all_faces(
                featurizer, X, metric=identities.metric, select=select, on_error=self.on_error
            )
        else:
            faces, _ = self._described(X, identities.metric)
        table = identities.tabulate(boxes, faces, self.unknown_prior, failures)
        index = own_index(X)
        if index is not None:
            table["image"] = index[table["image"]]
        return table

    def _rule(self) -> Rule:
        return Rule(self.fpir, self.threshold, self.unknown_label, self.random_state)

    def _searchable(self) -> Identities:
        check_is_fitted(self)
        identities = self._identities
        if not len(identities.people):
            raise ValueError("the gallery is empty: nobody can be recognised; enroll(X, y) people first")
        return identities

    def _described(self, X: Any, metric: str, names: np.ndarray | None = None) -> tuple[FaceDescriptors, pd.DataFrame]:
        """Describe images with the fitted featurizer; also return the table of those that have no descriptor."""
        featurizer = getattr(self, "featurizer_", None)
        if featurizer is None:
            described = describe_rows(self, X, reset=False)
        else:
            described = describe_images(featurizer, X, on_error=self.on_error)
        return comparable(described, X, metric, self.on_error, names)

    def _probes(self, X: Any, names: np.ndarray | None = None) -> tuple[Identities, FaceDescriptors, pd.DataFrame]:
        """Describe faces to be identified, and warn of those that cannot be described."""
        identities = self._searchable()
        faces, errors = self._described(X, identities.metric, names)
        warn_of_failures(errors, "images have no descriptor", FaceWarning)
        return identities, faces, errors

    def __getstate__(self) -> dict[str, Any]:
        return flat_state(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__ = gathered_state(dict(vars(self)))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_identities")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.featurizer is None
        tags.input_tags.three_d_array = self.featurizer is not None
        return tags
