"""Standard output and standard error that cannot be written."""

import io
import os
import subprocess
import sys

import pytest

import npas_bench
from npas_bench.cli.main import main

CELL = ("--task", "digits", "--method", "full", "--seed", "0", "--epochs", "1", "--executor", "inline")
READING = (
    ("list", "methods"),
    ("leaderboard",),
    ("leaderboard", "--format", "json"),
    ("leaderboard", "--help"),
    ("--version",),
)


def full_disk():
    return os.open("/dev/full", os.O_WRONLY)


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def lost_terminal():
    terminal, end = os.openpty()
    os.close(terminal)
    return end


@pytest.fixture(params=[True, False], ids=["buffered", "unbuffered"])
def lose(request, monkeypatch):
    """Puts a stream that cannot be written in the place of a standard stream."""

    def lose(name, opened):
        raw = io.FileIO(opened(), "w")
        binary = io.BufferedWriter(raw) if request.param else raw
        monkeypatch.setattr(sys, name, io.TextIOWrapper(binary, encoding="utf-8", write_through=not request.param))

    return lose


def ending(*arguments):
    with pytest.raises(SystemExit) as exit_:
        main([*arguments])
    return exit_.value.code


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_full_disk_behind_the_output_ends_a_reading_command_with_a_message(arguments, lose, capsys):
    lose("stdout", full_disk)
    assert ending(*arguments) == 2
    assert capsys.readouterr().err == "npas-bench: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_an_output_that_nobody_reads_ends_a_reading_command_in_silence(arguments, lose, capsys):
    lose("stdout", closed_pipe)
    assert ending(*arguments) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("opened", "said"),
    [
        (full_disk, ["standard output cannot be written: No space left on device"]),
        (lost_terminal, ["standard output cannot be written: Input/output error"]),
        (closed_pipe, []),
    ],
)
def test_a_run_goes_on_whatever_becomes_of_its_output(opened, said, lose, capsys, caplog):
    lose("stdout", opened)
    assert ending("run", *CELL) == 0
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == said
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_is_reproduced_whatever_becomes_of_the_output(lose, capsys, call):
    assert call("run", *CELL).returncode == 0
    lose("stdout", full_disk)
    assert ending("reproduce", "1") == 0
    assert "Traceback" not in capsys.readouterr().err


def test_cells_that_a_script_runs_go_on_whatever_becomes_of_the_display(lose):
    lose("stderr", full_disk)
    assert npas_bench.run_cells(tasks="digits", methods="full", seeds=1, recipe={"epochs": 1}).state.tolist() == [
        "done"
    ]


def test_messages_that_nobody_can_read_do_not_end_a_command(lose, capsys):
    lose("stderr", full_disk)
    assert ending("leaderboard", "--db", "postgresql://") == 2
    assert ending("list", "methods", "--check") == 0
    assert "full" in capsys.readouterr().out


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(closed, tmp_path):
    code = "import sys, npas_bench.cli.streams as s\nwith s.guarded_streams(): open(sys.argv[1], 'w').write('content')"
    code += "\nfor stream in (sys.stdout, sys.stderr): print('said', file=stream)\nsys.stdin.read()"
    shell = f'exec "$0" -c "$1" "$2" {closed}'
    done = subprocess.run(["sh", "-c", shell, sys.executable, code, tmp_path / "file"], stdin=subprocess.DEVNULL)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "content"
