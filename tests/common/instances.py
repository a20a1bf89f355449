"""The instances of every estimator that the batteries are run on, in one place.

`EXPECTED_FAILURES` maps the name of an instance to {excused check: reason}; every reason names the `check_image_*` that
stands in for it.
"""

from __future__ import annotations

from common.networks import TinyNet
from sklearn_psp import (
    FaceAligner,
    FaceIdentifier,
    FaceVerifier,
    NearestImageRetriever,
    PSPNetClassifier,
    PSPNetFeaturizer,
)

# Small images, one scale: the batteries are about conventions, and the descriptors' quality is tested elsewhere.
_FAST = {"image_size": 32, "scales": (1.0,), "precision": "float32", "batch_size": 8, "device": "cpu"}
# A network of one's own is converted anew for OpenVINO at every fit.
_TINY = _FAST | {"runtime": "torch"}

# scikit-learn's battery hands out tables: image_shape="auto" makes an image of each row. It compares subsets element
# by element, to 1e-4; elements near 0 of a deep network's row do not keep that when batches differ in size (they move
# by 1e-5 of the row's length). Hence one image per pass there; check_image_batch_size_invariance compares whole rows.
TABLE_INSTANCES = {
    "default backbone": PSPNetFeaturizer(image_shape="auto", **(_FAST | {"batch_size": 1})),
    "concat": PSPNetFeaturizer(TinyNet(), image_shape="auto", aggregation="concat", **_TINY),
    "no centre": PSPNetFeaturizer(TinyNet(), image_shape="auto", center=False, on_error="nan", **_TINY),
}

IMAGE_INSTANCES = {
    "default backbone": PSPNetFeaturizer(**_FAST),
    "two scales": PSPNetFeaturizer(TinyNet(), flip=True, **(_TINY | {"scales": (1.0, 1.5)})),
    "concat": PSPNetFeaturizer(TinyNet(), image_shape="auto", aggregation="concat", bin_sizes=(1, (3, 1)), **_TINY),
    "no centre": PSPNetFeaturizer(TinyNet(), center=False, normalize=False, pooling="gem", **_TINY),
}

# The same for the classifier; it reads nothing from `batch_size` but how many images make a step.
_TABLE = {"image_shape": "auto"} | {name: value for name, value in _TINY.items() if name != "batch_size"}
_QUICK = {"train": "all", "epochs": 5, "augment": False, "learning_rate": 1e-2}
_LONG = _TABLE | {"epochs": 30, "learning_rate": 2e-2}
CLASSIFIER_TABLE_INSTANCES = {
    "head": PSPNetClassifier(TinyNet(), **_TABLE),
    "head, no dropout of parts": PSPNetClassifier(TinyNet(), part_dropout=0.0, on_error="nan", **_TABLE),
    "head, concat, reduced": PSPNetClassifier(TinyNet(), aggregation="concat", reduce_dim=4, **_LONG),
    "head, all learned": PSPNetClassifier(TinyNet(), part_weights="learned", bin_sizes=(1, (3, 1)), **_LONG),
    "all": PSPNetClassifier(TinyNet(), **_QUICK, **_TABLE),
}

CLASSIFIER_IMAGE_INSTANCES = {
    "head": PSPNetClassifier(TinyNet(), **(_TABLE | {"image_shape": None})),
    "head, concat, reduced": PSPNetClassifier(TinyNet(), aggregation="concat", reduce_dim=4, **_TABLE),
    "last stage, all learned": PSPNetClassifier(
        TinyNet(), part_weights="learned", **(_QUICK | {"train": "last_stage"}), **_TABLE
    ),
    "all": PSPNetClassifier(TinyNet(), **_QUICK, **_TABLE),
}

# A closed set: strangers have no class of their own in the tables and images of the batteries. Distances, because
# tables have rows of zeros; and `on_error` of the identifier decides about rows of NaN, but the featurizer makes them.
IDENTIFIER_TABLE_INSTANCES = {
    "identifier": FaceIdentifier(None, unknown_label=None, retriever=NearestImageRetriever(metric="euclidean")),
}

IDENTIFIER_IMAGE_INSTANCES = {
    "identifier": FaceIdentifier(
        PSPNetFeaturizer(TinyNet(), center=False, on_error="nan", **_TINY), unknown_label=None
    ),
}

_MODULE = {
    "check_estimators_overwrite_params": "it compares pickles, and that of a copied torch module differs from the "
    "original's; check_image_fit_keeps_params compares the weights"
}
EXPECTED_FAILURES = {"concat": _MODULE, "no centre": _MODULE}
_STEPS = {
    "check_sample_weight_equivalence_on_dense_data": "the steps are random, as those of scikit-learn's own SGD "
    "estimators; check_image_zero_weight_is_left_out compares what does not depend on them"
}
CLASSIFIER_EXPECTED_FAILURES = dict.fromkeys(CLASSIFIER_TABLE_INSTANCES, _MODULE | _STEPS)

# One of every estimator, and of those that search or match also one that takes descriptors: tests/test_refit.py fits
# them again, and fails.
REFIT_INSTANCES = {
    "featurizer": PSPNetFeaturizer(TinyNet(), **_TINY),
    "aligner": FaceAligner(None, size=16),
    "retriever of rows": NearestImageRetriever(3),
    "retriever of images": NearestImageRetriever(3, featurizer=PSPNetFeaturizer(TinyNet(), **_TINY)),
    "classifier": PSPNetClassifier(TinyNet(), epochs=1, random_state=0, **(_TABLE | {"image_shape": None})),
    "verifier of rows": FaceVerifier(None),
    "verifier of images": FaceVerifier(PSPNetFeaturizer(TinyNet(), **_TINY)),
    "identifier of rows": FaceIdentifier(None, fpir=0.1),
    "identifier of images": FaceIdentifier(PSPNetFeaturizer(TinyNet(), **_TINY), fpir=0.1),
}
