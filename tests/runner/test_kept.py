"""Weights of finished runs: kept, checked, loaded again, and used without this package."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from npas_bench import plugins
from npas_bench.architectures import ImageSignature
from npas_bench.cells.cell import Cell
from npas_bench.errors import StorageError, WeightsError
from npas_bench.methods import Problem
from npas_bench.network import PlainNetwork
from npas_bench.runner.execution import execute
from npas_bench.runner.kept import check_kept, plain_weights_of, rebuild_network
from npas_bench.runner.work import Attempt, Keep, KeptWeights, Work, remove_unlisted
from npas_bench.tasks.classification.digits import Digits
from npas_bench.weights_file import (
    WeightsHeader,
    fill_network,
    read_header,
    read_weights,
    trained_weights,
    write_weights,
)
from tests.conftest import REPOSITORY

RECIPE = Digits().recipes("wrn-10-1")["short"].derive(epochs=1)
RUN = "0123456789abcdef" * 2
HEADER = WeightsHeader(
    kind="trained",
    run=RUN,
    identity="i",
    cell="{}",
    task="digits",
    architecture="wrn-10-1",
    method="full",
    data="digits",
    data_digest="d",
)

# The code in the documentation, run as somebody would run it who does not have this package.
PAGE = (REPOSITORY / "docs" / "weights.md").read_text(encoding="utf-8")
EXAMPLE = PAGE.split("```python\n")[1].split("```")[0]
STRANGER = f"""
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "npas_bench":
            raise ImportError("npas_bench is not installed here")

sys.meta_path.insert(0, Blocked())
from sklearn.datasets import load_digits

for folder in sys.argv[2:]:
    sys.argv[1] = folder + "/plain.safetensors"
    exec({EXAMPLE!r})
    outputs = classify(torch.tensor(load_digits().images, dtype=torch.float32)[:, None])
    torch.save(outputs, folder + "/outputs.pt")
assert not any(name.startswith("npas_bench") for name in sys.modules)
"""


def cell(method="full", budget=77_562, options=None, depth=10):
    version = plugins.methods.load(method).version
    return Cell("digits", 1, f"wrn-{depth}-1", method, version, options or {}, budget, RECIPE, 0)


def run(tmp_path, chosen):
    work, folder = Work(chosen, Digits().source(), "cpu"), tmp_path / "work" / chosen.identity[:8]
    outcome = execute(Attempt(work, "token", folder, Keep(tmp_path / "weights", RUN)), lambda report: None)
    assert outcome.state == "done", outcome.message
    (kept,) = outcome.weights
    return outcome, kept, tmp_path / "weights" / kept.file


# The layers of repeated blocks are what `swrn` shares: it needs three blocks a stage.
SHARING = [*((m, 38_781, 10) for m in ("ssn", "superweights", "hashednets", "hypernetwork")), ("swrn", 200_000, 22)]


def test_plain_files_give_the_runs_outputs_and_their_errors_without_this_package(tmp_path):
    ran = {}
    for method, budget, depth in SHARING:
        folder = tmp_path / method
        chosen = cell(method, budget, depth=depth)
        outcome, kept, path = run(folder, chosen)
        check_kept(path, kept, RUN)
        weights = read_weights(path)
        write_weights(folder / "plain.safetensors", plain_weights_of(chosen, weights))
        ran[folder] = outcome, rebuild_network(chosen, weights)
    # One process for all of them, as most of its time goes into importing torch.
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, "", *map(str, ran)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for folder, (outcome, trained) in ran.items():
        compare(torch.load(folder / "outputs.pt", weights_only=True), outcome, trained)


def compare(outputs, outcome, trained):
    """Compare the outputs of the plain file with those of the trained network, and their error with the run's."""
    from sklearn.datasets import load_digits

    labels = torch.tensor(load_digits().target)
    pixels = torch.tensor(load_digits().images, dtype=torch.float32)[:, None]
    with torch.no_grad():
        own = trained((pixels - 4.9) / 6.0)
    assert (own - outputs).abs().max() <= 1e-6
    rank = torch.zeros_like(labels)
    for digit in range(10):
        rank[labels == digit] = torch.arange(int((labels == digit).sum()))
    test = rank % 3 == 2
    wrong = (outputs[test].argmax(1) != labels[test]).double().mean().item()
    assert abs(100 * wrong - outcome.metrics[0].value) < 1e-9
    assert Digits().evaluate(trained, Digits().data("test"))["error@1"] == outcome.metrics[0].value


def test_weights_of_a_refined_network_go_into_a_network_that_is_built_with_its_structure(tmp_path):
    chosen = cell("superweights", 38_781, {"clustering": "single"})
    _, _, path = run(tmp_path, chosen)
    weights = read_weights(path)
    assert weights.header.structure == rebuild_network(chosen, weights).structure()


