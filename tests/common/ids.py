"""Names of parametrised tests that are the same in every process, as workers that share a run need them."""

from __future__ import annotations

import re


def without_addresses(value):
    """Return the repr of a value without the address of the object in memory."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
