"""
A program in the style of Keras, line by line
=============================================

Many arrive with a program of this form: a list of image paths, gone through in batches; a network with a number of
classes; `compile`, `fit` with validation data, `evaluate`, `predict`. Here is the line for each of its lines.
"""

# %%
# The program:
#
# .. code-block:: python
#
#    model = PSPNet(num_classes=20)
#    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
#    data = np.stack([load(path, (224, 224)) / 255 for path in image_paths])  # or in batches, by a generator
#    history = model.fit(data, to_categorical(labels), epochs=15, validation_data=(val_data, val_labels))
#    plot(history.history["loss"], history.history["val_loss"])
#    loss, accuracy = model.evaluate(val_data, val_labels)
#    predictions = model.predict(val_data).argmax(axis=1)
#    model.save("model.keras")
#
# and the counterpart of each of its lines:
#
# ==============================  ==================================================================================
# the program                     here
# ==============================  ==================================================================================
# `PSPNet(num_classes=20)`        `PSPNetClassifier(...)`; the classes are those of the labels
# `compile(optimizer="adam")`     `optimizer="adam"`, a parameter
# `loss=...`                      `loss="categorical_crossentropy"`, a parameter
# `metrics=["accuracy"]`          `metrics=["accuracy"]`, a parameter
# `load(path, (224, 224)) / 255`  nothing: X is the list of paths, read in batches; `image_size` is a parameter
# `to_categorical(labels)`        nothing: labels as they are; of one-hot rows `labels.argmax(axis=1)`
# `fit(..., epochs=15)`           `epochs=15`, a parameter
# `validation_data=...`           `fit(data, labels, validation_data=(val_data, val_labels))`
# `history.history["loss"]`       `model.history_["loss"]`, a column of a DataFrame
# `evaluate(...)`                 `model.score(...)`, and `log_loss(labels, model.predict_proba(...))`
# `predict(...)`                  `model.predict_proba(...)`
# `predict(...).argmax(axis=1)`   `model.predict(...)`, which gives labels
# `save("model.keras")`           `save(model, "model.skops")`
# ==============================  ==================================================================================
#
# Image paths and labels
# ----------------------
#
# Twenty photographs are the classes. Seven distorted copies of each are learned from, seven others are the validation
# data: files in a folder, as such a program finds them.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from PIL import Image
from sklearn.metrics import log_loss

from sklearn_psp import PSPNetClassifier, load, save
from sklearn_psp.datasets import load_photographs, make_distorted_copies

folder = tempfile.TemporaryDirectory()
photographs = load_photographs()


def write_copies(name, seed):
    """Write copies of all photographs; return a table of paths, labels and kinds of distortion."""
    copies = make_distorted_copies(photographs.filenames, photographs.target_names, random_state=seed)
    table = pd.DataFrame({"label": copies.target, "kind": copies.kind})
    table["path"] = [str(Path(folder.name, f"{name}-{i}.jpg")) for i in range(len(table))]
    for path, image in zip(table["path"], copies.images, strict=True):
        Path(path).write_bytes(image)
    return table


# data = np.stack([load(path, (224, 224)) / 255 for path in image_paths])
training, validation = write_copies("training", 0), write_copies("validation", 1)
data, labels = training["path"], training["label"]
val_data, val_labels = validation["path"], validation["label"]
training.drop(columns="path").head(3)

# %%
# Compile
# -------
#
# There is no such step: how the model is trained are parameters of the estimator, so that `GridSearchCV` reaches them.
# (Small images in one scale, and no measuring which precision is fastest here: the example is to run in seconds.)

# model = PSPNet(num_classes=20)
# model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
model = PSPNetClassifier(
    optimizer="adam",
    loss="categorical_crossentropy",
    metrics=["accuracy"],
    epochs=15,
    batch_size=32,
    image_size=128,
    scales=(1.0,),
    precision="float32",
    random_state=0,
)

# %%
# Fit
# ---
#
# Only the head is trained, on features of a network that knows photographs already: it reads and describes each image
# once, and the epochs take seconds. `train="all"` trains every layer, as a network that was built from nothing needs.
# The history is a DataFrame, and the model of the best epoch is kept.

# history = model.fit(data, to_categorical(labels), epochs=15, validation_data=(val_data, val_labels))
model.fit(data, labels, validation_data=(val_data, val_labels))
model.history_.round(3)

# %%
# The loss of the training images is taken with some of the parts left out (`part_dropout`), that of the validation
# data with all of them.

# plot(history.history["loss"], history.history["val_loss"])
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
model.history_.plot(x="epoch", y=["loss", "val_loss"], ax=left, ylabel="cross-entropy")
model.history_.plot(x="epoch", y=["accuracy", "val_accuracy"], ax=right, ylabel="accuracy")
plt.show()

# %%
# Evaluate
# --------

# loss, accuracy = model.evaluate(val_data, val_labels)
print(f"loss: {log_loss(val_labels, model.predict_proba(val_data), labels=model.classes_):.3f}")
print(f"accuracy: {model.score(val_data, val_labels):.3f}")
print(f"best epoch: {model.best_epoch_}")

# %%
# Predict
# -------
#
# Columns of probabilities are in the order of `classes_`. With pandas beside it, one line says which kind of copy is
# hard:

# predictions = model.predict(val_data).argmax(axis=1)
probabilities = pd.DataFrame(model.predict_proba(val_data), columns=model.classes_)
validation["predicted"] = model.predict(val_data)
validation["probability"] = probabilities.max(axis=1).round(3)
(validation["predicted"] == validation["label"]).groupby(validation["kind"]).mean().round(3)

# %%
# The images that the model is least sure of. Most are close-ups, a sixteenth of the photograph:

least = validation.sort_values("probability").head(6)
figure, axes = plt.subplots(1, 6, figsize=(9, 2.1), layout="constrained")
for ax, row in zip(axes, least.itertuples(), strict=True):
    ax.imshow(Image.open(row.path).resize((128, 128)))
    truth = "right" if row.predicted == row.label else f"is {row.label}"
    ax.set_title(f"{row.predicted} {row.probability:.2f}\n{truth}", fontsize=9)
    ax.set_axis_off()
plt.show()

# %%
# Save
# ----
#
# A file without pickle, which holds the head, and the name and hash of the network that it stands on.

# model.save("model.keras")
save(model, Path(folder.name, "model.skops"))
loaded = load(Path(folder.name, "model.skops"))
print((loaded.predict(val_data) == validation["predicted"]).all())
folder.cleanup()
