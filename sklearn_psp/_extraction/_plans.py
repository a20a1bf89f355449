"""Plans that stay with a cache: another precision would make all its feature maps useless."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from typing import Any

from sklearn_psp._cache import RowStore
from sklearn_psp._nets import Plan, resolve_plan
from sklearn_psp.utils._optional import is_installed

__all__ = ["kept_plan"]


def kept_plan(store: RowStore, backbone, device, asked: dict[str, Any]) -> Plan:
    """Return the plan of the first process that asked the same of this cache, or make it.

    Parameters
    ----------
    store : RowStore
        The cache.
    backbone : Backbone
        The network.
    device : torch.device
        Where it runs.
    asked : dict
        The parameters of `resolve_plan`.

    Returns
    -------
    Plan
        Without any "auto".
    """
    # With the fields: another version of this library may know other ones.
    parts = [field.name for field in fields(Plan)]
    network = (backbone.spec, backbone.sha256, backbone.fingerprint(), backbone.image_size)
    question = f"{network} {device.type} {sorted(asked.items())} {parts}"
    name = "plan " + hashlib.blake2b(question.encode(), digest_size=16).hexdigest()
    kept = store.recall(name)
    if kept is not None:
        plan = Plan(**json.loads(kept))
        if plan.runtime == "torch" or is_installed("openvino"):
            return plan
    plan = resolve_plan(backbone, device, **asked)
    return plan if kept is not None else Plan(**json.loads(store.remember(name, json.dumps(asdict(plan)))))
