"""How it is drawn."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sklearn_psp.displays import RetrievalDisplay, ShownQuery, ShownResult
from sklearn_psp.displays._draw import CAPTION, GAP, MARGIN, exact_grid, shorten
from sklearn_psp.exceptions import MissingDependencyError


def query(n_results=2, **changes):
    image = np.full((6, 12, 3), 200, dtype=np.uint8)
    results = [
        ShownResult(**{"image": image, "id": f"id {i}", "distance": i / 8, "label": None, "right": None} | changes)
        for i in range(n_results)
    ]
    return ShownQuery(image, "a query", results, "cat")


def texts(ax):
    return ax.get_xlabel().split("\n")


def test_axes__one_row_a_query_and_the_query_first():
    display = RetrievalDisplay([query(3), query(1), query(0)])
    assert display.plot() is display
    assert display.ax_.shape == (3, 4)
    assert isinstance(display.figure_, mpl.figure.Figure)
    assert [[ax.get_visible() for ax in row] for row in display.ax_] == [
        [True] * 4,
        [True, True, False, False],
        [True, False, False, False],
    ]
    assert all(ax.figure is display.figure_ for ax in display.ax_.flat)


def test_captions__have_distance_and_label_or_id():
    display = RetrievalDisplay([query(2, distance=0.12345, label="dog")]).plot()
    assert texts(display.ax_[0, 0]) == ["a query", "cat"]
    assert texts(display.ax_[0, 1]) == ["0.123", "dog"]
    assert texts(RetrievalDisplay([query()]).plot().ax_[0, 2]) == ["0.125", "id 1"]
    long = texts(RetrievalDisplay([query(label="a very long name " * 3 + "and its end")]).plot().ax_[0, 1])[1]
    assert long.startswith("a very")
    assert long.endswith("its end")
    assert len(long) < 30


def test_right_and_wrong__differ_in_more_than_colour():
    colours, marks = {}, {}
    for right in (True, False, None):
        ax = RetrievalDisplay([query(1, right=right)]).plot().ax_[0, 1]
        colours[right] = mpl.colors.to_hex(ax.spines["left"].get_edgecolor())
        marks[right] = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert len(set(colours.values())) == 3
    assert marks == {True: ["right"], False: ["wrong"], None: []}


def test_missing_image__is_an_empty_box_with_its_id():
    display = RetrievalDisplay([query(2, image=None, id="$lost_")]).plot()
    assert not display.ax_[0, 1].images
    assert [text.get_text() for text in display.ax_[0, 1].texts] == ["$lost_"]
    display.figure_.canvas.draw()
    boxes = [ax.get_window_extent() for ax in display.ax_[0]]
    np.testing.assert_allclose([box.width for box in boxes], [box.height for box in boxes], rtol=1e-3)


@pytest.mark.parametrize("shape", [(6, 12), (12, 6), (1, 40), (9, 9)])
def test_image__keeps_its_aspect_in_a_square(shape):
    display = RetrievalDisplay([query(1, image=np.zeros((*shape, 3), np.uint8))]).plot()
    display.figure_.canvas.draw()
    ax = display.ax_[0, 1]
    left, right, bottom, top = ax.images[0].get_extent()
    assert (right - left, bottom - top) == shape[::-1]
    assert ax.get_window_extent().width == pytest.approx(ax.get_window_extent().height)
    assert ax.get_aspect() == 1


def test_sources__are_read_when_drawn(paths):
    found = ShownResult(paths[0], "a", 0.0)
    display = RetrievalDisplay([ShownQuery(paths[1], "b", [found])]).plot()
    assert all(len(ax.images) == 1 for ax in display.ax_.flat)


@pytest.mark.parametrize(("n_queries", "n_results"), [(1, 1), (1, 10), (10, 1), (10, 10)])
def test_boxes__do_not_overlap_and_stay_in_the_figure(n_queries, n_results):
    display = RetrievalDisplay([query(n_results, right=True)] * n_queries).plot()
    display.figure_.canvas.draw()
    boxes = [ax.get_tightbbox() for ax in display.ax_.flat]
    width, height = display.figure_.bbox.size
    assert min(box.x0 for box in boxes) >= 0
    assert min(box.y0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= width
    assert max(box.y1 for box in boxes) <= height
    grid = np.array(boxes, dtype=object).reshape(*display.ax_.shape, 2, 2)
    assert (grid[:, :-1, 1, 0] < grid[:, 1:, 0, 0]).all()
    assert (grid[:-1, :, 0, 1] > grid[1:, :, 1, 1]).all()


def test_figure__is_drawn_into(gallery, paths):
    figure = mpl.figure.Figure(figsize=(6, 4))
    assert RetrievalDisplay([query()]).plot(figure=figure).figure_ is figure
    left, right = mpl.figure.Figure(figsize=(8, 4), layout="constrained").subfigures(1, 2)
    display = RetrievalDisplay.from_estimator(gallery, paths, figure=right, n_queries=2, n_neighbors=2)
    assert display.figure_ is right
    assert len(right.axes) == 6
    assert not left.axes
    assert not plt.get_fignums()
    tiny = mpl.figure.Figure(figsize=(0.5, 0.3))
    RetrievalDisplay([query(), query()]).plot(figure=tiny)
    tiny.canvas.draw()


def test_settings__are_left_alone(gallery, paths):
    before = dict(mpl.rcParams)
    RetrievalDisplay.from_estimator(gallery, paths)
    assert dict(mpl.rcParams) == before
    assert len(plt.get_fignums()) == 1
    with mpl.rc_context({"figure.constrained_layout.use": True, "font.family": "monospace"}):
        RetrievalDisplay([query()]).plot().figure_.canvas.draw()


def test_cell_size__sets_the_size_of_a_new_figure():
    small, large = (RetrievalDisplay([query()]).plot(cell_size=size).figure_.get_size_inches() for size in (1, 2))
    np.testing.assert_allclose(large - small, [3, 1])
    with pytest.raises(ValueError, match="cell_size"):
        RetrievalDisplay([query()]).plot(cell_size=0)


def test_no_queries__is_an_empty_figure():
    assert RetrievalDisplay([]).plot().ax_.shape == (0, 1)


@pytest.mark.parametrize("size", [(9, 3), (3, 9)])
def test_grid_in_a_given_figure__keeps_fixed_sizes_and_shares_the_rest(size):
    figure = mpl.figure.Figure(figsize=size)
    widths, heights = [None, GAP, None, 1.0], [None, CAPTION]
    _, grid, cell = exact_grid(figure, widths, heights, (5.0, 5.0), owner="a test")
    figure.add_subplot(grid[0, 0])
    figure.add_subplot(grid[1, 3])
    boxes = [ax.get_position().transformed(mpl.transforms.Affine2D().scale(*size)) for ax in figure.axes]
    np.testing.assert_allclose(boxes[0].size, cell)
    np.testing.assert_allclose(boxes[1].size, (1.0, CAPTION))
    np.testing.assert_allclose(cell, ((size[0] - 2 * MARGIN - GAP - 1) / 2, size[1] - 2 * MARGIN - CAPTION))


def test_shorten__keeps_both_ends():
    assert shorten("short", 5) == "short"
    assert shorten("a/long/path/cat.jpg", 9) == "a/lo….jpg"
    assert shorten("two\nlines", 20) == "two lines"


def test_import__loads_no_matplotlib_and_says_what_is_missing(monkeypatch):
    code = "import sys, sklearn_psp.displays; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingDependencyError, match=r"RetrievalDisplay needs .*sklearn_psp\[plot\]"):
        RetrievalDisplay([query()]).plot()
