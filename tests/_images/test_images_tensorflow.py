"""Data sets of TensorFlow and Keras, by stand-ins that can do what theirs can; tests/interop has the real ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sklearn_psp._images import as_images, is_labelled_stream, labelled_batches, read_batches
from sklearn_psp._images._pixels import path_or_content, plain
from sklearn_psp.exceptions import ImageInputError, ImageReadError

SIZE = (8, 9)


class DType:
    """Of TensorFlow: NumPy cannot read it."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"<dtype: {self.name!r}>"


class Eager:
    """An eager tensor."""

    def __init__(self, value):
        self._value = np.asarray(value, dtype=object if isinstance(value, (bytes, list)) else None)
        self.shape = self._value.shape
        self.dtype = DType("string" if self._value.dtype == object else self._value.dtype.name)

    def numpy(self):
        return self._value if self._value.ndim else self._value[()]

    def __array__(self, dtype=None, copy=None):
        return self._value


class Ragged:
    """A ragged tensor: rows of different sizes."""

    dtype = DType("uint8")

    def __init__(self, rows):
        self._rows = rows
        self.shape = (len(rows), None, None, 3)

    def numpy(self):
        raise AssertionError("its NumPy form is an object array of object arrays")

    def to_tensor(self):
        return Eager(self._rows[0])

    def __iter__(self):
        return iter([Ragged([row]) for row in self._rows])


class DataSet:
    """A `tf.data.Dataset`."""

    element_spec = None

    def __init__(self, elements, cardinality=-2):
        self._elements, self._cardinality = elements, cardinality

    def __iter__(self):
        return iter(self._elements)

    def batch(self, size):
        raise AssertionError("nobody asked for it")

    def cardinality(self):
        return Eager(np.array(self._cardinality)).numpy()


class PyDataset:
    """A `keras.utils.PyDataset` of Keras 3.3, which cannot be iterated."""

    def __init__(self, batches):
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, i):
        return self._batches[i % len(self._batches)]  # it need not raise IndexError

    def on_epoch_end(self):
        raise AssertionError("that is the trainer's to call")


def read(X):
    return np.concatenate([batch.images for batch in read_batches(X, batch_size=4, image_size=SIZE)])


@pytest.fixture(scope="module")
def expected(noise):
    return np.stack([noise(*SIZE, 3, seed=i) for i in range(10)])


@pytest.fixture
def files(expected, tmp_path):
    """Paths and contents of PNG files."""
    paths = [tmp_path / f"ü{i}.png" for i in range(10)]
    for path, pixels in zip(paths, expected, strict=True):
        Image.fromarray(pixels).save(path)
    return [str(path).encode() for path in paths], [path.read_bytes() for path in paths]


def cut(array):
    return [array[:4], array[4:8], array[8:]]


