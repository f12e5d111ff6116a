"""Several stages in a row, and what is left of them when a training is interrupted."""

import hashlib
import io

import pytest
import torch

from npas_bench.errors import CheckpointError, Diverged
from npas_bench.tasks.classification.digits import Digits
from npas_bench.training.checkpoint import Checkpoint, hand_over
from npas_bench.training.stages import Fit, run_stages
from npas_bench.training.stopping import split_training
from tests.training.test_loop import context, folder, network, recipe

STOPPING = {"validation": 0.3, "reported": "best", "learning_rate": 0.3}


def given(**fields):
    start = context(**fields)
    split = split_training(start.task, start.recipe, start.seed)
    return start._replace(examples=split.train, validation=split.validation)


def pipeline():
    """Two stages: one like an ordinary training, and one with a recipe of its own."""
    return Fit(), Fit("tuning", recipe(epochs=2, learning_rate=0.01, crop=0))


def run(net, start, checkpoints=None, on_epoch=lambda _: None):
    return run_stages(pipeline(), net, start._replace(checkpoints=checkpoints, on_epoch=on_epoch))


class Killed(Exception):
    pass


def killed_after(stage, epoch):
    def on_epoch(report):
        if (report.stage, report.epoch) == (stage, epoch):
            raise Killed

    return on_epoch


def numbers(state):
    return [(report.stage, report.epoch, report.loss, report.validation) for report in state.history]


@pytest.mark.parametrize("fields", [{}, STOPPING], ids=["the last epoch goes on", "the best epoch goes on"])
def test_two_stages_killed_at_any_epoch_go_on_to_the_same_weights_bit_for_bit(tmp_path, fields):
    whole = run(network(), given(**fields))
    places = [(None, 1), (None, 2), (None, 3), ("tuning", 1), ("tuning", 2)]
    assert [(report.stage, report.epoch) for report in whole.history] == places
    assert [report.validation is not None for report in whole.history] == [bool(fields)] * 3 + [False] * 2
    for number, place in enumerate(places):
        name = f"killed {number}"
        with pytest.raises(Killed):
            run(network(), given(**fields), folder(tmp_path, "first", name), killed_after(*place))
        hand_over(tmp_path / name, "first", "second")
        torch.manual_seed(number)
        trained = []
        resumed = run(network(seed=1), given(**fields), folder(tmp_path, "second", name), trained.append)
        assert [(report.stage, report.epoch) for report in trained] == places[number + 1 :]
        assert numbers(resumed) == numbers(whole)
        for key, tensor in whole.network.state_dict().items():
            assert torch.equal(tensor, resumed.network.state_dict()[key]), (place, key)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_further_stage_sees_the_examples_in_an_order_of_its_own_and_changed_in_its_own_way(parts):
    seen, draws = [], set()

    class Watching(Digits):
        def augment(self, batch, recipe, generator):
            seen.append(tuple(batch.labels.tolist()))
            draws.add(generator.initial_seed())
            return super().augment(batch, recipe, generator)

    same = recipe(epochs=1, parts=parts)
    start = context(epochs=1, parts=parts)._replace(task=Watching())
    run_stages((Fit(), Fit("again", same), Fit("once more", same)), network(), start)
    batches = len(seen) // 3
    orders = [sum(seen[i * batches : (i + 1) * batches], ()) for i in range(3)]
    assert len(set(orders)) == 3
    assert len(draws) == (3 if parts == 1 else 3 * batches)


def test_a_checkpoint_says_its_stage_and_only_further_stages_are_named_in_the_history(tmp_path):
    checkpoints = folder(tmp_path)
    run(network(), given(), checkpoints)
    last = checkpoints.latest()
    assert (last.stage, last.epoch) == ("tuning", 2)
    assert ["stage" in entry for entry in last.history] == [False] * 3 + [True] * 2


def test_a_checkpoint_from_before_there_were_stages_is_one_of_the_ordinary_stage(tmp_path):
    checkpoints = folder(tmp_path, "old")
    with pytest.raises(Killed):
        run(network(), given(), checkpoints, killed_after(None, 2))
    fields = checkpoints.latest()._asdict()
    del fields["stage"], fields["best"]
    buffer = io.BytesIO()
    torch.save({"format": 2, **fields}, buffer)
    content = buffer.getvalue()
    checkpoints.path.write_bytes(hashlib.sha256(content).digest() + content)
    trained = []
    resumed = run(network(seed=1), given(), checkpoints, trained.append)
    assert [(report.stage, report.epoch) for report in trained] == [(None, 3), ("tuning", 1), ("tuning", 2)]
    assert numbers(resumed) == numbers(run(network(), given()))


def test_a_checkpoint_of_an_unknown_stage_is_refused_by_name(tmp_path):
    checkpoints = folder(tmp_path)
    run(network(), given(), checkpoints)
    with pytest.raises(CheckpointError, match="stage 'tuning'; the stages are fit"):
        run_stages((Fit(),), network(), context()._replace(checkpoints=checkpoints))


def test_a_stage_that_diverges_is_named(tmp_path):
    stages = (Fit(), Fit("tuning", recipe(learning_rate=1e20, epochs=9)))
    with pytest.raises(Diverged, match=r"diverged in the stage tuning, at epoch \d+, step \d+") as caught:
        run_stages(stages, network(), context())
    assert len(caught.value.history) >= 3


def test_a_checkpoint_holds_one_more_network_only_where_the_best_epoch_is_reported(tmp_path):
    plain, best = folder(tmp_path, name="plain"), folder(tmp_path, name="best")
    run_stages((Fit(),), network(), given()._replace(checkpoints=plain))
    run_stages((Fit(),), network(), given(**STOPPING)._replace(checkpoints=best))
    assert plain.latest().best is None
    held = best.latest()
    assert isinstance(held, Checkpoint)
    assert held.best.network.keys() == held.network.keys()
