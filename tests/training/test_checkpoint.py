import hashlib
import io

import pytest
import torch

from npas_bench.errors import CheckpointError, StorageError
from npas_bench.training.checkpoint import Checkpoint, CheckpointFolder, read_checkpoint, remove_checkpoints


def checkpoint(epoch, identity="cell", source="data"):
    base = torch.arange(10.0)
    network = {"store": base, "view": base[:4], "mean": torch.zeros(3), "constant": torch.ones(2)}
    state = {"memory": torch.ones(6)}
    return Checkpoint(
        identity, source, epoch, network, state, {"state": {}}, {}, {"groups": [1]}, 0.5, [{"epoch": epoch}]
    )


def folder(tmp_path, token, identity="cell", source="data"):
    return CheckpointFolder(tmp_path / "run", identity, source, token)


def test_the_furthest_checkpoint_of_any_attempt_is_the_latest(tmp_path):
    assert folder(tmp_path, "a").latest() is None
    for token, epoch in (("a", 3), ("b", 5), ("c", 4)):
        folder(tmp_path, token).save(checkpoint(epoch))
    latest = folder(tmp_path, "new").latest()
    assert (latest.epoch, latest.structure, latest.history) == (5, {"groups": [1]}, [{"epoch": 5}])
    assert torch.equal(latest.network["store"], torch.arange(10.0))


def test_an_attempt_overwrites_its_own_file_only(tmp_path):
    folder(tmp_path, "a").save(checkpoint(3))
    folder(tmp_path, "b").save(checkpoint(1))
    folder(tmp_path, "b").save(checkpoint(2))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["a.pt", "b.pt"]
    assert folder(tmp_path, "c").latest().epoch == 3


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 nonsense", None])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, damage):
    folder(tmp_path, "good").save(checkpoint(2))
    bad = folder(tmp_path, "bad")
    bad.save(checkpoint(4))
    bad.path.write_bytes(bad.path.read_bytes()[:-300] if damage is None else damage)
    assert folder(tmp_path, "new").latest().epoch == 2


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
    assert folder(tmp_path, "new").latest() is None


def test_a_hostile_checkpoint_is_not_executed(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "hacked"), "w"))

    folder(tmp_path, "a").save(checkpoint(1))
    buffer = io.BytesIO()
    torch.save({"format": 1, "network": Hostile()}, buffer)
    content = buffer.getvalue()
    (tmp_path / "run" / "b.pt").write_bytes(hashlib.sha256(content).digest() + content)
    assert folder(tmp_path, "new").latest().epoch == 1
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
