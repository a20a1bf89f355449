"""Gallery of enrolled identities: their names, their descriptors, and the threshold that goes with them."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import clone
from sklearn.utils import check_random_state

from sklearn_psp._persistence import hold, is_saving
from sklearn_psp._retriever import NearestImageRetriever, searched_vectors
from sklearn_psp.exceptions import UnknownIdError
from sklearn_psp.faces._describing import FaceDescriptors, no_boxes
from sklearn_psp.faces._identity_names import listed, plain, sorted_names, with_unknown
from sklearn_psp.faces._open_set import (
    OpenSet,
    Rule,
    fit_open_set,
    given_threshold,
    identity_similarities,
    same_image_of_two,
)
from sklearn_psp.faces._scores import Calibration, as_score, similarity_of_distance
from sklearn_psp.utils._names import did_you_mean
from sklearn_psp.utils._validation import source_names

__all__ = [
    "Identities",
    "Nearest",
    "check_one_identity_each",
    "flat_state",
    "gallery_sources",
    "gathered_state",
    "new_retriever",
]


class Nearest(NamedTuple):
    """The two best identities of each query.

    Parameters
    ----------
    identity, runner_up : ndarray of shape (n_queries,), int
        Their places in `people`; -1 where there is no second.
    similarity, runner_up_similarity : ndarray of shape (n_queries,), float64
        Their similarities; NaN where there is no second.
    position : ndarray of shape (n_queries,), int
        Position in the gallery of the most alike image.
    """

    identity: np.ndarray
    similarity: np.ndarray
    position: np.ndarray
    runner_up: np.ndarray
    runner_up_similarity: np.ndarray


@dataclass(frozen=True, eq=False)
class Identities:
    """Gallery of enrolled identities, immutable: a change returns another one.

    Parameters
    ----------
    retriever : NearestImageRetriever
        Fitted to the descriptors, with the names as labels and the paths as metadata `source`.
    people : ndarray of shape (n_identities,)
        Names, sorted.
    classes : ndarray of shape (n_identities + 1,) or (n_identities,)
        The same, and the label of unknown people at the end unless the set is closed.
    codes : ndarray of shape (n_images,), int
        Whose image each of the gallery is: a place in `people`.
    nonmated : ndarray of shape (n_nonmated, n_features), float32
        Descriptors of unknown people whom the threshold is to keep out.
    open_set : OpenSet
        The threshold, its error rates and the calibration.
    """

    retriever: NearestImageRetriever
    people: np.ndarray
    classes: np.ndarray
    codes: np.ndarray
    nonmated: np.ndarray
    open_set: OpenSet

    @classmethod
    def of(
        cls, retriever: NearestImageRetriever, nonmated: np.ndarray, rule: Rule, before: OpenSet | None = None
    ) -> Identities:
        """Fit the threshold to a gallery.

        Parameters
        ----------
        retriever : NearestImageRetriever
            As of the class.
        nonmated : ndarray of shape (n_nonmated, n_features), float32
            As of the class.
        rule : Rule
            How the threshold is set.
        before : OpenSet or None, default=None
            What the gallery had before it changed; None: it is new.

        Returns
        -------
        Identities
            The gallery. One that is empty keeps the threshold that was there.
        """
        labels = np.asarray(retriever.labels_)
        people, codes = sorted_names(labels) if len(labels) else (labels, np.empty(0, dtype=np.intp))
        open_set = before
        if len(people):
            open_set = fit_open_set(
                searched_vectors(retriever),
                codes,
                len(people),
                nonmated,
                metric=retriever.effective_metric_,
                fpir=None if rule.unknown_label is None else rule.fpir,
                threshold=given_threshold(people, nonmated, retriever.effective_metric_, rule, before),
                random_state=check_random_state(rule.random_state),
            )
        assert open_set is not None  # a new gallery is never empty
        return cls(retriever, people, with_unknown(people, rule.unknown_label), codes, nonmated, open_set)

    @property
    def metric(self) -> str:
        """Metric that the gallery is searched by."""
        return self.retriever.effective_metric_

    @property
    def is_closed(self) -> bool:
        """Whether everybody gets a name."""
        return len(self.classes) == len(self.people)

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that make a `FaceIdentifier` one of this gallery."""
        similarity = self.open_set.threshold
        return {
            "retriever_": self.retriever,
            "people_": self.people,
            "classes_": self.classes,
            "threshold_": -math.inf if math.isinf(similarity) else float(as_score(similarity, self.metric)),
            "fpir_": self.open_set.fpir,
            "fpir_interval_": self.open_set.fpir_interval,
            "fnir_": self.open_set.fnir,
            "fnir_interval_": self.open_set.fnir_interval,
            "n_mated_": self.open_set.n_mated,
            "n_nonmated_": self.open_set.n_nonmated,
            "_identities": self,
        }

    # ------------------------------------------------------------------------------------------------- changes

    def refuse_enrolled(self, names: np.ndarray, *, add: bool) -> None:
        """Refuse names that are enrolled already, unless images are to be added, and names of another kind."""
        sorted_names(np.concatenate((self.people.astype(object), names.astype(object))))
        known = np.isin(names, self.people)
        if known.any() and not add:
            raise ValueError(
                f"enrolled already: {listed(names[known])}; pass add=True if these are further images of them, "
                "remove them first if these are to replace the others, and give other people other names"
            )

    def with_images(
        self, rows: np.ndarray, names: np.ndarray, places: np.ndarray, sources: pd.DataFrame, rule: Rule
    ) -> tuple[Identities, list[str]]:
        """Return the gallery with further images.

        Parameters
        ----------
        rows : ndarray of shape (n, n_features), float32
            Descriptors, scaled for the metric.
        names : ndarray of shape (n,)
            Who is in them, of the kind of `people`.
        places : ndarray of shape (n,), int
            Their positions in X, for messages.
        sources : DataFrame of n rows
            Metadata of the retriever.
        rule : Rule
            How the threshold is set.

        Returns
        -------
        identities : Identities
            The new gallery.
        resemblances : list of str
            A sentence for each new name whose images were mostly taken for one and the same identity of this gallery.

        Raises
        ------
        ValueError
            If an image is of two names, is enrolled by another name, or is one of an unknown person.
        """
        check_one_identity_each(rows, names, places)
        resemblances: list[str] = []
        if len(self.people):
            nearest = self.nearest(rows)
            self._refuse_images_of_others(rows, names, places, nearest)
            resemblances = self._resemblances(names, nearest)
        retriever = copy(self.retriever).partial_fit(rows, names, metadata=sources)
        return self.of(retriever, self.nonmated, rule, self.open_set), resemblances

    def _refuse_images_of_others(
        self, rows: np.ndarray, names: np.ndarray, places: np.ndarray, nearest: Nearest
    ) -> None:
        taken_for = self.people[nearest.identity]
        same = np.flatnonzero((nearest.similarity == 1) & (taken_for != names))
        if len(same):
            i = same[0]
            raise ValueError(
                f"X[{places[i]}] is to be enrolled as {plain(names[i])!r}, but is an image that is enrolled as "
                f"{plain(taken_for[i])!r}: one person would be there twice; leave it out, or correct the name"
            )
        n_nonmated = len(self.nonmated)
        twice = same_image_of_two(
            np.concatenate((self.nonmated, rows)), np.arange(n_nonmated + len(rows)) >= n_nonmated
        )
        if twice is not None:
            i = twice[1] - n_nonmated
            raise ValueError(
                f"X[{places[i]}] is to be enrolled as {plain(names[i])!r}, but fit was given the same image as that "
                "of an unknown person, whom the threshold is to keep out; leave it out, or fit again without that "
                "unknown person"
            )

    def _resemblances(self, names: np.ndarray, nearest: Nearest) -> list[str]:
        if math.isinf(self.open_set.threshold):  # a closed set takes everybody for somebody, which says nothing
            return []
        accepted = nearest.similarity >= self.open_set.threshold
        said = []
        for name in pd.unique(names[~np.isin(names, self.people)]):
            own = names == name
            others, counts = np.unique(nearest.identity[own & accepted], return_counts=True)
            if len(others) and 2 * counts.max() > own.sum():
                other = self.people[others[counts.argmax()]]
                said.append(
                    f"{plain(name)!r} is enrolled now, but {counts.max():,} of {own.sum():,} images would have been "
                    f"taken for {plain(other)!r}: if they are one person, remove({[plain(name)]!r}) and enroll them "
                    f"as {plain(other)!r} with add=True"
                )
        return said

    def without(self, names: Any, rule: Rule) -> Identities:
        """Return the gallery without some identities.

        Parameters
        ----------
        names : array-like of shape (n,), or a single name
            Whose images go.
        rule : Rule
            How the threshold is set.

        Returns
        -------
        Identities
            The new gallery.

        Raises
        ------
        UnknownIdError
            If nobody is enrolled by one of the names.
        """
        given = pd.Index([names] if np.ndim(names) == 0 else names, tupleize_cols=False).unique()
        unknown = given[~given.isin(self.people)]
        if len(unknown):
            hint = did_you_mean(str(unknown[0]), map(str, self.people.tolist()))
            raise UnknownIdError(f"nobody is enrolled as {listed(unknown)}; {hint}people_ lists everybody")
        gone = self.retriever.ids_[np.isin(np.asarray(self.retriever.labels_), given)]
        return self.of(copy(self.retriever).remove(gone), self.nonmated, rule, self.open_set)

    # ------------------------------------------------------------------------------------------------- answers

    def nearest(self, rows: np.ndarray) -> Nearest:
        """Find the two best identities of each row.

        Parameters
        ----------
        rows : ndarray of shape (n_queries, n_features), float32
            Descriptors, scaled for the metric.

        Returns
        -------
        Nearest
            The identities; the gallery must hold one.
        """
        n_queries, n_images = len(rows), len(self.codes)
        two = min(2, len(self.people))
        found = Nearest(*(np.full(n_queries, fill) for fill in (-1, np.nan, -1, -1, np.nan)))
        # As many images as it takes to see two identities: first few, then four times as many for those left over.
        todo, k = np.arange(n_queries), min(n_images, two + 2)
        while len(todo):
            distances, positions = self.retriever.kneighbors(rows[todo], k)
            identities = self.codes[positions]
            similarity = similarity_of_distance(distances, self.metric)
            found.identity[todo], found.position[todo] = identities[:, 0], positions[:, 0]
            found.similarity[todo] = similarity[:, 0]
            other = identities != identities[:, :1]
            second, seen = other.argmax(axis=1), other.any(axis=1)
            at = np.flatnonzero(seen)
            found.runner_up[todo[at]] = identities[at, second[at]]
            found.runner_up_similarity[todo[at]] = similarity[at, second[at]]
            todo = todo[~seen] if k < n_images and two == 2 else todo[:0]
            k = min(n_images, 4 * k)
        return found

    def names_of(self, nearest: Nearest) -> np.ndarray:
        """Return the names of the best identities, or the label of unknown people below the threshold."""
        if self.is_closed:
            return self.people[nearest.identity]
        known = nearest.similarity >= self.open_set.threshold
        return self.classes[np.where(known, nearest.identity, len(self.people))]

    def probabilities(self, rows: np.ndarray, unknown_prior: float) -> np.ndarray:
        """Return how probable each class is, as `FaceIdentifier.predict_proba` promises.

        Parameters
        ----------
        rows : ndarray of shape (n_queries, n_features), float32
            Descriptors, scaled for the metric.
        unknown_prior : float in (0, 1)
            Share of unknown people among the queries; of no account in a closed set.

        Returns
        -------
        ndarray of shape (n_queries, n_classes), float64
            Rows of sum 1.
        """
        if self.open_set.calibration is None:
            missing = (
                "nobody has two images in the gallery, so nothing says how alike two images of one person are, and "
                "no probability can be given: enroll further images with enroll(X, y, add=True)"
                if len(self.codes) == len(self.people)
                else "there is one person in the gallery and fit was given no unknown person, so nothing says how "
                "alike two people are, and no probability can be given: enroll others"
            )
            raise ValueError(f"{missing}; predict and identify work as they are")
        vectors, n_identities = searched_vectors(self.retriever), len(self.people)
        similarities = identity_similarities(rows, vectors, self.codes, n_identities)
        odds = Calibration(*self.open_set.calibration).log_likelihood_ratio(similarities)
        if not self.is_closed:
            odds = np.column_stack((odds, np.full(len(odds), np.log(n_identities))))
            odds[:, :-1] += np.log1p(-unknown_prior) - np.log(unknown_prior)
        return softmax(odds, axis=1)

    def tabulate(
        self,
        faces: pd.DataFrame | None,
        described: FaceDescriptors | None,
        unknown_prior: float,
        failures: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Tabulate who faces are, as `FaceIdentifier.identify` promises.

        Parameters
        ----------
        faces : DataFrame or None
            A row for each face: `image`, box and confidence. None: each image is a face, and has no box.
        described : FaceDescriptors or None
            Their descriptors; None: there are none.
        unknown_prior : float in (0, 1)
            As for `probabilities`.
        failures : DataFrame or None, default=None
            Images without a face, as of `Descriptions`: each has a row with the reason and nothing else.

        Returns
        -------
        DataFrame
            The rows in the order of the images, with the columns `name` ... `reason`.
        """
        if faces is None:
            faces = no_boxes(np.arange(0 if described is None else len(described.rows)))
        named = self._named(faces, described, unknown_prior)
        if failures is None or failures.empty:
            return named
        without = self._named(no_boxes(failures["index"].to_numpy()), None, unknown_prior)
        without["reason"] = pd.Series(failures["reason"].tolist(), dtype=np.dtype(object))
        parts = [part for part in (named, without) if len(part)]
        return pd.concat(parts, ignore_index=True).sort_values("image", kind="stable", ignore_index=True)

    def _named(self, faces: pd.DataFrame, described: FaceDescriptors | None, unknown_prior: float) -> pd.DataFrame:
        n = len(faces)
        columns = {
            "name": np.full(n, None, dtype=object),
            "score": np.full(n, np.nan),
            "probability": np.full(n, np.nan),
            "source": np.full(n, None, dtype=object),
            "runner_up": np.full(n, None, dtype=object),
            "runner_up_score": np.full(n, np.nan),
            "reason": np.full(n, None, dtype=object),
        }
        if described is not None:
            valid = described.valid
            rows = described.rows[valid]
            nearest = self.nearest(rows)
            columns["name"][valid] = self.names_of(nearest)
            columns["score"][valid] = as_score(nearest.similarity, self.metric)
            sources = self.retriever.metadata_
            assert sources is not None  # every enrolled image has its source there
            columns["source"][valid] = sources["source"].to_numpy()[nearest.position]
            second = nearest.runner_up >= 0
            columns["runner_up"][np.flatnonzero(valid)[second]] = self.people[nearest.runner_up[second]]
            columns["runner_up_score"][valid] = as_score(nearest.runner_up_similarity, self.metric)
            if self.open_set.calibration is not None:
                probabilities = self.probabilities(rows, unknown_prior)
                columns["probability"][valid] = probabilities[np.arange(len(rows)), nearest.identity]
            for row, reason in described.reasons().items():
                columns["reason"][row] = reason
        return faces.assign(**{name: pd.Series(column, dtype=column.dtype) for name, column in columns.items()})


def new_retriever(retriever: NearestImageRetriever | None) -> NearestImageRetriever:
    """Return an unfitted retriever for a gallery, by the parameter of `FaceIdentifier`."""
    new = NearestImageRetriever() if retriever is None else clone(retriever)
    for name, instead in (("featurizer", "give it to FaceIdentifier"), ("reranker", "its distances are no scores")):
        if getattr(new, name) is not None:
            raise ValueError(f"retriever must have {name}=None, got {getattr(new, name)!r}: {instead}")
    return new


def check_one_identity_each(rows: np.ndarray, names: np.ndarray, places: np.ndarray) -> None:
    """Refuse an image that is there by two names; `places` are the positions of the rows in X."""
    twice = same_image_of_two(rows, pd.factorize(names)[0])
    if twice is not None:
        (i, name_i), (j, name_j) = ((places[row], names[row]) for row in twice)
        raise ValueError(
            f"X[{i}] and X[{j}] are the same image, but y says that one is {plain(name_i)!r} and the other "
            f"{plain(name_j)!r}: one person would be there twice; leave one out, or correct the names"
        )


def gallery_sources(X: Any, rows: np.ndarray) -> pd.DataFrame:
    """Return the metadata of a gallery of some rows of X: the paths of images, where they have one."""
    names = source_names(X)
    return pd.DataFrame(
        {"source": np.full(np.count_nonzero(rows), None) if names is None else names[rows]}, dtype=object
    )


def flat_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a `FaceIdentifier` with its gallery as arrays and numbers, which a file can hold."""
    state = dict(state)
    identities = state.pop("_identities", None)
    if identities is None:
        return state
    own = {
        "_codes": identities.codes,
        "_nonmated": identities.nonmated,
        "_threshold": identities.open_set.threshold,
        "_calibration": identities.open_set.calibration,
    }
    return state | ({name: hold(value) for name, value in own.items()} if is_saving() else own)


def gathered_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of which `flat_state` was made."""
    if "_codes" not in state:
        return state
    own = {
        name: state[name]
        for name in ("_codes", "_nonmated", "_strangers", "_threshold", "_calibration")
        if name in state
    }
    calibration = own["_calibration"]
    open_set = OpenSet(
        threshold=own["_threshold"],
        fpir=state["fpir_"],
        fpir_interval=state["fpir_interval_"],
        fnir=state["fnir_"],
        fnir_interval=state["fnir_interval_"],
        n_mated=state["n_mated_"],
        n_nonmated=state["n_nonmated_"],
        calibration=None if calibration is None else tuple(calibration),
    )
    # Files of the first format say "_strangers".
    nonmated = own["_nonmated"] if "_nonmated" in own else own["_strangers"]
    identities = Identities(state["retriever_"], state["people_"], state["classes_"], own["_codes"], nonmated, open_set)
    return {name: value for name, value in state.items() if name not in own} | {"_identities": identities}