def test_the_weights_are_those_of_the_epoch_that_is_reported(tmp_path):
    # The rate rises after half of the training, so that what was learnt is lost again.
    schedule = {"schedule": "step", "learning_rate": 0.05, "milestones": (0.5,), "gamma": 10.0}
    recipe = RECIPE.changed({"epochs": 4, "reported": "best", "validation": 0.2, **schedule})
    chosen = dataclasses.replace(cell("superweights", 38_781, {"clustering": "single"}), recipe=recipe)
    outcome, _, path = run(tmp_path, chosen)
    network = rebuild_network(chosen, read_weights(path))
    assert outcome.reported_epoch in (1, 2)
    assert Digits().evaluate(network, Digits().data("test"))["nll"] == outcome.metrics[2].value


def test_the_plain_network_of_reduced_is_of_the_smaller_architecture(tmp_path):
    chosen = cell("reduced", 20_000)
    _, _, path = run(tmp_path, chosen)
    plain = plain_weights_of(chosen, read_weights(path))
    smaller = plugins.architecture("wrn-10-1").reduce(ImageSignature((1, 8, 8), 10), 20_000)
    assert plain.header.architecture == smaller.name
    smaller.build(ImageSignature((1, 8, 8), 10)).load_state_dict(plain.tensors)


def test_a_storage_with_two_names_is_written_once_and_both_are_filled(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.register_buffer("position", torch.arange(3), persistent=False)

    network = PlainNetwork(Tied())
    path = tmp_path / "tied.safetensors"
    write_weights(path, trained_weights(network, HEADER))
    weights = read_weights(path)
    assert weights.header.aliases == {"architecture.second.weight": "architecture.first.weight"}
    other = PlainNetwork(Tied())
    fill_network(other, weights)
    assert torch.equal(other.architecture.second.weight, network.architecture.first.weight)
    assert "architecture.position" in weights.tensors


def test_weights_that_do_not_fit_a_network_are_refused_by_name():
    def network(width):
        problem = Problem(plugins.architecture(f"wrn-10-{width}"), ImageSignature((1, 8, 8), 10), 10**9)
        return plugins.methods.load("full")().build(problem)

    with pytest.raises(WeightsError, match=f"weights of run {RUN} do not fit the network of full.* differs"):
        fill_network(network(2), trained_weights(network(1), HEADER))


def test_a_file_that_is_cut_short_foreign_changed_or_of_another_run_is_refused_and_says_so(tmp_path):
    first, second = cell(), cell("reduced", 20_000)
    _, kept, path = run(tmp_path / "one", first)
    _, _, other = run(tmp_path / "two", second)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="cut short: it has"):
        check_kept(path, kept, RUN)
    with pytest.raises(WeightsError, match="cut short, or no safetensors file"):
        read_weights(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(WeightsError, match="was changed: its sha256 is"):
        check_kept(path, kept, RUN)
    with pytest.raises(WeightsError, match=r"are of reduced on digits .*, not of digits wrn-10-1 full"):
        rebuild_network(first, read_weights(other))
    longer = trained_weights(PlainNetwork(torch.nn.Linear(300, 300)), HEADER.model_copy(update={"run": "f" * 32}))
    write_weights(path, longer)
    with pytest.raises(WeightsError, match="holds the weights of another run: of run ffff"):
        check_kept(path, kept, RUN)
    foreign = tmp_path / "foreign.safetensors"
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(10**6)}, foreign)
    with pytest.raises(WeightsError, match="no file of weights that npas-bench wrote"):
        read_header(foreign)
    path.unlink()
    with pytest.raises(WeightsError, match="does not exist: it was moved or deleted"):
        check_kept(path, kept, RUN)


def test_a_folder_that_cannot_be_written_fails_the_run_and_keeps_its_checkpoint(tmp_path):
    (tmp_path / "weights").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        write_weights(
            tmp_path / "weights" / "w.safetensors", trained_weights(PlainNetwork(torch.nn.Linear(1, 1)), HEADER)
        )
    chosen = cell()
    folder = tmp_path / "work"
    work = Work(chosen, Digits().source(), "cpu")
    outcome = execute(Attempt(work, "token", folder, Keep(tmp_path / "weights", RUN)), lambda report: None)
    assert (outcome.state, outcome.cause, outcome.resumable) == ("failed", "storage", True)
    assert list(folder.glob("*.pt"))


def test_files_that_the_database_does_not_list_are_removed_and_those_of_other_runs_stay(tmp_path):
    keep = Keep(tmp_path, RUN)
    names = [f"{RUN}-first.safetensors", f"{RUN}-last.safetensors", f"{'f' * 32}-other.safetensors"]
    last = KeptWeights(kind="trained", file=names[1], sha256="", bytes=0)
    for stored, left in ((True, names[1:]), (False, [names[0], names[2]])):
        for name in names:
            (tmp_path / name).touch()
        remove_unlisted(keep, [last], stored=stored)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(left)