FORMS = {
    "images": lambda b, y: Eager(b),
    "(images, labels)": lambda b, y: (Eager(b), Eager(y)),
    "(images, one-hot labels)": lambda b, y: (Eager(b), Eager(np.eye(10)[y])),
    "(images, labels, weights)": lambda b, y: (Eager(b), Eager(y), Eager(y * 0.5)),
    "floats": lambda b, y: Eager(b / np.float32(255)),
    "ragged": lambda b, y: (Ragged(list(b)), Eager(y)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [DataSet, PyDataset])
def test_batches_of_images_give_the_same_pixels_twice(expected, form, kind):
    X = kind([FORMS[form](b, y) for b, y in zip(cut(expected), cut(np.arange(10)), strict=True)])
    for _ in range(2):
        np.testing.assert_array_equal(read(X), expected)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("which", ["paths", "contents"])
def test_strings_are_paths_or_encoded_images(expected, files, which, labelled):
    batches = [Eager(strings) for strings in cut(files[which == "contents"])]
    X = DataSet([(batch, Eager(np.arange(len(batch.numpy())))) for batch in batches] if labelled else batches)
    np.testing.assert_array_equal(read(X), expected)


def test_tensors_by_themselves_are_collections_too(expected, files):
    np.testing.assert_array_equal(read(Eager(expected)), expected)
    np.testing.assert_array_equal(read(Eager(files[0])), expected)
    np.testing.assert_array_equal(read(Ragged(list(expected))), expected)


def test_a_list_of_tensors_is_read_and_described(expected):
    images = as_images([Eager(image) for image in expected])
    np.testing.assert_array_equal(read(images), expected)
    assert images.describe(0) == "<array (8, 9, 3) uint8>"


@pytest.mark.parametrize("text", ["a.jpg", "BMW/1.jpg", "/x/ü.png", "P1.png", "RIFF.webp", "s3://a b"])
def test_paths_are_text(text):
    assert path_or_content(text.encode()) == text


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000"])
def test_contents_are_bytes(encode, file_format):
    image = Image.new("RGB", (40, 30), (97, 98, 99))  # letters, where pixels are not compressed
    data = encode(image, file_format)
    assert path_or_content(data) is data


@pytest.mark.parametrize("data", [b"", b"\xff\xfe.jpg", b"P3\n1 1\n255\n9 9 9\n", b"a\0b", b"GIF89a..."])
def test_what_cannot_be_a_path_is_bytes(data):
    assert path_or_content(data) is data


def test_other_things_stay_what_they_are(expected):
    for thing in (expected, "a.jpg", [expected], None, {"a": 1}):
        assert plain(thing) is thing


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (Eager(np.zeros((8, 9, 3), np.uint8)), r"single image \(<array \(8, 9, 3\) uint8>\): pass X.batch\(32\)"),
        (Eager(np.zeros((8, 9), np.uint8)), r"single image .*pass X.batch\(32\)"),
        (Eager(b"a.jpg"), r"single image \('a.jpg'\): pass X.batch\(32\)"),
        (Eager(b"\xff\xd8\xff"), r"single image \(<bytes, 3 long>\): pass X.batch\(32\)"),
        ((Eager(np.zeros((8, 9, 3))), Eager(np.array(4))), r"single image with its label: pass X.batch\(32\)"),
        ((Eager(b"a.jpg"), Eager(np.array(4))), r"single image with its label: pass X.batch\(32\)"),
        ({"image": 1, "label": 2}, r"dict with the keys \['image', 'label'\]: yield the batch"),
    ],
    ids=["image", "grey image", "path", "content", "pair", "path and label", "dict"],
)
def test_data_sets_without_batches_name_the_remedy(element, message):
    with pytest.raises(ImageInputError, match=f"item 0 is no batch. It is a {message}"):
        read(DataSet([element]))
    with pytest.raises(ImageInputError, match=f"item 0 is none. It is a {message}"):
        list(labelled_batches(DataSet([element])))


def test_levels_as_floats_are_refused_with_the_remedy(expected):
    with pytest.raises(ImageReadError, match=r"X\[0\].* floats must lie in \[0, 1\], .* pass uint8 levels"):
        read(DataSet([Eager(expected.astype(np.float32))]))


def test_endless_data_sets_are_refused_at_once(expected):
    X = DataSet([Eager(expected)], cardinality=-1)
    for use in (read, lambda X: list(labelled_batches(X))):
        with pytest.raises(ImageInputError, match=r"repeats forever: leave .repeat\(\) out, or pass X.take\(n\)"):
            use(X)


def test_a_pydataset_without_an_end_is_refused(expected):
    class Endless(PyDataset):
        num_batches = None

    with pytest.raises(ImageInputError, match="does not say how many batches it has: give Endless a __len__"):
        read(Endless([Eager(expected)]))


def test_data_sets_are_labelled_streams(expected):
    assert is_labelled_stream(DataSet([]))
    assert is_labelled_stream(PyDataset([]))
    assert not is_labelled_stream(Eager(expected))
    assert not is_labelled_stream(Ragged(list(expected)))


@pytest.mark.parametrize("kind", [DataSet, PyDataset, list])
def test_labels_come_as_they_are_and_strings_as_text(expected, kind):
    names = [b"cat", "hôtel".encode(), b"cat"]
    X = kind([(Eager(expected[:3]), Eager(names)), (Eager(expected[3:5]), Eager(np.array([[0.0], [1.0]])))])
    for _ in range(2):
        (first, texts), (second, column) = labelled_batches(X)
        np.testing.assert_array_equal(read(first), expected[:3])
        np.testing.assert_array_equal(read(second), expected[3:5])
        assert texts.tolist() == ["cat", "hôtel", "cat"]
        assert texts.dtype.kind == "U"
        assert column.tolist() == [0.0, 1.0]
