"""The gallery of a FaceIdentifier: people come and go, the threshold follows, and the nearest people are found."""

from __future__ import annotations

import math
from copy import copy
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_psp._retriever import NearestImageRetriever, searched_vectors, shown, source_names
from sklearn_psp.exceptions import EnrolmentWarning, FaceError, FaceWarning, FewPairsWarning, UnknownIdError
from sklearn_psp.faces._describing import Described, check_one_row_each, describe, new_featurizer
from sklearn_psp.faces._names import check_one_name_each, n_items, plain, sorted_names, with_unknown
from sklearn_psp.faces._open_set import fit_open_set
from sklearn_psp.faces._people import same_image_of_two
from sklearn_psp.faces._reasons import holding_reasons, own_on_error
from sklearn_psp.faces._scores import as_score, similarity_of_distance, similarity_of_score
from sklearn_psp.utils._names import did_you_mean
from sklearn_psp.utils._warnings import warn_user

__all__ = ["GalleryMixin", "Nearest"]


class Nearest(NamedTuple):
    """The two best people of each query.

    Parameters
    ----------
    person, runner_up : ndarray of shape (n_queries,), int
        Their places in `people_`; -1 where there is no second.
    similarity, runner_up_similarity : ndarray of shape (n_queries,), float64
        Their similarities; NaN where there is no second.
    position : ndarray of shape (n_queries,), int
        Position in the gallery of the most alike image.
    """

    person: np.ndarray
    similarity: np.ndarray
    position: np.ndarray
    runner_up: np.ndarray
    runner_up_similarity: np.ndarray


