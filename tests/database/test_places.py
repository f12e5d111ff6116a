"""What `--db` may name: an own SQLite file, a place for one, or a server. Whatever else lies there is left as it is."""

import os
import socket
import stat
from pathlib import Path

import pytest

from npas_bench import load_results
from npas_bench.database.opening import locate, open_for_reading, open_for_writing
from npas_bench.errors import DatabaseError, NpasBenchError

# Every command that takes --db, as a user gives it.
COMMANDS = [
    "run --task digits --method full --budget 100% --epochs 1 --executor inline",
    "import records.jsonl",
    "export --out out.jsonl",
    "leaderboard",
    "compare full ssn",
    "status",
    "cancel --grid lowbudget",
    "show 1",
    "plan --grid lowbudget",
    "reproduce 1",
    "weights 1 --out w.safetensors",
    "db upgrade",
    "db check",
    "dashboard",
]


def fifo(path):
    os.mkfifo(path)


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def loop(path):
    path.symlink_to("other")
    Path("other").symlink_to(path.name)


def device(path):
    # The numbers of the null device, on a node of the test's own.
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only the superuser makes devices")


def state(path):
    known = path.lstat()
    return known.st_ino, known.st_mode, known.st_size, known.st_mtime_ns


def names_here():
    return sorted(path.name for path in Path().iterdir())


ODD = {
    "a named pipe": (fifo, "is a named pipe and no regular file"),
    "a socket": (bound_socket, "is a socket and no regular file"),
    "a device": (device, "is a device and no regular file"),
    "a link to a pipe": (lambda path: (fifo("pipe"), path.symlink_to("pipe")), "is a named pipe and no regular file"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "a loop of links": (loop, "cannot be a file: Too many levels of symbolic links"),
    "an empty file": (lambda path: path.touch(), "is an empty file"),
    "a text": (lambda path: path.write_text("not a database " * 99), "is no SQLite database"),
    "a short text": (lambda path: path.write_text("x"), "is no SQLite database"),
}


@pytest.mark.parametrize("make, reason", ODD.values(), ids=ODD)
def test_what_is_no_own_database_is_refused_by_every_command_and_left_alone(tmp_path, call, make, reason):
    place = tmp_path / "odd.db"
    make(place)
    Path("records.jsonl").write_text(Path(__file__).with_name("records-3.jsonl").read_text("utf-8"), encoding="utf-8")
    before, names = state(place), names_here()
    # All commands ask the same function; those that make or replace files are tried with everything.
    for command in COMMANDS if make in (fifo, ODD["an empty file"][0]) else COMMANDS[:3]:
        words = command.split()
        said = call(*words, "--db", "odd.db")
        assert said.returncode == 2, (command, said)
        assert reason in " ".join(said.stderr.split()), (command, said.stderr)
        assert (state(place), names_here()) == (before, names), command


@pytest.mark.parametrize("make, reason", ODD.values(), ids=ODD)
def test_scripts_and_the_environment_are_refused_likewise(tmp_path, monkeypatch, call, make, reason):
    make(tmp_path / "odd.db")
    with pytest.raises(NpasBenchError, match=reason):
        load_results("odd.db")
    monkeypatch.setenv("NPAS_BENCH_DB", "odd.db")
    assert reason in " ".join(call("status").stderr.split())


@pytest.mark.parametrize("name", ["a\0b.db", "\udcff\udcfe.db", "folder\0/x.db"])
def test_names_that_no_file_of_sqlite_can_have_are_refused(name):
    with pytest.raises(DatabaseError, match=r"cannot be a file|is not UTF-8") as caught:
        locate(name)
    str(caught.value).encode()
    assert names_here() == []


@pytest.mark.parametrize(
    "name", ["what?.db", "a#b.db", "100%.db", "%41.db", "mode=ro&x.db", "a b.db", "ü.db", "file:x.db", "x.db?mode=ro"]
)
def test_a_name_with_any_characters_is_made_read_and_written_by_that_name(name):
    open_for_writing(locate(name)).close()
    assert name in names_here()
    open_for_reading(locate(name)).close()
    open_for_writing(locate(name)).close()
    assert {one.removesuffix(".lock") for one in names_here()} == {name}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sqlite://some/dir.db", "write sqlite:///some/dir.db for the file some/dir.db"),
        ("sqlite://runs.db", "write sqlite:///runs.db"),
        ("sqlite://user:secret@host/runs.db", "names a host or a user"),
        ("sqlite://user@/runs.db", "names a host or a user"),
        ("sqlite://host:1/runs.db", "names a host or a user"),
        ("new/", "names a folder"),
        ("new/.", "names a folder"),
        ("sqlite:///new/", "names a folder"),
        ("there.db/", "names a folder"),
        ("there.db/.", "names a folder"),
        ("new//", "names a folder"),
    ],
)
def test_a_name_that_means_something_else_than_a_file_is_not_taken_for_one(call, name, message):
    open_for_writing(locate("there.db")).close()
    before = names_here()
    said = call("run", "--task", "digits", "--method", "full", "--executor", "inline", "--db", name)
    assert said.returncode == 2
    assert message in " ".join(said.stderr.split())
    assert "secret" not in said.stderr
    assert names_here() == before


