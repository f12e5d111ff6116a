"""Reading a line of an exchange file: the record that it holds, or one line that says what is wrong with it.

Format 5 is `npas_bench.database.exchange.record`. Formats 1 to 4 are what earlier versions of npas-bench wrote: they
have fewer fields, with the same meaning. They are converted to format 5 and then checked like it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from npas_bench.database.exchange.fields import DEEPEST
from npas_bench.database.exchange.record import FORMAT, Record
from npas_bench.database.keys import RunKey, run_uid

_SHOWN_PROBLEMS = 3
_SHOWN_CHARACTERS = 60
# Each field that a record must not have becomes an error of its own, a million of which take seconds to collect.
_MOST_ENTRIES = 100_000
# A clock may be a little ahead, but a run that finished next year would stay on the board until then.
_CLOCK_AHEAD = timedelta(days=1)


class BadRecord(ValueError):
    """A line that is no record; the message says what is wrong with it, in one line."""


def read_record(line: bytes, now: datetime) -> Record:
    """Read the record that a line holds.

    Args:
        line: bytes of a line of a file, in UTF-8.
        now: the present time; a run that finished more than a day later is refused.

    Raises:
        BadRecord: if the line holds no record.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRecord("is not UTF-8 text") from None
    try:
        raw = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except RecursionError:
        raise BadRecord(f"is nested more than {DEEPEST} deep") from None
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord(f"is not JSON: {_cut(str(error), 120)}") from None
    if not isinstance(raw, dict):
        raise BadRecord("is not a JSON object")
    # Only escapes can bring in characters that a database, or UTF-8, cannot hold.
    if "\\u0000" in text or "\\ud" in text or "\\uD" in text:
        _refuse_unstorable(raw)
    version = raw.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise BadRecord(
            f"has format {_cut(str(version))}: made by a newer npas-bench; update with pip install -U npas-bench"
        )
    try:
        if type(version) is int and version == 1:
            record = Record.model_validate_json(json.dumps(_from_format_1(raw)))
        elif type(version) is int and version in (2, 3, 4):
            # The fields that came with later formats are optional in them.
            record = Record.model_validate_json(json.dumps({**raw, "format": FORMAT}))
        else:
            record = Record.model_validate_json(text)
    except ValidationError as error:
        raise BadRecord(_in_one_line(error)) from None
    if record.run.finished > now + _CLOCK_AHEAD:
        raise BadRecord(f"run.finished {record.run.finished:%Y-%m-%d %H:%M} UTC is in the future")
    return record


def _from_format_1(raw: dict[str, Any]) -> dict[str, Any]:
    """A record of format 1 in the newest format; what cannot be converted is left for the model to refuse."""
    cell, run = raw.get("cell"), raw.get("run")
    if not isinstance(cell, dict) or not isinstance(run, dict):
        return {**raw, "format": FORMAT}
    run = dict(run)
    if not run.get("uid"):
        try:
            created = datetime.fromisoformat(run["created"])
            key = RunKey(cell["identity"], run["data_digest"], run["device_class"])
            run["uid"] = run_uid(key, created.astimezone(UTC))
        except (KeyError, TypeError, ValueError, OverflowError):
            run["uid"] = "0" * 32
    cost = run.get("cost")
    if isinstance(cost, dict):
        run = {name: cost.get(name) for name in ("train_seconds", "peak_memory")} | run
    return {**raw, "format": FORMAT, "run": run}


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > _MOST_ENTRIES:
        raise BadRecord(f"holds an object of {len(pairs):,} entries, and {_MOST_ENTRIES:,} are the most")
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise BadRecord(f"names '{_cut(twice)}' twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise BadRecord(f"holds {name}, which is no number")


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _refuse_unstorable(value: Any) -> None:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part
        elif isinstance(part, str) and _UNSTORABLE.search(part):
            raise BadRecord("holds a character that is none (U+0000 or half of a pair)")


def _in_one_line(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    said = []
    for problem in problems[:_SHOWN_PROBLEMS]:
        place = _cut(".".join(str(step) for step in problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
        if problem["type"] == "extra_forbidden":
            message = "is no field of a record (of a newer npas-bench?)"
        elif problem["type"] == "missing":
            message = "is missing"
        found = problem["input"]
        if isinstance(found, (str, int, float, bool)) and problem["type"] not in ("extra_forbidden", "value_error"):
            message += f", not {_cut(json.dumps(found))}"
        said.append(f"{place} {_cut(message, 200)}".strip())
    more = len(problems) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _cut(text: str, length: int = _SHOWN_CHARACTERS) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
