"""The page draws what a display draws."""

import numpy as np

from sklearn_psp._cli._output import Page, write_page
from sklearn_psp.displays import ShownQuery, ShownResult


def test_page__shows_images_of_any_kind_each_once(parse_page, tmp_path):
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    results = [ShownResult(image, 7, 0.25, "cat", True), ShownResult(None, "lost", 0.5, "dog", False)]
    queries = [ShownQuery(image, "first", results), ShownQuery(image.copy(), "second", results[1:])]
    page = parse_page(write_page(Page("A title", "Some words.", queries), tmp_path / "page.html"))
    assert page.html.count("data:image/jpeg") == 2
    assert len(page.with_class("query")) == 2
    assert len(page.with_class("right")) == 1
    assert len(page.with_class("wrong")) == 2
    assert len(page.with_class("wrong-first")) == 1
    assert "0.250" in page.text
    assert "lost" in page.text
