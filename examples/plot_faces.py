"""
Faces
=====

Faces are found and aligned, people are enrolled and recognised in other images; thresholds are learned from images
of known people. It needs the extra `faces`. Before you do this with anybody's images, read the page on responsible
use of the user guide.
"""

# %%
# Finding and aligning
# --------------------
#
# One photograph that comes with scikit-image has a face: Eileen Collins, the first woman to command a space shuttle.
# The aligner also finds a fold of her suit; its confidence is low, and the larger face is taken.

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import astronaut

from sklearn_psp import FaceAligner, FaceIdentifier, FaceVerifier
from sklearn_psp.displays import IdentificationDisplay, VerificationDisplay
from sklearn_psp.metrics import far_frr

photograph = astronaut()
aligner = FaceAligner()
(chip,) = aligner.fit_transform([photograph])
plt.figure(figsize=(2, 2))
plt.imshow(chip)
plt.axis("off")
plt.show()
aligner.faces_[["left", "top", "right", "bottom", "confidence", "selected"]].round(2)

# %%
# Same or not
# -----------
#
# No installed package has photographs of many people, so a hundred people are made up here: descriptors that differ
# from image to image, as those of faces do. With images everything is the same, without `featurizer=None`: pairs are
# then two columns of paths.

random = np.random.default_rng(0)
faces = random.normal(size=(100, 32))


def photographs_of(people):
    """Make up a descriptor for each of these people."""
    return faces[people] + 0.55 * random.normal(size=(len(people), 32))


def pairs_of(first, last, n_pairs=4_000):
    """Make up pairs, one in ten of the same person."""
    people = random.integers(first, last, n_pairs)
    others = np.where(random.random(n_pairs) < 0.1, people, random.integers(first, last, n_pairs))
    return np.stack([photographs_of(people), photographs_of(others)], axis=1), people == others


pairs, same = pairs_of(0, 50)
verifier = FaceVerifier(featurizer=None, target=("far", 0.001), random_state=0).fit(pairs, same)
print(f"threshold {verifier.threshold_:.3f}, between {verifier.threshold_interval_[0]:.3f} and", end=" ")
print(f"{verifier.threshold_interval_[1]:.3f}; FAR {verifier.far_:.4f}, FRR {verifier.frr_:.3f}")

# %%
# The rates that count are those on people who had no part in choosing the threshold.

test_pairs, test_same = pairs_of(50, 100)
far, frr = far_frr(test_same, verifier.score_samples(test_pairs), verifier.threshold_)
print(f"on fifty others: FAR {far:.4f}, FRR {frr:.3f}")

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for ax, kind in zip(axes, ("histogram", "det"), strict=True):
    VerificationDisplay.from_estimator(verifier, test_pairs, test_same, kind=kind, ax=ax)
plt.show()

# %%
# Who is it?
# ----------
#
# Forty people are enrolled with three images each. Thirty others are not enrolled and fit the threshold, and another
# thirty are met later. `fpir` is the share of images of people who are not enrolled that may be given a name.

enrolled, others = np.repeat(np.arange(40), 3), np.repeat(np.arange(40, 70), 5)
names = [f"person {i:02d}" for i in enrolled] + ["unknown"] * len(others)
gallery = np.concatenate([photographs_of(enrolled), photographs_of(others)])
identifier = FaceIdentifier(featurizer=None, fpir=0.02).fit(gallery, names)

met = np.repeat(np.arange(70, 100), 5)
named = identifier.predict(photographs_of(met)) != "unknown"
probes = np.repeat(np.arange(40), 5)
found = identifier.predict(photographs_of(probes)) == [f"person {i:02d}" for i in probes]
print(f"not enrolled, but given a name: {named.sum()} of {len(named)}; people found: {found.sum()} of {len(found)}")
identifier.identify(photographs_of([0, 1, 99])).loc[:, ["name", "score", "probability", "runner_up"]].round(3)

# %%
# In a photograph
# ---------------
#
# Images are given as they are: every face of every image is found, described and looked up. With one person there
# is nothing to fit a threshold on; this one `benchmarks/face_matching.py` learned from pairs of other people, for a FAR
# of 0.001.

at_nasa = FaceIdentifier(threshold=0.933).fit([photograph, photograph[:, ::-1]], ["Eileen Collins"] * 2)
darker = (0.6 * photograph).astype(np.uint8)
display = IdentificationDisplay.from_estimator(at_nasa, [photograph, darker[:, ::-1]], n_images=2)
plt.show()
display.faces[["image", "name", "score", "left", "top", "right", "bottom"]].round(2)
