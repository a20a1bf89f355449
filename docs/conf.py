"""Sphinx: `sphinx-build -W --keep-going -b html docs docs/_build/html`. Nothing is fetched, neither now nor in view."""

import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

import sklearn_psp

project = "sklearn_psp"
author = "The sklearn_psp developers"
copyright = "the sklearn_psp developers"
version = release = sklearn_psp.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_gallery.gen_gallery"]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb"]
default_role = "py:obj"  # `name` is code, and a link where it is a public name
nitpicky = False
trim_doctest_flags = True
toc_object_entries_show_parents = "hide"
rst_prolog = ".. currentmodule:: sklearn_psp\n"

autosummary_generate = True
numpydoc_show_class_members = False  # methods stand below the class, by the template of autosummary
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # its page would load scripts from elsewhere
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_psp"
html_static_path = ["_static"]
html_css_files = ["psp.css"]
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = False
html_sidebars = {"install": [], "versions": [], "changelog": [], "command_line": []}
html_theme_options = {
    "navigation_with_keys": False,
    "navbar_align": "left",
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}

_log = logging.getLogger(__name__)


class Fragments(Directive):
    """Insert the fragments of `changelog.d`, kind by kind; their simple Markdown is reStructuredText as well."""

    def run(self):
        """Hand their text over to the parser."""
        environment = self.state.document.settings.env
        folder = Path(environment.app.confdir, "..", "changelog.d").resolve()
        lines = []
        for kind in ("added", "changed", "deprecated", "removed", "fixed"):
            fragments = sorted(folder.glob(f"*.{kind}.md"))
            if fragments:
                lines += [f".. rubric:: {kind.capitalize()}", ""]
            for path in fragments:
                environment.note_dependency(str(path))
                text = path.read_text(encoding="utf-8").strip().splitlines()
                lines += [f"* {text[0]}", *(f"  {line}".rstrip() for line in text[1:]), ""]
        self.state_machine.insert_input(lines or ["Nothing yet."], "changelog.d")
        return []


def _render_math(translator, node):
    """Write an equation as MathML, which browsers show by themselves: no script, no fonts, no network."""
    block = isinstance(node, nodes.math_block)
    source = node.astext()
    try:
        mathml = tex2mathml(source, as_block=block)
    except MathError as error:
        _log.warning("equation %r: %s", source, error, location=node)
        mathml = f"<code>{translator.encode(source)}</code>"
    translator.body.append(f'<div class="equation">{mathml}</div>' if block else mathml)
    raise nodes.SkipNode


def _skip(app, what, name, obj, skip, options):
    # scikit-learn generates set_fit_request and the like; their text refers to its own guide.
    return True if name.startswith("set_") and name.endswith("_request") else None


def _escape(app, what, name, obj, options, lines):
    # A shape such as (n_features_in_,) is text here, not a reference to a target of that name.
    lines[:] = [re.sub(r"(?<![`\w])(\w+)_(?=[,)])", r"\1\\_", line) for line in lines]


def setup(app):
    """Register what is above."""
    app.add_directive("fragments", Fragments)
    app.add_html_math_renderer("mathml", (_render_math, None), (_render_math, None))
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _escape, priority=900)  # after numpydoc
