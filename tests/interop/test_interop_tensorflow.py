"""A real `tf.data.Dataset` wherever an iterable of batches is taken."""

from __future__ import annotations

import numpy as np
import pytest
from common.colours import colours, quick
from common.networks import FAST, TinyNet
from PIL import Image

from sklearn_psp import PSPNetFeaturizer
from sklearn_psp._images import is_labelled_stream, labelled_batches, read_batches
from sklearn_psp.exceptions import ImageInputError, ImageReadError

N = 10
SIZE = (32, 24)
LABELS = np.arange(N) % 3
PIXELS = np.random.default_rng(0).integers(0, 256, (N, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = [str(folder / f"{i:02}ü.png") for i in range(N)]
    for path, pixels in zip(paths, PIXELS, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def slices(tf, *members):
    return tf.data.Dataset.from_tensor_slices(members if len(members) > 1 else members[0])


STREAMS = {
    "images": lambda tf, paths: slices(tf, PIXELS).batch(4),
    "images and labels": lambda tf, paths: slices(tf, PIXELS, LABELS).batch(4),
    "images, labels and weights": lambda tf, paths: slices(tf, PIXELS, LABELS, LABELS * 0.5).batch(4),
    "floats": lambda tf, paths: slices(tf, PIXELS / np.float32(255)).batch(4),
    "half floats": lambda tf, paths: slices(tf, tf.image.convert_image_dtype(PIXELS, tf.float16)).batch(4),
    "ragged": lambda tf, paths: slices(tf, PIXELS, LABELS).ragged_batch(4),
    "paths": lambda tf, paths: slices(tf, paths).batch(4),
    "paths and labels": lambda tf, paths: slices(tf, paths, LABELS).batch(4),
    "contents": lambda tf, paths: slices(tf, paths).map(tf.io.read_file).batch(4),
    "files": lambda tf, paths: tf.data.Dataset.list_files(paths, shuffle=False).batch(4).prefetch(1),
    "decoded": lambda tf, paths: slices(tf, paths).map(lambda p: tf.io.decode_png(tf.io.read_file(p))).batch(3),
}


@pytest.mark.parametrize("stream", STREAMS)
def test_data_sets_give_the_same_pixels(tf, paths, stream):
    X = STREAMS[stream](tf, paths)
    for _ in range(2):
        read = [batch.images for batch in read_batches(X, batch_size=4, image_size=SIZE)]
        difference = np.concatenate(read).astype(int) - PIXELS
        assert np.abs(difference).max() <= (stream == "half floats")


def test_images_of_different_sizes_come_ragged(tf):
    grown = [np.ascontiguousarray(PIXELS[i, : 8 + i, : 20 - i]) for i in range(5)]
    spec = tf.TensorSpec((None, None, 3), tf.uint8)
    X = tf.data.Dataset.from_generator(lambda: iter(grown), output_signature=spec).ragged_batch(2)
    expected, read = (
        np.concatenate([b.images for b in read_batches(x, batch_size=5, image_size=SIZE)]) for x in (grown, X)
    )
    np.testing.assert_array_equal(read, expected)


def test_featurizer_takes_data_sets_in_all_its_verbs(tf, paths):
    X = STREAMS["images and labels"](tf, paths)
    expected = PSPNetFeaturizer(TinyNet(), **FAST).fit_transform(PIXELS)
    featurizer = PSPNetFeaturizer(TinyNet(), **FAST).fit(X)
    np.testing.assert_allclose(featurizer.transform(X), expected, atol=1e-6)
    np.testing.assert_allclose(featurizer.fit_transform(STREAMS["paths"](tf, paths)), expected, atol=1e-6)
    assert featurizer.transform_parts(X).shape == (N, 14, 12)


@pytest.mark.parametrize("labels", ["numbers", "strings", "column"])
def test_labels_come_with_their_images(tf, labels):
    given = {"numbers": LABELS, "strings": np.array(["cat", "dog", "hôtel"])[LABELS], "column": LABELS[:, None]}[labels]
    X = slices(tf, PIXELS, given).shuffle(N, seed=0).batch(4)
    assert is_labelled_stream(X)
    for _ in range(2):
        seen = 0
        for images, of_batch in labelled_batches(X):
            (batch,) = read_batches(images, batch_size=4, image_size=SIZE)
            rows = [int(np.flatnonzero((image == PIXELS).all(axis=(1, 2, 3)))[0]) for image in batch.images]
            np.testing.assert_array_equal(of_batch, given.reshape(-1)[rows])
            assert of_batch.dtype.kind == given.dtype.kind
            seen += len(rows)
        assert seen == N


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tf: slices(tf, PIXELS), r"single image \(<array \(32, 24, 3\) uint8>\): pass X.batch\(32\)"),
        (lambda tf: slices(tf, PIXELS[..., 0]), r"single image .*pass X.batch\(32\)"),
        (lambda tf: slices(tf, PIXELS, LABELS), r"single image with its label: pass X.batch\(32\)"),
        (lambda tf: slices(tf, ["a.jpg"]), r"single image \('a.jpg'\): pass X.batch\(32\)"),
        (lambda tf: slices(tf, PIXELS).repeat().batch(2), r"repeats forever: leave .repeat\(\) out"),
        (
            lambda tf: slices(tf, {"image": PIXELS, "label": LABELS}).batch(2),
            r"a dict with the keys \['image', 'label'\]",
        ),
        (lambda tf: slices(tf, PIXELS).take(0).batch(2), r"yielded no batch: Found array with 0 sample\(s\)"),
    ],
    ids=["images", "grey", "pairs", "paths", "endless", "dict", "empty"],
)
def test_other_data_sets_are_refused_with_the_remedy(tf, make, message):
    with pytest.raises(ImageInputError, match=message):
        list(read_batches(make(tf), batch_size=4, image_size=SIZE))
    with pytest.raises(ImageInputError, match=message):
        list(labelled_batches(make(tf)))


