"""Engines that find the nearest vectors, one per file, behind the protocol `Index`."""

from sklearn_psp._indexes._base import Index
from sklearn_psp._indexes._distances import pair_distances
from sklearn_psp._indexes._exact import ExactIndex
from sklearn_psp._indexes._living import LivingIndex
from sklearn_psp._indexes._select import build_index, choose_algorithm
from sklearn_psp._indexes._subset import Subset

__all__ = ["ExactIndex", "Index", "LivingIndex", "Subset", "build_index", "choose_algorithm", "pair_distances"]
