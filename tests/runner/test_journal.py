import logging
import os
from pathlib import Path

import pytest

from npas_bench.database.opening import locate, open_for_writing
from npas_bench.errors import NpasBenchError
from npas_bench.runner.journal import logged
from tests.database.test_runs import finished

log = logging.getLogger("npas_bench.test")


def test_what_happens_is_in_the_log_and_the_settings_are_as_before(tmp_path):
    package = logging.getLogger("npas_bench")
    before = package.level, list(package.handlers)
    with logged(tmp_path / "logs" / "a.log"):
        log.info("started a cell")
    log.info("not any more")
    assert "INFO started a cell" in (tmp_path / "logs" / "a.log").read_text()
    assert "not any more" not in (tmp_path / "logs" / "a.log").read_text()
    assert (package.level, package.handlers) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_on_a_full_disk_is_a_warning_and_no_more(capsys, caplog):
    with logged(Path("/dev/full")):
        for _ in range(3):
            log.info("x" * 100_000)
    assert [record.message for record in caplog.records if "cannot be written" in record.message] == [
        "the log /dev/full cannot be written"
    ]
    assert "Traceback" not in capsys.readouterr().err


def test_a_log_is_appended_to_what_is_there(tmp_path):
    (tmp_path / "a.log").write_text("before\n")
    for text in ("one", "two"):
        with logged(tmp_path / "a.log"):
            log.info(text)
    assert [line.split()[-1] for line in (tmp_path / "a.log").read_text().splitlines()] == ["before", "one", "two"]


# A test that opened a pipe would wait for ever.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["runs.db", "runs.db.lock", "runs.db-wal", "link", "pipe", "folder"])
def test_a_log_is_not_appended_to_a_database_or_a_pipe(name):
    database = open_for_writing(locate("runs.db"))
    finished(database, "a")
    Path("link").symlink_to("runs.db")
    os.mkfifo("pipe")
    Path("folder").mkdir()
    before = [Path(one).read_bytes() for one in ("runs.db", "runs.db.lock", "runs.db-wal")]
    with pytest.raises(NpasBenchError, match=f"the log {name} (is|belongs to) .*name another file"), logged(Path(name)):
        log.info("started a cell")
    assert [Path(one).read_bytes() for one in ("runs.db", "runs.db.lock", "runs.db-wal")] == before
    database.close()


def test_a_log_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NpasBenchError, match=r"cannot be written.*--log"), logged(tmp_path / "file" / "a.log"):
        pass
