"""What the driver makes of workers' answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from npas_bench import __version__
from npas_bench.database.states import RunState
from npas_bench.runner.provenance import source_digest
from npas_bench.runner.work import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from npas_bench.runner.cluster.worker import Answer, Facts


def outcome_of(answer: Answer) -> Outcome:
    """The outcome that a worker answers with; a failure if it cannot be read."""
    try:
        return Outcome.model_validate_json(answer.outcome)
    except ValidationError as error:
        return Outcome(state=RunState.FAILED, message=f"its result cannot be read: {first_line(error)}")


def trouble_of(facts: Facts, marker: Path) -> str | None:
    """The reason why a worker cannot be used; None if it can.

    Args:
        facts: how it describes itself.
        marker: the file in the folder for checkpoints that it must see.
    """
    if (facts.version, facts.code) != (__version__, source_digest()):
        return (
            f"its npas-bench is {facts.version} ({facts.code}), the driver's is {__version__} ({source_digest()}): "
            "install the same there"
        )
    if not facts.sees:
        return f"it does not see {marker.parent}: name a folder that all nodes see with --workdir"
    return None


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
