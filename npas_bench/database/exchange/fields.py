"""The kinds of values that records of format 5 hold: names, moments, counts, plain JSON."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from npas_bench.database.bounds import LARGEST_VALUE, LONGEST, MOST_BYTES, MOST_OPERATIONS, MOST_SCALARS, SHORTEST

_LARGEST = 2**63 - 1
DEEPEST = 32
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)


def _utc(moment: datetime) -> datetime:
    # The year is compared first: a moment near the ends of the calendar cannot be converted to UTC.
    if moment.year < _EARLIEST.year or moment.year > 9000:
        raise ValueError("is no time that a run can have")
    return moment.astimezone(UTC)


def _believable(seconds: float) -> float:
    if 0 < seconds < SHORTEST:
        raise ValueError(f"should be 0, or at least {SHORTEST:g} seconds")
    return seconds


def _plain_json(value: Any) -> Any:
    _look_through(value, 0)
    return value


def _look_through(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for part in value:
            _look_through(part, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is not finite")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError("holds a number that is too large")


Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Moment = Annotated[AwareDatetime, AfterValidator(_utc)]
Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Small = Annotated[int, Field(ge=0, le=2**31 - 1)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ShortName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Unit = Annotated[str, StringConstraints(max_length=16)]
Uid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Scalars = Annotated[int, Field(ge=0, le=MOST_SCALARS)]
Bytes = Annotated[int, Field(ge=0, le=MOST_BYTES)]
Operations = Annotated[int, Field(ge=0, le=MOST_OPERATIONS)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST), AfterValidator(_believable)]
Value = Annotated[float, Field(ge=-LARGEST_VALUE, le=LARGEST_VALUE)]
Table = Annotated[dict[str, JsonValue], AfterValidator(_plain_json)]


class RecordPart(BaseModel):
    """A part of a record: every field is checked strictly, and no other is allowed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
