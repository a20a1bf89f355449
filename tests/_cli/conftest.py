"""Running commands in this process, and taking pages apart."""

import contextlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest

from sklearn_psp._cli import main

VOID = {"meta", "input", "br", "wbr", "link", "img", "hr"}


class Outcome(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


def run(*argv):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in argv])
        except SystemExit as exit_:  # argparse
            status = exit_.code
    return Outcome(status, out.getvalue(), err.getvalue())


class ParsedPage(HTMLParser):
    """Elements of a page, and whether they nest."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text, self.well_formed = [], [], "", True
        self.html = html
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        self.well_formed &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def with_class(self, name):
        return [attrs for _, attrs in self.elements if name in attrs.get("class", "").split()]

    def check_self_contained(self):
        assert self.well_formed
        assert not self.open
        for tag, attrs in self.elements:
            assert tag not in {"script", "link", "iframe", "object", "base"}
            for name in ("src", "href", "srcset", "action", "poster"):
                assert attrs.get(name, "data:").startswith("data:")
        assert "@import" not in self.html
        assert all(url.startswith("data:image/jpeg;base64,") for url in re.findall(r"url\(([^)]*)", self.html))


@pytest.fixture(scope="session")
def command():
    """Function that runs `python -m sklearn_psp ARGUMENTS` in this process."""
    return run


@pytest.fixture(scope="session")
def parse_page():
    """Function that reads a page, and checks that it loads nothing."""

    def parse_page(path):
        page = ParsedPage(Path(path).read_text(encoding="utf-8"))
        page.check_self_contained()
        return page

    return parse_page