class GalleryMixin:
    """What the verbs of `FaceIdentifier` share."""

    def _fit(self, X, names, stranger):
        if stranger.all():
            raise ValueError(
                f"y holds nobody but {self.unknown_label!r}: there is nobody to enroll"
                if len(stranger)
                else "X is empty: Found array with 0 sample(s) while a minimum of 1 is required"
            )
        retriever = self._new_retriever()
        people, codes = sorted_names(names[~stranger])
        who = np.empty(len(names), dtype=np.intp)
        # Strangers are of no class that a featurizer could learn: each is one of its own.
        who[~stranger], who[stranger] = codes, len(people) + np.arange(np.count_nonzero(stranger))
        featurizer = new_featurizer(self.featurizer, self.on_error)
        described, errors = self._describe(featurizer, X, retriever.metric, who, fit=True)
        check_one_name_each(names, len(described.rows))
        enrolled = described.valid & ~stranger
        self._report(errors, names, enrolled, stranger)
        if not enrolled.any():
            raise FaceError("no image of anybody to be enrolled has a descriptor: the gallery would be empty", errors)
        # A stranger who is enrolled too would raise the threshold above everybody's score.
        _check_one_person_each(described.rows[described.valid], names[described.valid], np.flatnonzero(described.valid))
        retriever.fit(described.rows[enrolled], names[enrolled], metadata=_sources(X, enrolled))
        self._take(retriever, described.rows[described.valid & stranger], first=True)
        for attribute, value in {"featurizer_": featurizer, "errors_": errors}.items():
            self.__dict__.pop(attribute, None)
            if value is not None and (attribute != "errors_" or self.on_error == "nan"):
                setattr(self, attribute, value)

    def _enroll(self, X, names, stranger, add):
        if stranger.any():
            raise ValueError(f"nobody can be enrolled as {self.unknown_label!r}, which is the name of strangers")
        sorted_names(np.concatenate((self.people_.astype(object), names.astype(object))))  # refuses other kinds
        known = np.isin(names, self.people_)
        if known.any() and not add:
            raise ValueError(
                f"enrolled already: {_listed(names[known])}; pass add=True if these are further images of them, "
                "remove them first if these are to replace the others, and give other people other names"
            )
        described, errors = self._describe(getattr(self, "featurizer_", None), X, self.retriever_.effective_metric_)
        check_one_name_each(names, len(described.rows))
        valid = described.valid
        self._report(errors, names, valid | known, stranger)
        rows, names, places = described.rows[valid], names[valid], np.flatnonzero(valid)
        if not len(rows):
            return
        _check_one_person_each(rows, names, places)
        if len(self.people_):
            self._compare_with_enrolled(rows, names, places, known[valid])
        self._take(copy(self.retriever_).partial_fit(rows, names, metadata=_sources(X, valid)), self._strangers)

    def _compare_with_enrolled(self, rows, names, places, known):
        """Refuse images that are there as somebody else, and warn of people who look as if they were."""
        nearest = self._nearest(rows)
        taken_for = self.people_[nearest.person]
        same = np.flatnonzero((nearest.similarity == 1) & (taken_for != names))
        if len(same):
            i = same[0]
            raise ValueError(
                f"X[{places[i]}] is to be enrolled as {plain(names[i])!r}, but is an image that is enrolled as "
                f"{plain(taken_for[i])!r}: one person would be there twice; leave it out, or correct the name"
            )
        n_strangers = len(self._strangers)
        stranger = same_image_of_two(
            np.concatenate((self._strangers, rows)), np.arange(n_strangers + len(rows)) >= n_strangers
        )
        if stranger is not None:
            i = stranger[1] - n_strangers
            raise ValueError(
                f"X[{places[i]}] is to be enrolled as {plain(names[i])!r}, but fit was given the same image as that "
                "of a stranger, whom the threshold is to keep out; leave it out, or fit again without that stranger"
            )
        accepted = nearest.similarity >= self._threshold
        if math.isinf(self._threshold):
            return
        for name in pd.unique(names[~known]):
            own = names == name
            others, counts = np.unique(nearest.person[own & accepted], return_counts=True)
            if len(others) and 2 * counts.max() > own.sum():
                other = self.people_[others[counts.argmax()]]
                warn_user(
                    EnrolmentWarning(
                        f"{plain(name)!r} is enrolled now, but {counts.max():,} of {own.sum():,} images would have "
                        f"been taken for {plain(other)!r}: if they are one person, remove({[plain(name)]!r}) and "
                        f"enroll them as {plain(other)!r} with add=True"
                    )
                )

    def _remove(self, names):
        names = pd.Index([names] if np.ndim(names) == 0 else names, tupleize_cols=False).unique()
        unknown = names[~names.isin(self.people_)]
        if len(unknown):
            hint = did_you_mean(str(unknown[0]), map(str, self.people_.tolist()))
            raise UnknownIdError(f"nobody is enrolled as {_listed(unknown)}; {hint}people_ lists everybody")
        retriever = self.retriever_
        self._take(copy(retriever).remove(retriever.ids_[np.isin(retriever.labels_, names)]), self._strangers)

    def _take(self, retriever, strangers, *, first=False):
        """Take a gallery for one's own, and fit the threshold to it; what goes wrong changes nothing."""
        labels = retriever.labels_
        people, codes = sorted_names(labels) if len(labels) else (labels, np.empty(0, dtype=np.intp))
        learned = None
        if len(people):
            metric = retriever.effective_metric_
            learned = fit_open_set(
                searched_vectors(retriever),
                codes,
                len(people),
                strangers,
                metric=metric,
                fpir=None if self.unknown_label is None else self.fpir,
                threshold=self._threshold_there_is(people, strangers, metric, first),
                random_state=check_random_state(self.random_state),
            )
        self.retriever_, self._strangers, self._codes = retriever, strangers, codes
        self.people_, self.classes_ = people, with_unknown(people, self.unknown_label)
        if learned is not None:
            self._learn(learned)

    def _threshold_there_is(self, people, strangers, metric, first):
        """Return the threshold as a similarity where it is given or must stay; None: it is to be fitted."""
        if self.threshold is not None:
            return similarity_of_score(self.threshold, metric)
        if self.unknown_label is None or len(people) > 1 or len(strangers):
            return None
        message = (
            f"{plain(people[0])!r} is the only person enrolled, and there are no images of strangers: nothing tells "
            "how alike two people may be; enroll others, or give fit images of others with "
            f"y={self.unknown_label!r}"
        )
        if first:
            raise ValueError(f"{message}, or pass threshold=")
        warn_user(FewPairsWarning(f"{message}; the threshold stays what it was"))
        return self._threshold

    def _learn(self, learned):
        self._threshold = learned.threshold
        metric = self.retriever_.effective_metric_
        self.threshold_ = -math.inf if math.isinf(learned.threshold) else float(as_score(learned.threshold, metric))
        self.fpir_, self.fpir_interval_ = learned.fpir, learned.fpir_interval
        self.fnir_, self.fnir_interval_ = learned.fnir, learned.fnir_interval
        self.n_mated_, self.n_nonmated_ = learned.n_mated, learned.n_nonmated
        self._calibration = learned.calibration

    def _new_retriever(self):
        retriever = NearestImageRetriever() if self.retriever is None else clone(self.retriever)
        for name, instead in (("featurizer", "give it to FaceIdentifier"), ("reranker", "its distances are no scores")):
            if getattr(retriever, name) is not None:
                raise ValueError(f"retriever must have {name}=None, got {getattr(retriever, name)!r}: {instead}")
        return retriever

    def _probes(self, X, *, as_table=False):
        """Describe faces to be identified; a table has the reasons, so that nothing is left to warn of."""
        self._check_searchable()
        featurizer = getattr(self, "featurizer_", None)
        described, errors = self._describe(featurizer, X, self.retriever_.effective_metric_)
        if not as_table or self.on_error == "raise":
            self._report(errors)
        return described, errors

    def _check_searchable(self):
        check_is_fitted(self)
        if not len(self.people_):
            raise ValueError("the gallery is empty: nobody can be recognised; enroll(X, y) people first")

    def _describe(self, featurizer, X, metric, y=None, *, fit=False):
        """Return descriptors, and the table of images that have none."""
        reasons = {}
        if featurizer is None:
            rows = validate_data(self, X, reset=fit, dtype=np.float32, order="C", ensure_all_finite=False)
        else:
            for attribute in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(attribute, None)
            with own_on_error(self), holding_reasons() as reasons:
                rows = describe(featurizer, X, y, fit=fit)
        check_one_row_each(rows, n_items(X, default=len(rows)))
        described = Described(rows, metric)
        return described, _failures(None if featurizer is None else X, described, reasons)

    def _report(self, errors, names=None, enrolled=None, stranger=None):
        if errors.empty:
            return
        first = errors.iloc[0]
        named = f"X[{first['index']}] ({first['source']}): {first['reason']}"
        if self.on_error == "raise":
            raise FaceError(f'{named}; remove it from X or pass on_error="nan"', errors)
        lost = "" if names is None else _lost(names, enrolled, stranger)
        what = "have no descriptor" if names is None else "are left out"
        warn_user(FaceWarning(f"{len(errors):,} images {what}{lost}; the first is {named}", errors))

    def _nearest(self, rows):
        """Find the two best people of each row: as many images as it takes to see two people."""
        n_queries, n_images = len(rows), len(self._codes)
        two = min(2, len(self.people_))
        found = Nearest(
            *(np.full(n_queries, fill) for fill in (-1, np.nan, -1, -1, np.nan)),
        )
        todo, k = np.arange(n_queries), min(n_images, two + 2)
        while len(todo):
            distances, positions = self.retriever_.kneighbors(rows[todo], k)
            people = self._codes[positions]
            similarity = similarity_of_distance(distances, self.retriever_.effective_metric_)
            found.person[todo], found.position[todo] = people[:, 0], positions[:, 0]
            found.similarity[todo] = similarity[:, 0]
            other = people != people[:, :1]
            second, seen = other.argmax(axis=1), other.any(axis=1)
            at = np.flatnonzero(seen)
            found.runner_up[todo[at]] = people[at, second[at]]
            found.runner_up_similarity[todo[at]] = similarity[at, second[at]]
            todo = todo[~seen] if k < n_images and two == 2 else todo[:0]
            k = min(n_images, 4 * k)
        return found

    def _named(self, nearest):
        names = self.people_[nearest.person]
        if self.unknown_label is None:
            return names
        return self.classes_[np.where(nearest.similarity >= self._threshold, nearest.person, len(self.people_))]

    def _vectors(self):
        return searched_vectors(self.retriever_)


