"""The weights of parts, drawn on an image."""

import io
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from sklearn_psp import NearestImageRetriever, PSPNetFeaturizer
from sklearn_psp._images import resize_image
from sklearn_psp.displays import PartWeightsDisplay
from sklearn_psp.displays._draw_part_weights import _DARK, _LIGHT, _OPACITY, _grey, weight_limits
from sklearn_psp.exceptions import ImageReadError, MissingDependencyError

FAST = {
    "weights": None,
    "image_size": 32,
    "scales": (1.0,),
    "precision": "float32",
    "runtime": "torch",
    "batch_size": 4,
    "device": "cpu",
    "random_state": 0,
}
WEIGHTS = [1.0, 0.5, 1.5, 2.0, 0.0]


def featurizer(bin_sizes=(1, 2), **changes):
    return PSPNetFeaturizer(bin_sizes=bin_sizes, **FAST | {"center": False} | changes)


@pytest.fixture(scope="module")
def fitted():
    return featurizer(part_weights=WEIGHTS).fit()


@pytest.fixture(scope="module")
def image():
    """Dark on the left, light on the right, and not square."""
    image = np.full((20, 50, 3), (20, 30, 10), dtype=np.uint8)
    image[:, 25:] = (240, 250, 230)
    return image


def cells(ax):
    return next(artist for artist in ax.collections if isinstance(artist, PolyCollection))


def boxes(ax):
    """Left, top, right and bottom of each cell."""
    corners = [path.vertices for path in cells(ax).get_paths()]
    return np.array([[*points.min(axis=0), *points.max(axis=0)] for points in corners])


def numbers(ax):
    return [text.get_text() for text in ax.texts]


def warmth(ax):
    """Red less blue of each cell."""
    ax.figure.canvas.draw()
    colours = cells(ax).get_facecolors()
    return colours[:, 0] - colours[:, 2]