def test_urls_of_files_have_three_slashes_or_four(tmp_path):
    assert locate("sqlite:///runs.db").path == locate("runs.db").path == locate(f"sqlite:///{tmp_path}/runs.db").path


def test_a_link_that_leads_nowhere_is_followed_and_stays():
    Path("inside").mkdir()
    Path("link.db").symlink_to("inside/real.db")
    open_for_writing(locate("link.db")).close()
    assert Path("link.db").is_symlink()
    assert Path("inside/real.db").read_bytes().startswith(b"SQLite format 3")


def test_one_database_has_one_place_by_whatever_path_it_is_reached():
    Path("inside").mkdir()
    Path("folder").symlink_to("inside")
    open_for_writing(locate("inside/real.db")).close()
    Path("link.db").symlink_to("inside/real.db")
    names = ("inside/real.db", "./inside/../inside/real.db", "folder/real.db", "link.db", str(Path.cwd() / "link.db"))
    places = [locate(name) for name in names]
    assert {place.path for place in places} == {Path("inside/real.db").resolve()}
    assert len({(place.name, place.work_folder) for place in places}) == 1
    assert [str(place) for place in places] == list(names)
    first = open_for_writing(places[0])
    for place in places[1:]:
        with pytest.raises(DatabaseError, match="another npas-bench run at work on it"):
            open_for_writing(place)
    first.close()


def test_files_that_happen_to_lie_beside_a_database_are_not_touched(call):
    beside = {"runs.db.new": "mine", "runs.db.0004": "mine too", "runs.db.building": "and mine"}
    for name, text in beside.items():
        Path(name).write_text(text, encoding="utf-8")
    open_for_writing(locate("runs.db")).close()
    assert {name: Path(name).read_text("utf-8") for name in beside} == beside


@pytest.mark.parametrize("make", [lambda path: path.write_text("packages"), fifo, lambda path: path.symlink_to("far")])
def test_a_file_that_has_the_name_of_the_lock_is_not_emptied(make):
    lock = Path("yarn.lock")
    make(lock)
    before = state(lock)
    with pytest.raises(DatabaseError, match=r"needs the name yarn\.lock for its lock, and another file has it"):
        open_for_writing(locate("yarn"))
    assert state(lock) == before
    assert names_here() == ["yarn.lock"]


@pytest.mark.parametrize("make", [fifo, bound_socket, device, lambda path: path.symlink_to("runs.db")])
def test_an_export_never_writes_over_what_is_no_ordinary_file_or_a_database(tmp_path, call, make):
    assert call("import", str(Path(__file__).with_name("records-3.jsonl"))).returncode == 0
    out = tmp_path / "out.jsonl"
    make(out)
    before = state(out), state(tmp_path / "runs.db")
    said = call("export", "--out", "out.jsonl", "--force")
    assert said.returncode == 2
    assert "never written over" in " ".join(said.stderr.split())
    assert (state(out), state(tmp_path / "runs.db")) == before
