import hashlib
import io

import pytest
import torch

from npas_bench.errors import CheckpointError, StorageError
from npas_bench.training.checkpoint import Checkpoint, CheckpointFolder, hand_over, read_checkpoint, remove_checkpoints


def checkpoint(epoch, identity="cell", source="data"):
    base = torch.arange(10.0)
    network = {"store": base, "view": base[:4], "mean": torch.zeros(3), "constant": torch.ones(2)}
    state = {"memory": torch.ones(6)}
    return Checkpoint(
        identity, source, "fit", epoch, network, state, {"state": {}}, {}, {"groups": [1]}, 0.5, [{"epoch": epoch}]
    )


def folder(tmp_path, token, identity="cell", source="data"):
    return CheckpointFolder(tmp_path / "run", identity, source, token)


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "run").iterdir())


def test_an_attempt_goes_on_from_what_it_was_handed(tmp_path):
    assert folder(tmp_path, "a").latest() is None
    folder(tmp_path, "a").save(checkpoint(3))
    hand_over(tmp_path / "run", "a", "b")
    latest = folder(tmp_path, "b").latest()
    assert (latest.epoch, latest.structure, latest.history) == (3, {"groups": [1]}, [{"epoch": 3}])
    assert torch.equal(latest.network["store"], torch.arange(10.0))
    assert names(tmp_path) == ["b.pt"]


def test_what_a_superseded_attempt_still_computes_is_no_checkpoint(tmp_path):
    old = folder(tmp_path, "old")
    old.save(checkpoint(3))
    hand_over(tmp_path / "run", "old", "new")
    old.save(checkpoint(9))
    assert folder(tmp_path, "new").latest().epoch == 3
    folder(tmp_path, "new").save(checkpoint(4))
    hand_over(tmp_path / "run", "new", "newest")
    assert folder(tmp_path, "newest").latest().epoch == 4
    assert names(tmp_path) == ["newest.pt"]


def test_checkpoints_are_handed_over_where_there_are_no_links(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.hardlink_to", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    folder(tmp_path, "a").save(checkpoint(3))
    hand_over(tmp_path / "run", "a", "b")
    assert (folder(tmp_path, "b").latest().epoch, names(tmp_path)) == (3, ["b.pt"])


def test_a_checkpoint_that_cannot_be_handed_over_is_kept(tmp_path, monkeypatch):
    folder(tmp_path, "a").save(checkpoint(3))
    monkeypatch.setattr("pathlib.Path.hardlink_to", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    monkeypatch.setattr("shutil.copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match=r"cannot be handed over: .*No space left"):
        hand_over(tmp_path / "run", "a", "b")
    assert folder(tmp_path, "a").latest().epoch == 3


@pytest.mark.parametrize("superseded", [None, "never-saved"])
def test_without_a_predecessor_s_checkpoint_an_attempt_starts_afresh(tmp_path, superseded):
    hand_over(tmp_path / "run", superseded, "b")
    folder(tmp_path, "other").save(checkpoint(3))
    hand_over(tmp_path / "run", superseded, "b")
    assert folder(tmp_path, "b").latest() is None


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense", None])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, damage, caplog):
    bad = folder(tmp_path, "bad")
    bad.save(checkpoint(4))
    bad.path.write_bytes(bad.path.read_bytes()[:-300] if damage is None else damage)
    assert bad.latest() is None
    assert "bad.pt is damaged: the training starts afresh" in caplog.text


def test_a_checkpoint_with_any_byte_changed_is_passed_over(tmp_path):
    mine = folder(tmp_path, "a")
    mine.save(checkpoint(4))
    content = mine.path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 100)):
        changed = bytearray(content)
        changed[place] ^= 0x10
        mine.path.write_bytes(bytes(changed))
        assert read_checkpoint(mine.path) is None, place


def test_a_disk_that_cannot_be_written_is_an_error_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left"):
        folder(tmp_path, "a").save(checkpoint(1))
    assert folder(tmp_path, "a").latest() is None


def test_a_checkpoint_of_another_cell_or_other_data_is_passed_over(tmp_path):
    folder(tmp_path, "a").save(checkpoint(4, identity="another"))
    folder(tmp_path, "b").save(checkpoint(4, source="other data"))
    assert folder(tmp_path, "a").latest() is None
    assert folder(tmp_path, "b").latest() is None


def test_a_hostile_checkpoint_is_not_executed(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "hacked"), "w"))

    folder(tmp_path, "a").save(checkpoint(1))
    buffer = io.BytesIO()
    torch.save({"format": 3, "network": Hostile()}, buffer)
    content = buffer.getvalue()
    (tmp_path / "run" / "b.pt").write_bytes(hashlib.sha256(content).digest() + content)
    assert folder(tmp_path, "b").latest() is None
    assert not (tmp_path / "hacked").exists()


def test_a_recount_counts_each_storage_once_and_leaves_out_statistics(tmp_path):
    mine = folder(tmp_path, "a")
    mine.save(checkpoint(1))
    assert mine.recount({"mean"}, {"constant", "memory"}) == 10
    assert mine.recount({"mean"}, set()) == 18
    with pytest.raises(CheckpointError, match="cannot be read back"):
        folder(tmp_path, "missing").recount(set(), set())


def test_removing_checkpoints_that_are_not_there_is_no_error(tmp_path):
    remove_checkpoints(tmp_path / "nothing")
