"""The command `npas-bench download`."""

from __future__ import annotations

from typing import Annotated

import typer

from npas_bench.cli.completion import task_names
from npas_bench.cli.console import output


def download(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Name of a task.", autocompletion=task_names)],
) -> None:
    """Fetch a task's official data into $NPAS_BENCH_DATA or ~/.cache/npas-bench/data."""
    from npas_bench import plugins
    from npas_bench.tasks.base import data_folder

    chosen, folder = plugins.task(task), data_folder()
    with plugins.tasks.asked(task.partition(":")[0]):
        chosen.download(folder)
        source = chosen.source()
    output.print(f"{source.label} is in {folder}", soft_wrap=True)