def contrast(a, b):
    """Contrast of two colours after the Web Content Accessibility Guidelines."""
    colours = np.array([mpl.colors.to_rgb(a), b])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    dark, light = np.sort(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("part_order", ["raster", "column", "snake"])
@pytest.mark.parametrize("bin_sizes", [(1, 2, 3), ((6, 1),), ((2, 4), (3, 1))])
def test_cells__are_the_boxes_of_parts_with_their_weights(bin_sizes, part_order, image):
    n_parts = featurizer(bin_sizes).fit().n_parts_
    weights = np.random.default_rng(0).uniform(0, 2, n_parts)
    estimator = featurizer(bin_sizes, part_order=part_order, part_weights=weights).fit()
    display = PartWeightsDisplay.from_estimator(estimator, image)
    assert display.axes_.shape == (len(bin_sizes),)
    for level, ax in enumerate(display.axes_):
        here = (estimator.parts_["level"] == level).to_numpy()
        np.testing.assert_allclose(boxes(ax), estimator.parts_.loc[here, ["left", "top", "right", "bottom"]])
        np.testing.assert_array_equal(cells(ax).get_array(), estimator.part_weights_[here])
        np.testing.assert_array_equal(numbers(ax), [f"{weight:.2f}" for weight in estimator.part_weights_[here]])
        middles = (boxes(ax)[:, :2] + boxes(ax)[:, 2:]) / 2
        np.testing.assert_allclose([text.get_position() for text in ax.texts], middles)
        assert ax.get_xlim() == (0, 1)
        assert ax.get_ylim() == (1, 0)


def test_titles__say_level_and_grid():
    display = PartWeightsDisplay.from_estimator(featurizer((1, (6, 1))).fit())
    assert [ax.get_title() for ax in display.axes_] == ["level 0: 1 × 1", "level 1: 6 × 1"]


def test_colours__order_as_weights_do_on_one_scale():
    weights = [1.3, 0.2, 0.6, 1.0, 1.9]
    display = PartWeightsDisplay.from_estimator(featurizer(part_weights=weights).fit(), cmap="bwr")
    warm = np.concatenate([warmth(ax) for ax in display.axes_])
    np.testing.assert_array_equal(np.argsort(warm), np.argsort(weights))
    warm = np.concatenate([warmth(ax) for ax in display.plot().axes_])
    assert abs(warm[3]) < 0.02
    assert (warm[[0, 4]] > 0.02).all()
    assert (warm[[1, 2]] < -0.02).all()


@pytest.mark.parametrize(
    ("weights", "limits"),
    [([1, 1], (0.9, 1.1)), ([1.5, 0.75], (0.5, 1.5)), ([0, 1], (0, 2)), ([1, 5], (0, 5)), ([0.99, 1.01], (0.9, 1.1))],
)
def test_scale__has_1_in_the_middle(weights, limits):
    assert weight_limits(np.array(weights, dtype=float)) == pytest.approx(limits)
    parts = featurizer(((1, 2),)).fit().parts_
    display = PartWeightsDisplay(parts, weights).plot()
    norm = cells(display.axes_[0]).norm
    assert [norm(limits[0]), norm(1), norm(limits[1])] == pytest.approx([0, 0.5, 1])


def test_colorbar__marks_1_and_names_it(fitted):
    display = PartWeightsDisplay.from_estimator(fitted)
    (bar,) = set(display.figure_.axes) - set(display.axes_)
    assert bar.get_ylabel() == "weight (1 = uniform)"
    assert "1" in [label.get_text() for label in bar.get_yticklabels()]
    assert bar.get_ylim() == (0, 2)
    bare = PartWeightsDisplay.from_estimator(fitted, colorbar=False)
    assert bare.figure_.axes == list(bare.axes_)


@pytest.mark.parametrize("with_image", [True, False])
def test_numbers__can_be_read_on_any_cell(with_image, image):
    weights = [1.0, *np.linspace(0, 2, 16)]
    for cmap in ("RdBu_r", "RdBu", "PiYG", "gray"):
        estimator = featurizer((1, 4), part_weights=weights).fit()
        display = PartWeightsDisplay.from_estimator(estimator, image if with_image else None, cmap=cmap)
        ax = display.axes_[1]
        ax.figure.canvas.draw()
        assert {mpl.colors.to_hex(text.get_color()) for text in ax.texts} == {_DARK, _LIGHT}
        for text, fill in zip(ax.texts, cells(ax).get_facecolors()[:, :3], strict=True):
            ground = fill
            if with_image:
                x, y = text.get_position()
                below = _grey(display.image)
                ground = _OPACITY * fill + (1 - _OPACITY) * below[int(y * 32), int(x * 32)]
            assert contrast(text.get_color(), ground) > 4.5


def test_numbers__stay_inside_their_cells_or_are_left_out():
    weights = np.full(1 + 9 + 36 + 400, 10.25)
    display = PartWeightsDisplay.from_estimator(featurizer((1, 3, 6, 20), part_weights=weights).fit(), cell_size=2.5)
    display.figure_.canvas.draw()
    assert [len(ax.texts) for ax in display.axes_] == [1, 9, 36, 0]
    for ax in display.axes_[:3]:
        for text, (left, top, right, bottom) in zip(ax.texts, boxes(ax), strict=True):
            box = text.get_window_extent()
            (x0, y0), (x1, y1) = ax.transData.transform([(left, bottom), (right, top)])
            assert x0 < box.x0 < box.x1 < x1
            assert y0 < box.y0 < box.y1 < y1
    assert not any(ax.texts for ax in display.plot(include_values=False).axes_)
    assert numbers(display.plot(values_format=".1f").axes_[0]) == ["10.2"]


def test_grid_lines__run_around_every_cell(fitted):
    ax = PartWeightsDisplay.from_estimator(fitted).axes_[1]
    lines = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    assert lines
    for line in lines:
        segments = {tuple(map(tuple, segment)) for segment in line.get_segments()}
        assert len(segments) == 12
        assert ((0.5, 0.0), (0.5, 0.5)) in segments


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_image__is_as_the_network_sees_it(resize, image):
    display = PartWeightsDisplay.from_estimator(featurizer(resize=resize, image_size=(32, 64)).fit(), image)
    np.testing.assert_array_equal(display.image, resize_image(image, (32, 64), resize))
    for ax in display.axes_:
        (shown,) = ax.images
        assert shown.get_extent() == [0, 1, 1, 0]
        np.testing.assert_allclose(shown.get_array(), _grey(display.image))
        ax.apply_aspect()
        assert ax.get_window_extent().width == pytest.approx(2 * ax.get_window_extent().height)


def test_image__may_be_whatever_the_featurizer_takes(fitted, image, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    expected = PartWeightsDisplay.from_estimator(fitted, image).image
    for kind in (path, str(path), buffer.getvalue(), Image.open(path)):
        np.testing.assert_array_equal(PartWeightsDisplay.from_estimator(fitted, kind).image, expected)
    grey = PartWeightsDisplay.from_estimator(fitted, image[..., 0]).image
    assert grey.shape == (32, 32, 3)


def test_no_image__is_a_blank_grid_of_the_same_shape(image):
    estimator = featurizer(image_size=(64, 32)).fit()
    blank = PartWeightsDisplay.from_estimator(estimator)
    assert blank.image is None
    assert not any(ax.images for ax in blank.axes_)
    sizes = [
        display.figure_.get_size_inches() for display in (blank, PartWeightsDisplay.from_estimator(estimator, image))
    ]
    np.testing.assert_allclose(*sizes)
    assert PartWeightsDisplay(estimator.parts_, np.ones(5)).image_size == (1, 1)
    assert PartWeightsDisplay(estimator.parts_, np.ones(5), image_size=(3, 4)).image_size == (3, 4)


def test_constructor__takes_tables_arrays_and_large_images(fitted):
    large = np.zeros((600, 1200, 3), dtype=np.uint8)
    display = PartWeightsDisplay(parts=fitted.parts_, part_weights=WEIGHTS, image=large)
    assert not hasattr(display, "axes_")
    assert display.plot() is display
    assert display.image.shape == (256, 512, 3)
    assert display.axes_[0].figure is display.figure_
    some = fitted.parts_.iloc[[4, 2]].set_axis(["x", "y"])
    display = PartWeightsDisplay(some, [3, 4]).plot()
    assert numbers(display.axes_[0]) == ["3.00", "4.00"]
    np.testing.assert_allclose(boxes(display.axes_[0])[:, :2], [[0.5, 0.5], [0.5, 0]])


def test_inputs__are_left_as_they_were(fitted, image):
    parts, unchanged, before = fitted.parts_.copy(), image.copy(), dict(mpl.rcParams)
    PartWeightsDisplay.from_estimator(fitted, image)
    assert fitted.parts_.equals(parts)
    np.testing.assert_array_equal(image, unchanged)
    assert dict(mpl.rcParams) == before
    assert len(plt.get_fignums()) == 1
    display = PartWeightsDisplay(fitted.parts_, fitted.part_weights_, image)
    assert not np.shares_memory(display.image, image)


def test_learned_weights__are_shown():
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    noise[:6, :32, :32] //= 4
    estimator = featurizer((1, 2), part_weights="learned", weights="default", image_size=64)
    estimator.fit(noise, ["dark"] * 6 + ["light"] * 6)
    display = PartWeightsDisplay.from_estimator(estimator, noise[0])
    assert len(set(estimator.part_weights_.tolist())) > 1
    np.testing.assert_array_equal(display.part_weights, estimator.part_weights_)


def test_estimators__are_opened(images, paths):
    labels = ["red", "other"] * 3
    pipeline = Pipeline([("psp", featurizer(part_weights=WEIGHTS)), ("knn", KNeighborsClassifier(1))])
    grid = GridSearchCV(pipeline, {"psp__pooling": ["avg"]}, cv=2)
    for estimator in (
        pipeline.fit(images, labels),
        grid.fit(images, labels),
        FrozenEstimator(pipeline),
        make_pipeline(make_pipeline("passthrough", featurizer(part_weights=WEIGHTS))).fit(images),
        NearestImageRetriever(featurizer=featurizer(part_weights=WEIGHTS)).fit(paths, labels),
    ):
        display = PartWeightsDisplay.from_estimator(estimator, images[1])
        np.testing.assert_array_equal(display.part_weights, WEIGHTS)


@pytest.mark.parametrize(
    "estimator",
    [
        featurizer(),
        make_pipeline(featurizer(), NearestImageRetriever()),
        NearestImageRetriever(featurizer=featurizer()),
        GridSearchCV(featurizer(), {}),
    ],
    ids=["featurizer", "pipeline", "gallery", "search"],
)
def test_unfitted__is_refused(estimator):
    with pytest.raises(NotFittedError):
        PartWeightsDisplay.from_estimator(estimator)


@pytest.mark.parametrize(
    "estimator", [KNeighborsClassifier(), NearestImageRetriever(), make_pipeline(KNeighborsClassifier())]
)
def test_other_estimators__are_refused(estimator):
    with pytest.raises(TypeError, match=f"there is none in {type(estimator).__name__}"):
        PartWeightsDisplay.from_estimator(estimator)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"part_weights has shape \(2,\), but parts has 5 rows"),
        (np.ones((5, 1)), r"shape \(5, 1\)"),
        ([1, 1, np.nan, 1, 1], r"part_weights\[2\] is nan"),
        ([1, 1, 1, 1, -1], r"part_weights\[4\] is -1"),
    ],
)
def test_wrong_weights__are_refused(fitted, weights, message):
    with pytest.raises(ValueError, match=message):
        PartWeightsDisplay(fitted.parts_, weights)


