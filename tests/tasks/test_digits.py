import pytest
import torch

from npas_bench.errors import DataError
from npas_bench.tasks.classification.digits import Digits


def test_the_digits_are_scikit_learns_and_known_by_their_digest():
    source = Digits().source()
    assert source.official
    assert source.label == "digits"


def test_the_split_is_fixed_stratified_and_whole():
    train, test = Digits().data("train"), Digits().data("test")
    assert (len(train), len(test)) == (1201, 596)
    share = test.labels.bincount() / (train.labels.bincount() + test.labels.bincount())
    assert (share - 1 / 3).abs().max() < 0.01
    assert torch.equal(Digits().data("test").pixels, test.pixels)


def test_a_batch_is_normalised_and_keeps_its_labels():
    train = Digits().data("train")
    everything = train.batch(torch.arange(len(train)))
    assert abs(everything.pixels.mean()) < 0.05
    assert abs(everything.pixels.std() - 1) < 0.05
    assert torch.equal(train.batch(torch.tensor([5, 3])).labels, train.labels[[5, 3]])


def test_there_is_no_validation_split():
    with pytest.raises(DataError, match="no validation split"):
        Digits().data("validation")


def test_metrics_are_error_likelihood_and_calibration():
    class Certain(torch.nn.Module):
        """Puts 0.9 on the true class of the first half and on a wrong one of the second."""

        def __init__(self, labels):
            super().__init__()
            wrong = torch.where(torch.arange(len(labels)) < len(labels) // 2, labels, (labels + 1) % 10)
            self.logits = torch.full((len(labels), 10), 0.1 / 9).scatter(1, wrong[:, None], 0.9).log()
            self.done = 0

        def forward(self, x):
            self.done += len(x)
            return self.logits[self.done - len(x) : self.done]

    test = Digits().data("test")
    metrics = Digits().evaluate(Certain(test.labels), test)
    assert metrics["error@1"] == 50.0
    assert metrics["nll"] == pytest.approx(-(torch.tensor([0.9, 0.1 / 9]).log().mean().item()), rel=1e-5)
    assert metrics["ece"] == pytest.approx(40.0, abs=1e-3)
    assert list(metrics) == [metric.name for metric in Digits.metrics]
