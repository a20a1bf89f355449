"""Results of a command: printed, and written as one self-contained HTML page of queries beside their results."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

import pandas as pd
from PIL import Image

from sklearn_psp._images import thumbnail
from sklearn_psp.displays import ShownQuery, ShownResult
from sklearn_psp.utils._libraries import progress

__all__ = ["Page", "page_html", "print_results", "print_unreadable", "write_page"]

_N_LISTED = 20


@dataclass(frozen=True)
class Page:
    """The contents of a page, from top to bottom.

    Parameters
    ----------
    title : str
        Heading.
    introduction : str
        A paragraph.
    queries : sequence of ShownQuery
        Each query with its nearest images; captions and ids are shown below them.
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


def print_results(query: str, results: pd.DataFrame) -> None:
    """Print the nearest images of one query.

    Parameters
    ----------
    query : str
        Its name.
    results : DataFrame
        With the columns `rank`, `distance` and `name`.
    """
    print(f"\n{query}")
    for row in results.itertuples():
        print(f"{row.rank:>4}  {row.distance:.3f}  {row.name}")


def print_unreadable(files: Sequence[tuple[str, str]]) -> None:
    """Print the files that could not be read.

    Parameters
    ----------
    files : sequence of (str, str)
        Name and reason of each.
    """
    print()
    if not files:
        return
    print(f"{len(files):,} {'file' if len(files) == 1 else 'files'} could not be read:")
    for name, reason in files[:_N_LISTED]:
        print(f"  {name}: {reason}")
    if len(files) > _N_LISTED:
        print(f"  and {len(files) - _N_LISTED:,} more")
    print()


def write_page(page: Page, path: Path, *, verbose: bool = False) -> Path:
    """Write the page, and the folders it stands in.

    Parameters
    ----------
    page : Page
        What to show.
    path : Path
        The file; an existing one is replaced.
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
    shown: list[ShownQuery | ShownResult] = []
    for query in page.queries:
        shown += [query, *query.results]
    images = {_key(one): one.image for one in shown}
    names = {key: f"p{i}" for i, key in enumerate(images)}
    with progress(len(images), "drawing the page", "image", verbose) as bar:
        rules = [_image_rule(names[key], image, bar.update) for key, image in images.items()]
    marked = any(result.right is not None for query in page.queries for result in query.results)
    return _PAGE.substitute(
        title=escape(page.title),
        style=_STYLE + "\n".join(rules),
        introduction=escape(page.introduction),
        tables="".join(_table(heading, table) for heading, table in page.tables),
        filter=_FILTER if marked else "",
        questions="".join(_question(query, names) for query in page.queries),
        results=_csv_link(page.queries),
        unreadable=_list("Files that could not be read", page.unreadable),
        credits=_list("Photographs", page.credits),
    )


def _key(shown: ShownQuery | ShownResult) -> object:
    """Tell images apart: by path or content; anything else by being the same object."""
    image = shown.image
    return image if isinstance(image, str | bytes | os.PathLike) else id(image)


def _image_rule(name: str, image: object, done: Callable[[int], object]) -> str:
    """Write CSS that shows an image: one that answers many queries is embedded only once, without a script."""
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


_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$introduction</p>
<div class="tables">$tables</div>
$filter
</header>
<main>
$questions
</main>
<footer>
<p>$results</p>
$unreadable
$credits
<p>Made with sklearn_psp.</p>
</footer>
</body>
</html>
""")

# Nothing in the page is loaded from elsewhere, and it needs no script.
_STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #f6f6f4; --card: #ffffff; --ink: #1d1f21; --quiet: #63676c; --line: #dddeda; --well: #ecece8;
  --right: #13713f; --wrong: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171a; --card: #1f2226; --ink: #e9eaec; --quiet: #a0a5ab; --line: #33373c; --well: #282c31;
    --right: #55c98a; --wrong: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem); max-width: 110rem;
  background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .5rem 0; max-width: 75ch; }
a { color: inherit; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin: 1rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--quiet); font-weight: 500; }
main {
  display: grid; gap: 1rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 32rem), 1fr));
}
.question {
  display: grid; grid-template-columns: minmax(6.5rem, 26%) 1fr; gap: 1rem; padding: .9rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
}
.question ol {
  list-style: none; margin: 0; padding: 0; display: grid; gap: .6rem; align-content: start;
  grid-template-columns: repeat(auto-fill, minmax(4rem, 1fr));
}
figure { margin: 0; position: relative; min-width: 0; }
.image {
  aspect-ratio: 1; border-radius: .35rem; background: var(--well) center / contain no-repeat;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
figcaption { font-size: .75rem; line-height: 1.3; margin-top: .25rem; color: var(--quiet); }
.query figcaption { font-size: .85rem; color: var(--ink); font-weight: 500; }
.name { display: block; overflow-wrap: anywhere; hyphens: auto; }
.distance { font-variant-numeric: tabular-nums; color: var(--ink); }
.mark {
  position: absolute; top: .25rem; right: .25rem; width: 1.25rem; height: 1.25rem; border-radius: 50%;
  background: var(--card); font: 700 .8rem/1.25rem system-ui, sans-serif; text-align: center;
}
.right { background: var(--right); color: var(--card); }
.wrong { color: var(--quiet); opacity: .8; }
.wrong-first li:first-child .mark { background: var(--wrong); color: var(--card); opacity: 1; }
.wrong-first { border-color: var(--wrong); }
body:has(#wrong-only:checked) .question:not(.wrong-first) { display: none; }
footer { font-size: .85rem; color: var(--quiet); border-top: 1px solid var(--line); padding-top: 1rem; }
.list ul { margin: 0 0 1rem; padding-left: 1.1rem; overflow-wrap: anywhere; }
.list b { color: var(--ink); font-weight: 500; }
@media (max-width: 30rem) {
  .question { grid-template-columns: 1fr; }
  .query { max-width: 11rem; }
}
@media print { .question { break-inside: avoid; } }
"""

_FILTER = (
    '<p><label><input type="checkbox" id="wrong-only"> Show only the queries whose nearest image is wrong</label></p>'
)
