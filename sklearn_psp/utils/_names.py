"""Names: tables that other packages may extend, hints for mistyped ones, and lists of many in messages."""

from __future__ import annotations

import difflib
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

__all__ = ["Registry", "did_you_mean", "registered_types", "shown"]

# Values listed in a message: enough to recognise them, few enough to read.
_SHOWN = 10


def did_you_mean(name: str, known: Iterable[str], *, n: int = 1, cutoff: float = 0.4) -> str:
    """Ask whether one of the known names was meant.

    Parameters
    ----------
    name : str
        The name that is not known.
    known : iterable of str
        The names that are.
    n : int, default=1
        How many names to suggest at most.
    cutoff : float in [0, 1], default=0.4
        How alike a suggestion has to be, as for `difflib.get_close_matches`.

    Returns
    -------
    str
        The question and a space, such as `"did you mean 'diffusion'? "`; empty where no known name is alike.
    """
    close = difflib.get_close_matches(name, list(known), n=n, cutoff=cutoff)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""


def shown(values: Sequence[Any]) -> str:
    """List the first few values for a message, and say how many more there are."""
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(map(repr, values[:_SHOWN])) + more


# All tables of this process: what `load` may make without being asked is made from them.
_REGISTRIES: list[Registry] = []


class Registry(Mapping[str, Any]):
    """A table of things that are chosen by name, which other packages can extend.

    A name is looked up among the entries, then among the entry points that installed packages declare for the group.
    A name with a colon, `"package.module:Name"`, is imported: any process can do that, also a worker process in which
    nothing was registered.

    Parameters
    ----------
    kind : str
        What the table holds, for messages: `"re-ranker"`.
    group : str
        The group of entry points: `"sklearn_psp.rerankers"`.
    entries : mapping of str to object
        The entries that belong to this package.
    check : callable
        Takes what stands for a name that this package did not give, and raises TypeError if it is of another kind.
    """

    def __init__(self, kind: str, group: str, entries: Mapping[str, Any], check: Callable[[Any], None]):
        self.kind = kind
        self.group = group
        self._own = dict(entries)
        self._added: dict[str, Any] = {}
        self._check = check
        self._lock = threading.Lock()
        _REGISTRIES.append(self)

    def register(self, name: str, value: Any) -> None:
        """Add an entry, or replace one that was added before.

        Parameters
        ----------
        name : str
            The name, without a colon, and none of this package's own.
        value : object
            What it stands for.

        Raises
        ------
        ValueError
            If the name is empty, has a colon, or belongs to this package.
        TypeError
            If the name is no str, or the value is of another kind than the table's entries.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a {self.kind} must be a str, got {name!r}")
        if not name or ":" in name:
            raise ValueError(f"the name of a {self.kind} must not be empty and must have no colon, got {name!r}")
        if name in self._own:
            raise ValueError(f"{name!r} is a {self.kind} of sklearn_psp and cannot be replaced; choose another name")
        self._check(value)
        with self._lock:
            # A new dict: another thread may be listing the names.
            self._added = {**self._added, name: value}

    def __getitem__(self, name: str) -> Any:
        for known in (self._own, self._added):
            if name in known:
                return known[name]
        if ":" in name:
            value = self._imported(name)
            self._check(value)
            return value
        for point in entry_points(group=self.group):
            if point.name == name:
                # Kept, because a search of the entry points takes milliseconds.
                self.register(name, point.load())
                return self._added[name]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        # Mapping's own would import what the name stands for.
        if not isinstance(name, str):
            return False
        return name in self._own or name in self._added or ":" in name or name in self._declared()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *self._added, *self._declared()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def types(self) -> set[type]:
        """Return the classes among the entries: this package's own and those added, not what has yet to be imported."""
        return {value for value in (*self._own.values(), *self._added.values()) if isinstance(value, type)}

    def _declared(self) -> list[str]:
        return [point.name for point in entry_points(group=self.group)]

    def _imported(self, path: str) -> Any:
        module, _, attribute = path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path!r} names no {self.kind} that can be imported ({error}); write 'package.module:Name'"
            ) from error


def registered_types() -> set[type]:
    """Return the classes in all tables of this process: those of this package that are loaded, and those added."""
    return set().union(*(registry.types() for registry in _REGISTRIES))