def test_one_hot_labels_name_the_remedy(tf):
    with pytest.raises(ImageInputError, match=r"shape \(4, 3\), one-hot: pass labels.argmax\(axis=1\)"):
        list(labelled_batches(slices(tf, PIXELS, tf.one_hot(LABELS, 3)).batch(4)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_image_dataset_from_directory_gives_levels_as_floats_and_needs_a_cast(tf, keras, tmp_path):
    for name, pixels in zip("ab", PIXELS, strict=False):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "x.png")
    X = keras.utils.image_dataset_from_directory(tmp_path, image_size=SIZE, shuffle=False, verbose=False)
    with pytest.raises(ImageReadError, match=r"floats must lie in \[0, 1\], .* pass uint8 levels"):
        list(read_batches(X, batch_size=4, image_size=SIZE))
    X = X.map(lambda images, labels: (tf.cast(tf.round(images), tf.uint8), labels))
    ((batch_images, labels),) = labelled_batches(X)
    (batch,) = read_batches(batch_images, batch_size=4, image_size=SIZE)
    np.testing.assert_array_equal(batch.images, PIXELS[:2])
    assert labels.tolist() == [0, 1]


def test_pydataset_of_keras_is_an_iterable_of_batches(keras):
    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return PIXELS[5 * i : 5 * i + 5], LABELS[5 * i : 5 * i + 5]

    X = Data()
    assert is_labelled_stream(X)
    read = [batch.images for batch in read_batches(X, batch_size=4, image_size=SIZE)]
    np.testing.assert_array_equal(np.concatenate(read), PIXELS)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in labelled_batches(X)]), LABELS)


@pytest.mark.parametrize("train", ["head", "all"])
def test_classifier_is_trained_on_a_data_set(tf, train):
    X, y = colours(24)
    names = slices(tf, X, y).shuffle(24, seed=0).batch(8)
    held_out = slices(tf, *colours(12, seed=1)).batch(5)
    model = quick(train, epochs=8).fit(names, validation_data=held_out)
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.history_["val_accuracy"].iloc[model.best_epoch_ - 1] == model.score(*colours(12, seed=1)) == 1.0
    np.testing.assert_allclose(model.predict_proba(slices(tf, X).batch(7)), model.predict_proba(X), atol=1e-5)
