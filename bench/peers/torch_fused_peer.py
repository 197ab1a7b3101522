"""PyTorch's update rules in one pass, which it has of all but RMSprop."""

from __future__ import annotations

from functools import partial

import torch
from cases import UPDATES

from peers.torch_peer import set_threads, update

__all__ = ["RUNS", "VERSION", "set_threads"]

VERSION = torch.__version__

RUNS = {
    f"update: {rule}": partial(update, rule=rule, options=options | {"fused": True})
    for rule, options in UPDATES.items()
    if rule != "RMSprop"
}
