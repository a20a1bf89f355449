"""One self-contained HTML page: each query beside its nearest images."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd
from PIL import Image

from sklearn_psp._cli._template import PAGE, STYLE
from sklearn_psp._images import thumbnail
from sklearn_psp.displays import ShownQuery, ShownResult
from sklearn_psp.utils._progress import progress

__all__ = ["Page", "page_html", "write_page"]


@dataclass(frozen=True)
class Page:
    """What the page shows, from top to bottom.

    Parameters
    ----------
    title : str
        Heading.
    introduction : str
        A paragraph.
    queries : sequence of ShownQuery
        Each query with its nearest images; captions and ids are what people read.
    tables : sequence of (str, DataFrame)
        Tables with their headings.
    unreadable : sequence of (str, str)
        Name and reason of each file that could not be read.
    credits : sequence of (str, str)
        Title and author of each photograph.
    """

    title: str
    introduction: str
    queries: Sequence[ShownQuery]
    tables: Sequence[tuple[str, pd.DataFrame]] = ()
    unreadable: Sequence[tuple[str, str]] = ()
    credits: Sequence[tuple[str, str]] = field(default=())


def write_page(page: Page, path: Path, *, verbose: bool = False) -> Path:
    """Write the page, and the folders it stands in.

    Parameters
    ----------
    page : Page
        What to show.
    path : Path
        The file; one that is there is replaced.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    Path
        Absolute path of the page.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_html(page, verbose=verbose), encoding="utf-8")
    return path.absolute()


def page_html(page: Page, *, verbose: bool = False) -> str:
    """Render the page.

    Parameters
    ----------
    page : Page
        What to show.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    str
        HTML that loads nothing from elsewhere; every image is in it once, as a small JPEG.
    """
    images = {_key(shown): shown.image for query in page.queries for shown in (query, *query.results)}
    names = {key: f"p{i}" for i, key in enumerate(images)}
    with progress(len(images), "drawing the page", "image", verbose) as bar:
        rules = [_image_rule(names[key], image, bar.update) for key, image in images.items()]
    marked = any(result.right is not None for query in page.queries for result in query.results)
    return PAGE.substitute(
        title=escape(page.title),
        style=STYLE + "\n".join(rules),
        introduction=escape(page.introduction),
        tables="".join(_table(heading, table) for heading, table in page.tables),
        filter=_FILTER if marked else "",
        questions="".join(_question(query, names) for query in page.queries),
        results=_csv_link(page.queries),
        unreadable=_list("Files that could not be read", page.unreadable),
        credits=_list("Photographs", page.credits),
    )


_FILTER = (
    '<p><label><input type="checkbox" id="wrong-only"> Show only the queries whose nearest image is wrong</label></p>'
)


def _key(shown: ShownQuery | ShownResult) -> object:
    """What makes two images one: the path or the content; for anything else that it is the same object."""
    image = shown.image
    return image if isinstance(image, str | bytes | os.PathLike) else id(image)


def _image_rule(name: str, image: object, done: Callable[[int], object]) -> str:
    """CSS that shows an image: one that answers many queries is embedded only once, and no script is needed."""
    small = thumbnail(image)
    done(1)
    if small is None:  # gone since it was described
        return ""
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, "JPEG", quality=82, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f".{name}{{background-image:url(data:image/jpeg;base64,{data})}}"


def _question(query: ShownQuery, names: dict) -> str:
    right = [result.right for result in query.results]
    kind = "wrong-first" if right[:1] == [False] else ""
    results = "".join(_answer(result, names) for result in query.results)
    return (
        f'<section class="question {kind}"><figure class="query">{_image(query, query.caption, names)}'
        f"<figcaption>{_breakable(query.caption)}</figcaption></figure><ol>{results}</ol></section>\n"
    )


def _answer(result: ShownResult, names: dict) -> str:
    mark = {
        None: "",
        True: '<span class="mark right" role="img" aria-label="right">✓</span>',
        False: '<span class="mark wrong" role="img" aria-label="wrong">✗</span>',
    }[result.right]
    name = str(result.id)
    return (
        f'<li><figure>{_image(result, name, names)}{mark}<figcaption><span class="distance" title="cosine distance">'
        f"{result.distance:.3f}</span>{_breakable(name)}</figcaption></figure></li>"
    )


def _image(shown: ShownQuery | ShownResult, name: str, names: dict) -> str:
    label = escape(name)
    return f'<div class="image {names[_key(shown)]}" role="img" aria-label="{label}" title="{label}"></div>'


def _breakable(name: str) -> str:
    """Let paths break at their separators."""
    breakable = re.sub("([/_-])", r"\1<wbr>", escape(name)).replace(".", "<wbr>.")
    return f'<span class="name">{breakable}</span>'


def _table(heading: str, table: pd.DataFrame) -> str:
    html = table.to_html(border=0, float_format="{:.3f}".format, justify="unset")
    return f'<div class="table"><h2>{escape(heading)}</h2>{html}</div>'


def _csv_link(queries: Sequence[ShownQuery]) -> str:
    rows = [
        (query.caption, rank, result.id, result.distance)
        for query in queries
        for rank, result in enumerate(query.results, 1)
    ]
    csv = pd.DataFrame(rows, columns=["query", "rank", "image", "distance"]).to_csv(index=False)
    data = base64.b64encode(csv.encode()).decode("ascii")
    return f'<a download="results.csv" href="data:text/csv;base64,{data}">All results as a table (CSV)</a>'


def _list(heading: str, items: Sequence[tuple[str, str]]) -> str:
    if not items:
        return ""
    lines = "".join(f"<li><b>{escape(name)}:</b> {escape(text)}</li>" for name, text in items)
    return f'<div class="list"><h2>{escape(heading)}</h2><ul>{lines}</ul></div>'