def _check_one_person_each(rows, names, places):
    twice = same_image_of_two(rows, pd.factorize(names)[0])
    if twice is not None:
        (i, name_i), (j, name_j) = ((places[row], names[row]) for row in twice)
        raise ValueError(
            f"X[{i}] and X[{j}] are the same image, but y says that one is {plain(name_i)!r} and the other "
            f"{plain(name_j)!r}: one person would be there twice; leave one out, or correct the names"
        )


def _failures(X, described, reasons):
    """Tabulate images without a descriptor; descriptors that are given (X is None) load no reader of images."""
    rows = np.flatnonzero(~described.valid).tolist()
    sources = _describe_sources(X, rows) if rows else []
    table = [(i, source, reasons.get(i) or described.reason(i)) for i, source in zip(rows, sources, strict=True)]
    return pd.DataFrame(table, columns=["index", "source", "reason"]).astype({"index": np.int64})


def _describe_sources(X, rows):
    if X is not None:
        from sklearn_psp._images import as_images
        from sklearn_psp.exceptions import ImageInputError

        try:
            images = as_images(X)
            return [images.describe(i) for i in rows]
        except (ImageInputError, TypeError):  # a stream that has been read, or nothing that is known
            pass
    return [f"row {i}" for i in rows]


def _sources(X, rows):
    """Return the metadata of the gallery: paths of images, where they have one."""
    names = source_names(X)
    return pd.DataFrame(
        {"source": np.full(np.count_nonzero(rows), None) if names is None else names[rows]}, dtype=object
    )


def _lost(names, enrolled, stranger):
    lost = np.setdiff1d(names[~stranger], names[enrolled])
    return f", and so are {_listed(lost)}, who have no other" if len(lost) else ""


def _listed(names):
    return shown(pd.unique(np.asarray(names)).tolist())
