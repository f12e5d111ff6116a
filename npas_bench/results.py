"""Results as a pandas data frame, for notebooks and scripts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from npas_bench.cells.labels import method_label
from npas_bench.database.damage import reaching
from npas_bench.database.keys import RunKey
from npas_bench.database.opening import locate, open_for_reading
from npas_bench.database.queries.results import has_name, read_results, stored_names
from npas_bench.database.schema import CellRow
from npas_bench.errors import DatabaseError, UnknownName
from npas_bench.leaderboard.published import open_published, published_location

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from npas_bench.database.opening import Database
    from npas_bench.database.queries.results import Result

PUBLISHED = "published"

# The columns with their types. Types that begin with a capital letter are pandas' own and may be missing.
COLUMNS: Mapping[str, str] = {
    "task": "str",
    "architecture": "str",
    "method": "str",
    "options": "object",
    "label": "str",
    "budget": "int64",
    "budget_text": "str",
    "full": "int64",
    "share": "float64",
    "recipe": "str",
    "seed": "int64",
    "state": "str",
    "metric": "object",
    "value": "float64",
    "unit": "object",
    "higher_is_better": "boolean",
    "parameters": "Int64",
    "seconds_per_step": "float64",
    "peak_memory": "Int64",
    "forward_flops": "float64",
    "generation_flops": "float64",
    "message": "object",
    "data": "str",
    "data_official": "bool",
    "data_digest": "str",
    "device_class": "str",
    "task_version": "int64",
    "method_version": "int64",
    "identity": "str",
    "run": "int64",
}
# SQLite takes 32,766 variables in a statement; older builds took 999.
_AT_ONCE = 500


def load_results(
    db: str | Path | None = None,
    *,
    task: str | None = None,
    architecture: str | None = None,
    metric: str | None = None,
) -> pd.DataFrame:
    """The results of a database, one row for each cell on each version of its data and each class of device.

    A row tells of the newest run that ended there: `state` is `done`, `unsupported` (the method cannot meet the budget)
    or `failed`. Runs that repeat others are left out.

    Args:
        db: a file, a URL as `postgresql+psycopg://USER@HOST/NAME`, or `published` for the board that comes with the
            package; left out, `$NPAS_BENCH_DB` or `runs.db` in the working directory.
        task: only results of this task.
        architecture: only results of this architecture.
        metric: name of the metric in the column `value`; left out, the primary metric of each task.

    Returns:
        A data frame with these columns. What a run does not have is missing in its row.

        - `task`, `architecture`, `method`: names.
        - `options`: the method's options that differ from their defaults, as a dictionary.
        - `label`: the method with its options, as boards name it.
        - `budget`: number of trainable scalars that the network may have; `budget_text`: the same as it was asked for.
        - `full`: number of trainable scalars of the full architecture; `share`: `budget` divided by `full`.
        - `recipe`: name of the recipe. `seed`: the seed.
        - `state`: how the run ended.
        - `metric`, `value`, `unit`, `higher_is_better`: the metric on the test split. `value` is missing where the run
          is not done.
        - `parameters`: number of scalars that were trained.
        - `seconds_per_step`: median time of a training step, in seconds. `peak_memory`: in bytes.
        - `forward_flops`: floating-point operations of the forward pass over one example, with weights that are there
          already; `generation_flops`: those of generating all weights once.
        - `message`: why a run failed, or why the budget is not supported.
        - `data`, `data_official`, `data_digest`: what the data is called, whether it is the official one, its digest.
        - `device_class`: `cpu` or `cuda`.
        - `task_version`, `method_version`: results of different versions do not compare.
        - `identity`: of the cell. `run`: number of the run in its database, as `npas-bench show` takes it.

    Raises:
        DatabaseError: if there is no such database, or it cannot be read.
        UnknownName: if there are results, and none of the task, the architecture or the metric.
    """
    with _opened(db) as database:
        for kind, name in (("task", task), ("architecture", architecture), ("metric", metric)):
            if name is not None and not has_name(database, kind, name):
                known = stored_names(database, kind)
                if known:
                    raise UnknownName(kind, name, known, remedy="of those with results")
        return _frame(read_results(database, task=task, architecture=architecture, metric=metric))


def results_of(database: Database, keys: Sequence[RunKey]) -> pd.DataFrame:
    """The results of some cells, in the order of these; a cell that has not ended has no row.

    Args:
        database: open.
        keys: of the cells, with their data and class of device.

    Returns:
        A data frame as `load_results` returns it.
    """
    identities = list(dict.fromkeys(key.identity for key in keys))
    found: dict[RunKey, Result] = {}
    for start in range(0, len(identities), _AT_ONCE):
        wanted = CellRow.identity.in_(identities[start : start + _AT_ONCE])
        for result in read_results(database, conditions=[wanted]):
            found[RunKey(result.identity, result.data_digest, result.device_class)] = result
    return _frame([found[key] for key in keys if key in found])


@contextmanager
def _opened(db: str | Path | None) -> Iterator[Database]:
    if db == PUBLISHED:
        location = published_location()
        if location is None:
            raise DatabaseError("the published board did not come with this installation")
    else:
        location = locate(None if db is None else str(db))
    with reaching(location):
        database = open_published() if db == PUBLISHED else open_for_reading(location)
        if database is None:
            raise DatabaseError(f"database {location} does not exist: name one that does, or 'published'")
        try:
            yield database
        finally:
            database.close()


def _frame(results: Sequence[Result]) -> pd.DataFrame:
    frame = pd.DataFrame([_row(result) for result in results], columns=list(COLUMNS))
    return frame.astype(dict(COLUMNS))


def _row(result: Result) -> dict[str, Any]:
    fields = result._asdict()
    return fields | {
        "label": method_label(result.method, result.options),
        "share": result.budget / result.full,
        "state": str(result.state),
        "data": result.data_label,
    }
