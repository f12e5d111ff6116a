import pytest

from npas_bench.recipe import Recipe
from npas_bench.training.schedule import learning_rate


def rates(steps, **fields):
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=0.1, **fields)
    return [learning_rate(recipe, step, steps) for step in range(steps)]


def test_steps_fall_at_their_share_of_the_training_however_long_it_is():
    for epochs, per_epoch in ((200, 391), (10, 391), (5, 3)):
        all_rates = rates(epochs * per_epoch, schedule="step", milestones=(0.2, 0.6), gamma=0.5)
        falls = [i for i in range(1, len(all_rates)) if all_rates[i] < all_rates[i - 1]]
        assert falls == [epochs * per_epoch * 2 // 10, epochs * per_epoch * 6 // 10]
        assert all_rates[-1] == pytest.approx(0.025)


def test_the_papers_milestones_fall_on_epoch_60_120_and_160():
    all_rates = rates(200 * 391, schedule="step", milestones=(0.3, 0.6, 0.8), gamma=0.2)
    assert [all_rates[e * 391] / all_rates[e * 391 - 1] for e in (60, 120, 160)] == pytest.approx([0.2] * 3)


def test_cosine_goes_from_the_peak_towards_zero():
    all_rates = rates(100, schedule="cosine")
    assert all_rates[0] == 0.1
    assert all_rates[50] == pytest.approx(0.05)
    assert all_rates == sorted(all_rates, reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_one_cycle_rises_to_the_peak_and_falls(steps):
    all_rates = rates(steps, schedule="one-cycle", warmup=0.3)
    peak = all_rates.index(max(all_rates))
    assert max(all_rates) == pytest.approx(0.1)
    assert all_rates[: peak + 1] == sorted(all_rates[: peak + 1])
    assert all_rates[peak:] == sorted(all_rates[peak:], reverse=True)
    assert min(all_rates) >= 0
