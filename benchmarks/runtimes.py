"""What another runtime or precision does to retrieval: mAP on four sets, beside torch in float32.

    python benchmarks/runtimes.py

Every row describes the same images with the same weights (EfficientNet-Lite0, defaults), and searches leave-one-out.
Cosine is the smallest between an image's descriptor and that of torch in float32, before centring.
"""

from __future__ import annotations

import numpy as np
from _report import save, table
from _sets import load_sets

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer

_SETTINGS = [("torch", "float32"), ("torch", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16")]


def main():
    """Describe every set in every way, and compare."""
    sets = load_sets()
    rows, results = [], {}
    reference = {}
    for runtime, precision in _SETTINGS:
        row = [f"{runtime}, {precision}"]
        for name, (paths, labels) in sets.items():
            featurizer = PSPNetFeaturizer(runtime=runtime, precision=precision, center=False)
            raw = featurizer.fit_transform(paths)
            expected = reference.setdefault(name, raw)
            mean = raw.mean(axis=0) * len(raw) / (len(raw) + 50)
            centred = raw - mean
            retriever = NearestImageRetriever().fit(centred, labels)
            score = retriever.score()
            cosine = float(np.einsum("ij,ij->i", raw, expected).min())
            results[f"{runtime} {precision} {name}"] = {
                "mAP": score,
                "cosine": cosine,
                "largest difference": float(np.abs(raw - expected).max()),
            }
            row += [score, f"{cosine:.5f}"]
        rows.append(row)
    header = ["", *(text for name in sets for text in (f"{name} mAP", "cosine"))]
    print(table(header, rows))
    largest = max(
        abs(results[f"{r} {p} {name}"]["mAP"] - results[f"torch float32 {name}"]["mAP"])
        for r, p in _SETTINGS
        for name in sets
    )
    print(f"\nlargest difference of mAP to torch, float32: {largest:.4f}; target at most 0.003")
    save("runtimes", results)


if __name__ == "__main__":
    main()
