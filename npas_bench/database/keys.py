"""Keys of runs and of the tables of boards."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


class RunKey(NamedTuple):
    """What a cell is run on: boards show one run for each key.

    Attributes:
        identity: identity of the cell.
        data_digest: digest of the decoded arrays of the data.
        device_class: `cpu` or `cuda`.
    """

    identity: str
    data_digest: str
    device_class: str


def board_key(canonical: str, data_digest: str, device_class: str) -> str:
    """The key of the table that a result belongs to.

    Args:
        canonical: the JSON that the cell's identity was made from. It counts, and not the recipe's stored fields,
            because a recipe that was stored before a field was added has fewer of them.
        data_digest: digest of the data.
        device_class: `cpu` or `cuda`.
    """
    cell = json.loads(canonical)
    return _digest([cell.get("task"), cell.get("architecture"), cell.get("recipe"), data_digest, device_class], 16)


def run_uid(key: RunKey, created: datetime, repeats: str | None = None) -> str:
    """The name that a run keeps in every database.

    Args:
        key: cell, data and device class of the run.
        created: when the run was asked for, in UTC; it tells the runs of one key apart.
        repeats: uid of the run that it repeats; None for a run that repeats nothing.
    """
    return _digest([*key, created.isoformat(), *([] if repeats is None else [repeats])], 32)


def _digest(content: list[Any], length: int) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]