def test_wrong_parts__are_refused(fitted):
    with pytest.raises(TypeError, match=r"must be a DataFrame such as .*got dict"):
        PartWeightsDisplay({}, [])
    with pytest.raises(ValueError, match="has no column 'top'"):
        PartWeightsDisplay(fitted.parts_.drop(columns="top"), WEIGHTS)
    with pytest.raises(ValueError, match="no rows"):
        PartWeightsDisplay(fitted.parts_.iloc[:0], [])


def test_wrong_image__is_refused(fitted):
    with pytest.raises(ImageReadError, match=r"nowhere\.png.*no such file"):
        PartWeightsDisplay.from_estimator(fitted, "nowhere.png")
    with pytest.raises(ImageReadError, match="a list is not an image"):
        PartWeightsDisplay.from_estimator(fitted, [Path("a.png"), Path("b.png")])
    with pytest.raises(ImageReadError, match="bytes"):
        PartWeightsDisplay(fitted.parts_, WEIGHTS, b"not images")
    assert not plt.get_fignums()


def test_wrong_options__are_refused(fitted):
    display = PartWeightsDisplay(fitted.parts_, WEIGHTS)
    with pytest.raises(ValueError, match="cell_size"):
        display.plot(cell_size=0)
    with pytest.raises(ValueError, match="include_values"):
        PartWeightsDisplay.from_estimator(fitted, include_values="some")
    figure, axes = plt.subplots(1, 3)
    with pytest.raises(ValueError, match="each of the 2 levels, got 3"):
        display.plot(ax=axes)
    with pytest.raises(ValueError, match="not both"):
        display.plot(ax=axes[:2], figure=figure)


