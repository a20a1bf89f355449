"""Fitted estimators in files, without pickle."""

from sklearn_psp._persistence._load import load
from sklearn_psp._persistence._save import save

__all__ = ["load", "save"]
