"""The command line: one file per command."""

from sklearn_psp._cli._main import main

__all__ = ["main"]