def test_axes_and_figures__are_drawn_into(fitted, image):
    figure = mpl.figure.Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots(2, 1)
    display = PartWeightsDisplay.from_estimator(fitted, image, ax=axes)
    assert list(display.axes_) == list(axes)
    assert display.figure_ is left
    assert len(left.axes) == 3
    assert display.plot(figure=right).figure_ is right
    assert len(right.axes) == 3
    figure.canvas.draw()
    one = PartWeightsDisplay(fitted.parts_[:1], [1]).plot(ax=mpl.figure.Figure().subplots())
    assert one.axes_.shape == (1,)
    tiny = mpl.figure.Figure(figsize=(0.5, 0.3))
    display.plot(figure=tiny)
    tiny.canvas.draw()
    assert not plt.get_fignums()


@pytest.mark.parametrize(("n_levels", "image_size"), [(1, 32), (4, (32, 128)), (5, (96, 32)), (9, 32)])
def test_panels__do_not_overlap_and_stay_in_the_figure(n_levels, image_size, image):
    estimator = featurizer(tuple(range(1, n_levels + 1)), image_size=image_size).fit()
    display = PartWeightsDisplay.from_estimator(estimator, image)
    display.figure_.canvas.draw()
    areas = [ax.get_tightbbox() for ax in display.figure_.axes]
    assert len(areas) == n_levels + 1
    width, height = display.figure_.bbox.size
    for i, area in enumerate(areas):
        assert 0 <= area.x0 < area.x1 <= width
        assert 0 <= area.y0 < area.y1 <= height
        assert not any(area.overlaps(other) for other in areas[:i])


def test_import__loads_no_matplotlib_and_says_what_is_missing(fitted, monkeypatch):
    code = "import sys; from sklearn_psp.displays import PartWeightsDisplay; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"PartWeightsDisplay needs .*sklearn_psp\[plot\]"):
        PartWeightsDisplay.from_estimator(fitted)
