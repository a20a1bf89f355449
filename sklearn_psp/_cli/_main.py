"""The command line: its arguments, and the command that they call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import sklearn_psp
from sklearn_psp._cli._files import check_output
from sklearn_psp.exceptions import PSPError

__all__ = ["main"]

_EXAMPLES = """\
examples:
  python -m sklearn_psp search ~/Pictures cat.jpg
  python -m sklearn_psp search ~/Pictures holidays/ cat.jpg --n-neighbors 10 --output found.html
  python -m sklearn_psp demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0, 1 where the demonstration fails its own comparison, 2 for a mistake in what was asked, 130 if
        interrupted.
    """
    args = _parser().parse_args(argv)
    # A file name that is not text of the terminal's encoding must not end a search that has succeeded.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        if not args.no_page:
            check_output(args.output)
        # Commands load scikit-learn and torch, which --help and --version need not wait for.
        if args.command == "search":
            from sklearn_psp._cli._search import search

            return search(args)
        from sklearn_psp._cli._demo import demo

        return demo(args)
    except (PSPError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"python -m sklearn_psp {args.command}: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sklearn_psp",
        description=sklearn_psp.__doc__.partition("\n")[0],
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sklearn_psp {sklearn_psp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    search = commands.add_parser(
        "search",
        help="find the nearest images in a folder",
        description="Find the images of a folder that are nearest to other images, print them, and write a page "
        "that shows them. Files that cannot be read are left out and listed.",
    )
    search.add_argument(
        "images",
        metavar="IMAGES",
        type=_path,
        help="folder to search, with all folders below it; hidden files and folders are left out",
    )
    search.add_argument(
        "queries",
        metavar="QUERY",
        nargs="+",
        type=_path,
        help="image to search for, or a folder of such; a name that does not exist is looked for in IMAGES too. A "
        "query that is in IMAGES is not among its own results",
    )
    search.add_argument(
        "--also", metavar="FOLDER", action="append", default=[], type=_path, help="a further folder to search"
    )
    _add_common(search, output="search.html")

    demo = commands.add_parser(
        "demo",
        help="search the photographs that installed packages bring",
        description="Search the photographs that scikit-learn and scikit-image bring with distorted copies of them, "
        "and measure the result beside plain global average pooling on the same network. The exit status is 1 if "
        "that is better.",
    )
    _add_common(demo, output="demo/index.html")
    return parser


def _add_common(parser: argparse.ArgumentParser, *, output: str) -> None:
    parser.add_argument(
        "-n", "--n-neighbors", metavar="N", type=_count, default=5, help="images to find per query (default: 5)"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=_path, default=Path(output), help=f"the page (default: {output})"
    )
    parser.add_argument("--no-page", action="store_true", help="print only, write no page")
    parser.add_argument(
        "--backbone", metavar="NAME", default="efficientnet_lite0", help="the network (default: efficientnet_lite0)"
    )
    parser.add_argument(
        "--weights",
        metavar="WEIGHTS",
        default="default",
        help='"default" takes what is installed, "download" fetches the published weights, else a file (default: '
        "default)",
    )
    parser.add_argument("--device", metavar="DEVICE", default="auto", help="cpu, cuda, mps, ... (default: auto)")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def _path(text: str) -> Path:
    """Expand a leading ~, which shells leave alone in the middle of a word and make leaves alone everywhere."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # ~somebody who does not exist
        return Path(text)


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number
