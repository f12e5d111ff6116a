"""The command `npas-bench weights`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npas_bench.cli import selection as choose
from npas_bench.cli.console import output
from npas_bench.errors import NpasBenchError, RecordError, WeightsError

if TYPE_CHECKING:
    from npas_bench.database.schema import RunRow
    from npas_bench.weights_file import Weights


def weights(
    run: choose.RunNumber,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.safetensors", help="The file to write.")],
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Write the plain network that the trained parameters generate."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    workdir: Annotated[
        Path | None, typer.Option(help="Folder that the run was given for checkpoints [default: beside the database].")
    ] = None,
    db: choose.Database = None,
) -> None:
    """Write the weights that a run kept: what its method trained, or the plain network that this generates.

    A plain file is loaded with torch and safetensors alone. Its header says how.
    """
    from npas_bench.cli.show import read_run
    from npas_bench.database.opening import locate
    from npas_bench.database.plain_files import refuse_to_replace
    from npas_bench.runner.kept import check_kept
    from npas_bench.runner.launch import checkpoint_path
    from npas_bench.runner.work import KeptWeights, weights_folder
    from npas_bench.weights_file import copy_weights, read_weights, write_weights

    if out.suffix != ".safetensors":
        raise NpasBenchError(f"--out {out}: the name of a file of weights ends in .safetensors")
    if out.exists() and not force:
        raise NpasBenchError(f"{out} exists: name another file with --out, or add --force to overwrite it")
    refuse_to_replace(out, f"--out {out}")
    location = locate(db)
    row = read_run(location, run).row
    listed = next((kept for kept in row.weights if kept.kind == "trained"), None)
    if listed is None:
        raise WeightsError(_nothing_kept(row))
    path = weights_folder(checkpoint_path(workdir, location)) / listed.file
    if not path.is_file() and workdir is None:
        raise WeightsError(
            f"run {run} kept its weights in {listed.file}, and {path.parent} has no such file: name the folder that "
            "the run was given with --workdir, or bring the file back"
        )
    check_kept(path, KeptWeights(kind="trained", file=listed.file, sha256=listed.sha256, bytes=listed.bytes), row.uid)
    found = read_weights(path)
    chosen = _plain(row, found) if plain else found
    written = write_weights(out, chosen) if plain else copy_weights(path, out)
    count = sum(tensor.numel() for tensor in chosen.tensors.values())
    output.print(
        f"{out}: {chosen.header.kind} weights of run {run}, {len(chosen.tensors)} tensors with {count:,} numbers, "
        f"sha256 {written.sha256}",
        soft_wrap=True,
        highlight=False,
    )


def _plain(row: RunRow, found: Weights) -> Weights:
    from npas_bench.cells.cell import Cell, RecordedCell
    from npas_bench.runner.kept import plain_weights_of

    try:
        cell = Cell.from_record(RecordedCell.of(row.cell))
    except RecordError as error:
        raise RecordError(f"run {row.id} cannot be made into a plain network here: {error}") from None
    return plain_weights_of(cell, found)


def _nothing_kept(row: RunRow) -> str:
    from npas_bench.database.states import RunState

    if row.state != RunState.DONE:
        return f"run {row.id} is {row.state} and has no weights: only runs that are done keep them"
    return (
        f"run {row.id} did not keep its weights: npas-bench reproduce {row.id} --keep-weights runs its cell again and "
        "keeps them, as does npas-bench run ... --again --keep-weights"
    )
