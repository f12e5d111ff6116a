"""Stop rules: when a training ends, which epoch is reported, and on which examples that is decided."""

import pytest
import torch

from npas_bench.errors import Diverged, RecipeError
from npas_bench.tasks import Examples, Metric
from npas_bench.tasks.classification.digits import Digits
from npas_bench.tasks.classification.files import ImageFiles
from npas_bench.training.stages import Fit, run_stages
from npas_bench.training.stopping import StopRule, split_training
from tests.training.test_loop import network, recipe
from tests.training.test_stages import given

ERROR, ACCURACY = Metric("error", "%", higher_is_better=False), Metric("accuracy", "%", higher_is_better=True)


@pytest.mark.parametrize(
    ("values", "over"),
    [([], False), ([9], False), ([9, 9], False), ([9, 9, 9], True), ([9, 8, 8, 7, 7], False), ([9, 8, 8, 9], True)],
)
def test_a_training_is_over_after_patience_epochs_without_a_gain(values, over):
    assert StopRule(ERROR, patience=2).is_over(values) is over
    assert StopRule(ACCURACY, patience=2).is_over([-value for value in values]) is over


def test_a_gain_must_be_larger_than_the_least_gain_and_small_ones_add_up():
    rule = StopRule(ERROR, min_delta=1.0, patience=2)
    assert rule.is_over([9.0, 8.0, 8.5])
    assert not rule.is_over([9.0, 8.5, 7.9, 7.9])


def test_without_patience_every_epoch_is_trained():
    assert not StopRule(ERROR).is_over([1.0] * 1000)


def test_the_best_epoch_is_the_earliest_of_the_best_values():
    assert StopRule(ERROR).best([5, 3, 4, 3]) == 2
    assert StopRule(ACCURACY).best([5, 3, 7, 7]) == 3


def split(seed=0, task=None, **fields):
    return split_training(task or Digits(), recipe(**fields), seed)


def test_the_held_out_share_depends_on_task_and_seed_alone():
    rules = {"validation": 0.25, "stop_metric": "nll"}
    first, again, other = split(**rules), split(epochs=9, batch_size=7, **rules), split(seed=1, **rules)
    assert (len(first.train), len(first.validation)) == (901, 300)
    assert torch.equal(first.validation.pixels, again.validation.pixels)
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert not torch.equal(first.validation.pixels, other.validation.pixels)
    both = torch.cat([first.train.pixels, first.validation.pixels]).flatten(1)
    whole = Digits().data("train").pixels.flatten(1)
    assert sorted(both.tolist()) == sorted(whole.tolist())


def test_a_share_is_held_out_whether_or_not_anything_is_chosen_on_it():
    held = split(validation=0.25)
    assert (len(held.train), held.validation) == (901, None)
    assert split().train.pixels.shape == Digits().data("train").pixels.shape


class Validated(Digits):
    """Digits whose last 200 training images are a validation split of the task's own."""

    def splits(self):
        return ("train", "validation", "test")

    def data(self, part):
        if part == "test":
            return super().data("test")
        order = torch.arange(1201)
        return super().data("train").subset(order[-200:] if part == "validation" else order[:-200])


def test_a_validation_split_of_the_task_s_own_goes_first():
    own = split(task=Validated(), stop_metric="nll", validation=0.5)
    assert (len(own.train), len(own.validation)) == (1001, 200)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"stop_metric": "nll"}, "task digits has none: set the recipe's field validation to the share"),
        ({"reported": "best"}, "task digits has none: set the recipe's field validation to the share"),
        ({"stop_metric": "accuracy"}, "'accuracy', which task digits does not measure: name one of error@1, error@5"),
        ({"stop_metric": "nll", "validation": 1e-6}, "choose a share that leaves some for both"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused_with_what_would_work(fields, says):
    with pytest.raises(RecipeError, match=says):
        split(**fields)


class Listed(Examples):
    """Examples that know nothing of subsets."""

    unreadable = ("damaged",)

    def __len__(self):
        return 6

    def to(self, device):
        return self

    def batch(self, indices):
        return [10 * index for index in indices.tolist()]


def test_examples_of_any_kind_can_be_held_out():
    chosen = Listed().subset(torch.tensor([1, 3, 5])).to(torch.device("cpu"))
    assert (len(chosen), chosen.unreadable) == (3, ("damaged",))
    assert chosen.batch(torch.tensor([2, 0])) == [50, 10]
    assert list(chosen.batches([torch.tensor([0]), torch.tensor([1, 2])])) == [[10], [30, 50]]


def test_images_in_files_are_held_out_without_being_read():
    files = ImageFiles("zoo", (("a.png", 0), ("b.png", 1), ("c.png", 0)), 8, torch.device("cpu"))
    chosen = files.subset(torch.tensor([2, 0]))
    assert [path for path, _ in chosen.files] == ["c.png", "a.png"]
    chosen.failed.add("c.png")
    assert files.unreadable == ()


def test_a_training_stops_and_hands_on_the_network_of_the_best_epoch():
    rules = {"stop_metric": "nll", "patience": 2, "validation": 0.3, "epochs": 30, "learning_rate": 0.5}
    start = given(reported="best", **rules)
    networks = []
    net = network()

    def keep(report):
        networks.append({name: tensor.clone() for name, tensor in net.state_dict().items()})

    state = run_stages((Fit(),), net, start._replace(on_epoch=keep))
    values = [report.validation for report in state.history]
    rule = StopRule.of(start.task, start.recipe)
    assert len(values) < 30
    assert rule.is_over(values) and not rule.is_over(values[:-1])
    assert state.reported_epoch == rule.best(values) < len(values)
    for name, tensor in state.network.state_dict().items():
        assert torch.equal(tensor, networks[state.reported_epoch - 1][name]), name
    last = run_stages((Fit(),), network(), given(**rules))
    assert [report.validation for report in last.history] == values
    assert last.reported_epoch is None


def test_a_validation_metric_that_is_no_number_ends_the_training():
    class Broken(Digits):
        def evaluate(self, network, examples):
            return dict.fromkeys(("error@1", "error@5", "nll", "ece"), float("nan"))

    start = given(stop_metric="nll", validation=0.3)._replace(task=Broken())
    with pytest.raises(Diverged, match="in nll on the validation split, at epoch 1"):
        run_stages((Fit(),), network(), start)
