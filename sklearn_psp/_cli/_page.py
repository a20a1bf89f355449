"""One self-contained HTML page: each query beside its nearest pictures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd
from PIL import Image

from sklearn_psp._cli._template import PAGE, STYLE
from sklearn_psp._images import read_picture
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._progress import progress

__all__ = ["Answer", "Page", "Question", "page_html", "write_page"]

# Pixels of the longer side; pictures are shown at no more than half of it, for sharp screens.
_THUMBNAIL = 256


@dataclass(frozen=True)
class Answer:
    """One of the nearest pictures.

    Parameters
    ----------
    picture : str or bytes
        Path or content of the picture.
    caption : str
        Its name.
    distance : float
        Its distance to the query.
    right : bool or None, default=None
        Whether it is what was looked for, where that is known.
    """

    picture: str | bytes
    caption: str
    distance: float
    right: bool | None = None


@dataclass(frozen=True)
class Question:
    """One query with its nearest pictures.

    Parameters
    ----------
    picture : str or bytes
        Path or content of the picture.
    caption : str
        Its name.
    answers : sequence of Answer
        Nearest first.
    """

    picture: str | bytes
    caption: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Page:
    """What the page shows, from top to bottom.

    Parameters
    ----------
    title : str
        Heading.
    introduction : str
        A paragraph.
    questions : sequence of Question
        The queries.
    tables : sequence of (str, DataFrame)
        Tables with their headings.
    unreadable : sequence of (str, str)
        Name and reason of each file that could not be read.
    credits : sequence of (str, str)
        Title and author of each photograph.
    """

    title: str
    introduction: str
    questions: Sequence[Question]
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
        HTML that loads nothing from elsewhere; every picture is in it once, as a small JPEG.
    """
    pictures = list(dict.fromkeys(p for q in page.questions for p in (q.picture, *(a.picture for a in q.answers))))
    names = {picture: f"p{i}" for i, picture in enumerate(pictures)}
    with progress(len(pictures), "drawing the page", "picture", verbose) as bar:
        rules = [_picture_rule(names[picture], picture, bar.update) for picture in pictures]
    marked = any(answer.right is not None for question in page.questions for answer in question.answers)
    return PAGE.substitute(
        title=escape(page.title),
        style=STYLE + "\n".join(rules),
        introduction=escape(page.introduction),
        tables="".join(_table(heading, table) for heading, table in page.tables),
        filter=_FILTER if marked else "",
        questions="".join(_question(question, names) for question in page.questions),
        results=_csv_link(page.questions),
        unreadable=_list("Files that could not be read", page.unreadable),
        credits=_list("Photographs", page.credits),
    )


_FILTER = (
    '<p><label><input type="checkbox" id="wrong-only"> Show only the queries whose nearest picture is wrong</label></p>'
)


def _picture_rule(name: str, picture: str | bytes, done: Callable[[int], object]) -> str:
    """CSS that shows a picture: one that answers many queries is embedded only once, and no script is needed."""
    content = _thumbnail(picture)
    done(1)
    if content is None:
        return ""
    data = base64.b64encode(content).decode("ascii")
    return f".{name}{{background-image:url(data:image/jpeg;base64,{data})}}"


def _thumbnail(picture: str | bytes) -> bytes | None:
    try:
        image = Image.fromarray(read_picture(picture))
    except ImageReadError:  # gone since it was described
        return None
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()


def _question(question: Question, names: dict) -> str:
    right = [answer.right for answer in question.answers]
    kind = "wrong-first" if right[:1] == [False] else ""
    answers = "".join(_answer(answer, names) for answer in question.answers)
    return (
        f'<section class="question {kind}"><figure class="query">{_picture(question, names)}'
        f"<figcaption>{_breakable(question.caption)}</figcaption></figure><ol>{answers}</ol></section>\n"
    )


def _answer(answer: Answer, names: dict) -> str:
    mark = {
        None: "",
        True: '<span class="mark right" role="img" aria-label="right">✓</span>',
        False: '<span class="mark wrong" role="img" aria-label="wrong">✗</span>',
    }[answer.right]
    return (
        f'<li><figure>{_picture(answer, names)}{mark}<figcaption><span class="distance" title="cosine distance">'
        f"{answer.distance:.3f}</span>{_breakable(answer.caption)}</figcaption></figure></li>"
    )


def _picture(shown: Question | Answer, names: dict) -> str:
    label = escape(shown.caption)
    return f'<div class="picture {names[shown.picture]}" role="img" aria-label="{label}" title="{label}"></div>'


def _breakable(name: str) -> str:
    """Let paths break at their separators."""
    breakable = re.sub("([/_-])", r"\1<wbr>", escape(name)).replace(".", "<wbr>.")
    return f'<span class="name">{breakable}</span>'


def _table(heading: str, table: pd.DataFrame) -> str:
    html = table.to_html(border=0, float_format="{:.3f}".format, justify="unset")
    return f'<div class="table"><h2>{escape(heading)}</h2>{html}</div>'


def _csv_link(questions: Sequence[Question]) -> str:
    rows = [
        (question.caption, rank, answer.caption, answer.distance)
        for question in questions
        for rank, answer in enumerate(question.answers, 1)
    ]
    csv = pd.DataFrame(rows, columns=["query", "rank", "picture", "distance"]).to_csv(index=False)
    data = base64.b64encode(csv.encode()).decode("ascii")
    return f'<a download="results.csv" href="data:text/csv;base64,{data}">All results as a table (CSV)</a>'


def _list(heading: str, items: Sequence[tuple[str, str]]) -> str:
    if not items:
        return ""
    lines = "".join(f"<li><b>{escape(name)}:</b> {escape(text)}</li>" for name, text in items)
    return f'<div class="list"><h2>{escape(heading)}</h2><ul>{lines}</ul></div>'
