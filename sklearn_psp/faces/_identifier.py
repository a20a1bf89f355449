"""FaceIdentifier: who of the enrolled people is it, if anybody?"""

from __future__ import annotations

from numbers import Real

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from sklearn_psp._persistence import PackedValuesMixin
from sklearn_psp._retriever import NearestImageRetriever
from sklearn_psp.exceptions import FaceError
from sklearn_psp.faces._describing import FEATURIZERS
from sklearn_psp.faces._found import SELECTIONS
from sklearn_psp.faces._gallery import GalleryMixin
from sklearn_psp.faces._identified import identified_frame
from sklearn_psp.faces._names import check_names, check_one_name_each
from sklearn_psp.faces._people import person_similarities
from sklearn_psp.faces._scores import Calibration, as_score
from sklearn_psp.utils._compat import HasMethods, Interval, StrOptions, _check_sample_weight, _fit_context

__all__ = ["FaceIdentifier"]


class FaceIdentifier(GalleryMixin, PackedValuesMixin, ClassifierMixin, BaseEstimator):
    """Say who of the enrolled people a face is, or that it is none of them.

    The score of a person is that of their most alike enrolled image. The best person is named if the score is at or
    above `threshold_`, which lets a share `fpir` of strangers be named, as measured on images that are at hand:
    strangers that y says are `unknown_label`, and each enrolled image against everybody else.

    Parameters
    ----------
    featurizer : "dlib_face", transformer or None, default="dlib_face"
        Turns images into descriptors. `"dlib_face"` stands for `make_face_featurizer()`: faces found and aligned by
        dlib, and described by its network (extra `faces`). Give an estimator to set and tune its parameters, such as
        `featurizer__aligner__detector`. It is cloned and fitted by `fit`, and not fitted again by `enroll`. None: X
        holds descriptors.
    fpir : float in (0, 1], default=0.01
        False positive identification rate: the share of strangers that the threshold may give a name.
    threshold : float or None, default=None
        The threshold, in the metric of `retriever`: a cosine similarity, or a distance with a minus sign. None: it is
        fitted for `fpir`, again whenever people are enrolled or removed, because the rate grows with the gallery.
    unknown_label : object, default="unknown"
        What `predict` calls a face that is nobody's, and y an image of somebody who is not enrolled. None: everybody
        gets a name (closed set), there is no threshold, and it is a classifier like any other.
    unknown_prior : float in (0, 1), default=0.5
        Share of strangers among the faces that `predict_proba` will be shown.
    retriever : NearestImageRetriever or None, default=None
        How the gallery is searched; its parameters are taken. None: `NearestImageRetriever()`, by cosine similarity.
    on_error : {"raise", "nan"}, default="raise"
        What happens to an image that cannot be read or has no face: an error that names it; or it is left out by `fit`
        and `enroll` and has probabilities of NaN, with one `FaceWarning` for all of them. `predict` has no label for
        it, and raises. An estimator that is given as `featurizer` has an `on_error` of its own, which must be "nan"
        too.
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
        Share of the non-mated probes that `threshold_` names; NaN where there were none. On other strangers it will
        be different.
    fpir_interval_ : tuple of two floats
        Its confidence interval at 95%, which takes probes for independent; several images of a stranger are not.
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
    is a stranger.

    `cross_val_predict` with `method="predict_proba"` puts numbers in the place of the names of y, so that nobody would
    be a stranger; it fails. With its default method, and in `cross_val_score` and `GridSearchCV`, names stay names.

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
    >>> enrolled, strangers = np.repeat(np.arange(40), 3), np.arange(40, 60)
    >>> names = [f"person {i:02d}" for i in enrolled] + ["unknown"] * 20
    >>> identifier = FaceIdentifier(featurizer=None)
    >>> identifier = identifier.fit(np.r_[photographs(enrolled), photographs(strangers)], names)
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
        featurizer="dlib_face",
        *,
        fpir=0.01,
        threshold=None,
        unknown_label="unknown",
        unknown_prior=0.5,
        retriever=None,
        on_error="raise",
        random_state=None,
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
    def fit(self, X, y):
        """Enroll people, and fit the threshold.

        Parameters
        ----------
        X : collection of images, or array-like of shape (n_images, n_features)
            Images as the featurizer takes them, one face each; with `featurizer=None` descriptors.
        y : array-like of shape (n_images,)
            Who is in each: names of one kind, such as str or int. Images of `unknown_label` are not enrolled; they
            are strangers that the threshold is fitted on.

        Returns
        -------
        FaceIdentifier
            The fitted estimator.

        Raises
        ------
        ImageReadError
            With `on_error="raise"`, if an image cannot be read; a `FaceError`, if it has no face.
        ValueError
            If nobody is enrolled, a name is missing, an image is enrolled as two people, or as a person and a
            stranger, or there is nothing to fit the threshold on: one person alone, and no strangers.

        Warns
        -----
        FewPairsWarning
            If there are too few probes for `fpir`, or nobody has two images.
        FaceWarning
            With `on_error="nan"`, if images are left out.
        """
        names, stranger = check_names(y, X, self.unknown_label)
        self._fit(X, names, stranger)
        return self

    @_fit_context(prefer_skip_nested_validation=False)
    def enroll(self, X, y, *, add=False):
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
            already as another person, or was given to `fit` as a stranger's. Nobody is added then.

        Warns
        -----
        EnrolmentWarning
            If most images of somebody new would have been taken for the same enrolled person.
        FewPairsWarning, FaceWarning
            As in `fit`.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y)
        names, stranger = check_names(y, X, self.unknown_label)
        self._enroll(X, names, stranger, add)
        return self

    def remove(self, names):
        """Remove people from the gallery; they are strangers from now on.

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
        self._remove(names)
        return self

    def predict(self, X):
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
        described, errors = self._probes(X)
        if len(errors):
            first = errors.iloc[0]
            raise FaceError(
                f"{len(errors):,} images have no descriptor, the first is X[{first['index']}] ({first['source']}): "
                f"{first['reason']}; no label says so; predict_proba gives them NaN",
                errors,
            )
        return self._named(self._nearest(described.rows))

    def predict_proba(self, X):
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
            If nobody has two images, or there is one person alone and no stranger, so that nothing says what a score
            means, or if the gallery is empty.
        """
        described, _ = self._probes(X)
        probabilities = np.full((len(described.rows), len(self.classes_)), np.nan)
        probabilities[described.valid] = self._probabilities(described.rows[described.valid])
        return probabilities

    def score(self, X, y, sample_weight=None):
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
        described, _ = self._probes(X)
        check_one_name_each(names, len(described.rows))
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, names)[described.valid]
        if not described.valid.any():
            raise FaceError("none of the images has a descriptor: there is nothing to score")
        named = self._named(self._nearest(described.rows[described.valid]))
        # Not names with names: scikit-learn refuses numbers beside "unknown".
        right = named == names[described.valid]
        return float(accuracy_score(np.ones(len(right), dtype=bool), right, sample_weight=weights))

    def identify(self, X, *, select="all"):
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
        self._check_searchable()
        if select not in SELECTIONS:
            raise ValueError(f"select must be one of {', '.join(map(repr, SELECTIONS))}, got {select!r}")
        return identified_frame(self, X, select)

    def _probabilities(self, rows):
        if self._calibration is None:
            missing = (
                "nobody has two images in the gallery, so nothing says how alike two images of one person are, and "
                "no probability can be given: enroll further images with enroll(X, y, add=True)"
                if len(self._codes) == len(self.people_)
                else "there is one person in the gallery and no stranger, so nothing says how alike two people are, "
                "and no probability can be given: enroll others"
            )
            raise ValueError(f"{missing}; predict and identify work as they are")
        similarities = person_similarities(rows, self._vectors(), self._codes, len(self.people_))
        odds = Calibration(*self._calibration).log_likelihood_ratio(similarities)
        if self.unknown_label is not None:
            odds = np.column_stack((odds, np.full(len(odds), np.log(len(self.people_)))))
            odds[:, :-1] += np.log1p(-self.unknown_prior) - np.log(self.unknown_prior)
        return softmax(odds, axis=1)

    def _scores(self, similarity):
        return as_score(similarity, self.retriever_.effective_metric_)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "retriever_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.featurizer is None
        tags.input_tags.three_d_array = self.featurizer is not None
        return tags
