"""Metrics of classification against tables worked out by hand, and against torchmetrics away from the edges."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_stat_scores

from npas_bench import plugins
from npas_bench.tasks.classification.base import ImageSet
from npas_bench.tasks.classification.digits import Digits
from npas_bench.tasks.classification.metrics import calibration_error, error

NAN = float("nan")


def of(*rows):
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize(
    ("logits", "labels", "k", "expected"),
    [
        (of([3, 2, 1], [3, 2, 1], [3, 2, 1], [3, 2, 1]), [0, 0, 1, 2], 1, 50),
        (of([3, 2, 1], [3, 2, 1], [3, 2, 1], [3, 2, 1]), [0, 0, 1, 2], 2, 25),
        # A network whose logits are all equal guesses the first classes: chance, not perfection.
        (torch.zeros(4, 4), [0, 1, 2, 3], 1, 75),
        (torch.zeros(4, 4), [0, 1, 2, 3], 3, 25),
        # A tie for the last place goes to the smaller number, on either side of the true class.
        (of([9, 5, 5, 5]), [1], 2, 0),
        (of([9, 5, 5, 5]), [2], 2, 100),
        # Fewer classes than are looked at, as many, and one class alone.
        (of([0, 1, 2]), [0], 5, 0),
        (of([0, 1, 2, 3, 4]), [0], 5, 0),
        (of([7], [-7]), [0, 0], 1, 0),
        # Classes 0 and 3 never occur, class 1 is never guessed.
        (of([0, 1, 2, 0], [0, 1, 2, 0]), [1, 2], 1, 50),
        # Infinite logits are ordered like others, and one that is not a number is never right.
        (of([float("inf"), 1], [float("-inf"), 1]), [0, 0], 1, 50),
        (of([NAN, 1], [NAN, NAN]), [0, 1], 1, 100),
    ],
)
def test_the_top_k_error_is_what_is_worked_out_by_hand(logits, labels, k, expected):
    assert error(logits, torch.tensor(labels), k) == expected


def certain(*confidences, classes=2):
    """Logits whose first class has these confidences, the others the rest in equal parts."""
    rest = [(1 - value) / (classes - 1) for value in confidences]
    rows = [[value, *[other] * (classes - 1)] for value, other in zip(confidences, rest, strict=True)]
    return torch.tensor(rows, dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        # One bin: mean confidence 0.9, accuracy 0.5.
        (certain(0.9, 0.9), [0, 1], 40),
        # Two bins of 15, at 0.95 and 0.6: gaps of 0.05 and 0.6, half the examples in each.
        (certain(0.95, 0.6), [0, 1], 100 * (0.05 + 0.6) / 2),
        # Saturated confidences lie in the last bin, beside 0.95: mean confidence 0.975, accuracy 0.5, a gap of 0.475.
        # In a bin of their own they would give half of 0.05 and half of 1: 52.5.
        (certain(0.95, 1.0), [0, 1], 47.5),
        (of([100, 0], [100, 0]), [0, 0], 0),
        (of([100, 0], [100, 0]), [1, 1], 100),
        # Float32 rounds this confidence to 1, which moves it into no other bin.
        (of([20, 0], [20, 0]), [0, 1], 50),
        # A tie of two classes: the first is guessed, with confidence 0.5.
        (of([1, 1], [1, 1]), [0, 1], 0),
        # One class alone is certain and right.
        (of([5], [-5]), [0, 0], 0),
        # A class that never occurs changes nothing.
        (certain(0.9, 0.9, classes=3), [0, 1], 40),
    ],
)
def test_the_calibration_error_is_what_is_worked_out_by_hand(logits, labels, expected):
    assert calibration_error(logits, torch.tensor(labels)) == pytest.approx(expected, abs=1e-4)


def test_a_confidence_at_the_edge_of_two_bins_is_in_the_lower_one():
    """Confidences 0.5 and 0.75 of 4 bins: the former is in (0.25, 0.5], the latter in (0.5, 0.75] beside 0.7."""
    logits = certain(0.75, 0.7, 0.5)
    labels = torch.tensor([0, 1, 0])
    # The pair: mean confidence 0.725, accuracy 0.5. The other: confidence 0.5, accuracy 1.
    assert calibration_error(logits, labels, bins=4) == pytest.approx(100 * (2 * 0.225 + 0.5) / 3, abs=1e-4)


@pytest.mark.parametrize("classes", [3, 5])
def test_the_confidence_of_classes_that_tie_is_an_edge_and_in_the_bin_below_it(classes):
    """A third is 5 of 15 and a fifth is 3 of 15, in float64 as on paper."""
    edge = 1 / classes
    logits = torch.cat([torch.zeros(1, classes).double(), certain(edge + 0.01, edge - 0.01, classes=classes)])
    # Guesses are class 0 for the first two, and class 1 for the last one, whose confidence is a little above the edge.
    labels = torch.tensor([0, 1, 1])
    above = abs((0 - (edge + 0.01)) + (1 - (1 - edge + 0.01) / (classes - 1)))
    assert calibration_error(logits, labels) == pytest.approx(100 * (1 - edge + above) / 3, abs=1e-6)


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_logits_that_have_no_probabilities_have_no_calibration_error(value):
    """So that the run counts as failed; their negative log likelihood is no number either."""
    assert math.isnan(calibration_error(of([value, 1], [0, 1]), torch.tensor([1, 1])))


class Known(torch.nn.Module):
    """Returns logits that are given to it, batch by batch."""

    def __init__(self, logits):
        super().__init__()
        self.left = logits

    def forward(self, pixels):
        now, self.left = self.left.split([len(pixels), len(self.left) - len(pixels)])
        return now


def evaluated(logits):
    test = Digits().data("test")
    return Digits().evaluate(Known(logits(functional.one_hot(test.labels, 10).float())), test)


def test_a_network_that_is_certain_and_always_right_has_no_error_of_any_kind():
    assert evaluated(lambda true: 1000 * true) == {"error@1": 0, "error@5": 0, "nll": 0, "ece": 0}


def test_a_network_that_is_certain_and_always_wrong_has_every_error():
    found = evaluated(lambda true: 2000 * true.roll(1, 1) - 1000 * true)
    assert found == {"error@1": 100, "error@5": 100, "nll": 3000, "ece": 100}


def test_saturated_and_nearly_saturated_confidences_are_in_one_bin():
    """Half of the images are right with confidence 0.99, the other half wrong with confidence 1 of float32."""

    def logits(true):
        half = torch.arange(len(true)) < len(true) // 2
        near = torch.where(true == 1, 0.99, 0.01 / 9).log()
        return torch.where(half[:, None], near, 1000 * true.roll(1, 1))

    assert evaluated(logits)["ece"] == pytest.approx(100 * (0.995 - 0.5), abs=1e-3)


@given(st.integers(2, 12), st.integers(1, 40), st.integers(0, 2**31))
def test_away_from_the_edges_torchmetrics_says_the_same(classes, examples, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(examples, classes, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(classes, (examples,), generator=generator)
    for k in (1, min(5, classes)):
        right = multiclass_stat_scores(logits, labels, classes, average="micro", top_k=k)[0]
        assert error(logits, labels, k) == pytest.approx(100 * (1 - int(right) / examples), abs=1e-9)
    confidences = logits.softmax(1)
    if confidences.max() < 1:
        theirs = multiclass_calibration_error(confidences, labels, classes, n_bins=15)
        assert calibration_error(logits, labels) == pytest.approx(100 * float(theirs), abs=1e-3)  # float32


class Scores(nn.Module):
    """Gives an image's own class a score, and every other class zero."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, pixels):
        return self.score * pixels.flatten(1)


@pytest.mark.parametrize("name", plugins.tasks.names())
def test_the_direction_of_every_metric_is_the_one_in_which_right_answers_lie(name):
    examples = ImageSet(torch.eye(7, dtype=torch.uint8)[:, :, None, None], torch.arange(7), (0.0,) * 7, (1.0,) * 7)
    right, wrong = (Digits().evaluate(Scores(score), examples) for score in (60.0, -60.0))
    metrics = plugins.tasks.load(name).metrics
    assert [metric.name for metric in metrics] == list(right)
    for metric in metrics:
        assert right[metric.name] != wrong[metric.name], metric.name
        assert (right[metric.name] > wrong[metric.name]) == metric.higher_is_better, metric.name
