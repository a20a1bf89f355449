"""Engines that find the nearest vectors, one per file, behind the protocol `Index`."""

from sklearn_psp._indexes._base import Index
from sklearn_psp._indexes._exact import ExactIndex
from sklearn_psp._indexes._select import build_index

__all__ = ["ExactIndex", "Index", "build_index"]
