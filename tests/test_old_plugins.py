"""Plugins that were written for the package as it was before rooms and names changed still work.

The code below is kept as it was written then. It imports from `npas_bench.tasks`, `npas_bench.methods` and
`npas_bench.testing` what those offered, and uses names that have since been replaced.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import plugin_site
from tests.conftest import REPOSITORY

PLUGIN = '''
    import torch
    from torch import nn
    from torch.nn import functional

    from npas_bench.allocation import Allocation
    from npas_bench.architectures import Architecture, Family, Signature
    from npas_bench.errors import DataError, UnsupportedBudget
    from npas_bench.methods import Method, MethodOptions, Problem, SharingMethod
    from npas_bench.network import PlainNetwork
    from npas_bench.recipe import Recipe
    from npas_bench.tasks import Examples, Metric, Source, Split, Task
    from npas_bench.tasks.classification.base import ClassificationTask, ImageSet


    class OldFamily(Family):
        pattern = "oldnet-N"

        def parse(self, name):
            return OldNet(name)


    class OldNet(Architecture):
        def __init__(self, name):
            self.name = name

        def build(self, signature):
            width = int(self.name.split("-")[1])
            inputs = signature.input_shape[0]
            return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, signature.classes))

        def reduce(self, signature, budget):
            raise UnsupportedBudget("there is no smaller one", smallest=self.size(signature))


    class Points(Examples):
        def __init__(self, x, y):
            self.x, self.y = x, y

        def __len__(self):
            return len(self.x)

        def to(self, device):
            return Points(self.x.to(device), self.y.to(device))

        def batch(self, indices):
            return self.x[indices], self.y[indices]


    class OldTask(Task):
        name = "oldtask"
        signature = Signature((6,), 3)
        architecture = "oldnet-8"
        metrics = (Metric("error", "%", higher_is_better=False),)

        def source(self):
            return Source("points", "0" * 64, official=False, label="points")

        def data(self, split):
            if split not in ("train", "test"):
                raise DataError(f"no {split} split")
            draw = torch.Generator().manual_seed(len(split))
            x = torch.randn(96, 6, generator=draw)
            return Points(x, x[:, :3].argmax(1))

        def recipes(self, architecture):
            return {"default": Recipe(epochs=2, batch_size=16, learning_rate=0.1)}

        def augment(self, batch, recipe, generator):
            return batch

        def loss(self, network, batch, recipe):
            return functional.cross_entropy(network(batch[0]), batch[1], label_smoothing=recipe.label_smoothing)

        @torch.no_grad()
        def evaluate(self, network, examples):
            x, y = examples.batch(torch.arange(len(examples)))
            return {"error": 100 * float((network(x).argmax(1) != y).float().mean())}


    class OldImages(ClassificationTask):
        name = "oldimages"
        signature = Signature((1, 8, 8), 2)
        architecture = "wrn-10-1"

        def source(self):
            return Source("stripes", "1" * 64, official=False, label="stripes")

        def data(self, split):
            labels = torch.arange(64) % 2
            pixels = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
            pixels[labels == 1, :, ::2] = 200
            return ImageSet(pixels, labels, mean=(50.0,), deviation=(90.0,))

        def recipes(self, architecture):
            return {"default": Recipe(epochs=1, batch_size=16, learning_rate=0.1, flip=True, crop=1, cutout=2)}

        def loss(self, network, batch, recipe):
            assert recipe.cutout == 2
            return 2 * super().loss(network, batch, recipe)


    class OldOptions(MethodOptions):
        gain: float = 1.0


    class OldAllocation(Allocation):
        """Counts the epochs in which its sums were asked for."""

        def __init__(self, layers, size):
            super().__init__()
            self._layers = {layer.name: layer for layer in layers}
            self._asked = 0
            self.store = nn.Parameter(torch.randn(size) * max(layer.deviation for layer in layers))

        def weight(self, layer):
            wanted = self._layers[layer]
            return self.store.repeat(-(-wanted.size // len(self.store)))[: wanted.size].view(wanted.shape)

        def sums(self):
            self._asked += 1
            return []

        def structure(self):
            return {"asked": self._asked}


    class OldMethod(SharingMethod):
        name = "oldmethod"
        Options = OldOptions

        def allocate(self, problem: Problem):
            most = max(layer.size for layer in problem.layers)
            if problem.available < 1:
                raise UnsupportedBudget("nothing is left", smallest=problem.fixed + 1)
            return OldAllocation(problem.layers, min(most, problem.available))
'''
SUITE = """
    from npas_bench.testing.architectures import GRU, MLP
    from npas_bench.testing.methods import MethodConformance
    from old_plugin import OldMethod


    class TestOldMethod(MethodConformance):
        method = OldMethod
        architectures = (MLP, GRU)
"""
ENTRY_POINTS = """
    [npas_bench.methods]
    oldmethod = old_plugin:OldMethod
    [npas_bench.tasks]
    oldtask = old_plugin:OldTask
    oldimages = old_plugin:OldImages
    [npas_bench.architectures]
    oldnet = old_plugin:OldFamily
"""


@pytest.fixture
def environment(tmp_path):
    """The environment of a process in which the old plugin is installed."""
    site = tmp_path / "site"
    information = site / "old_plugin-1.0.dist-info"
    information.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: old-plugin\nVersion: 1.0\n"
    (information / "METADATA").write_text(metadata, encoding="utf-8")
    (information / "entry_points.txt").write_text(textwrap.dedent(ENTRY_POINTS), encoding="utf-8")
    (site / "old_plugin.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    (site / "test_old_plugin.py").write_text(textwrap.dedent(SUITE), encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)])}


@pytest.fixture
def installed(environment, tmp_path, monkeypatch):
    """The old plugin is installed for this process, as long as the test lasts."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugin_site.forget()
    yield
    sys.modules.pop("old_plugin", None)
    monkeypatch.undo()
    plugin_site.forget()


@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_task_method_and_architecture_run_with_the_old_names(call):
    arguments = ("--task", "oldtask", "--method", "oldmethod", "--budget", "60%", "--seeds", "1")
    ran = call("run", *arguments, "--executor", "inline")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 done" in ran.stdout
    # Both epochs asked for the sums under the name that the plugin gives them.
    exported = call("export", "--out", "runs.jsonl")
    assert exported.returncode == 0, exported.stderr
    record = json.loads(Path("runs.jsonl").read_text(encoding="utf-8"))
    assert record["run"]["structure"] == {"asked": 2}


@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_old_task_of_images_runs_with_a_recipe_for_images(call):
    ran = call("run", "--task", "oldimages", "--method", "full", "--seeds", "1", "--executor", "inline")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 done" in ran.stdout


def test_what_was_replaced_is_told_once_as_a_deprecation(environment):
    script = (sys.executable, "-W", "always::DeprecationWarning", "-c", "import old_plugin")
    told = subprocess.run(script, env=os.environ | environment, capture_output=True, text=True, check=True).stderr
    assert told.count("old_plugin.OldAllocation: sums() is now called epoch_sums()") == 1
    for name in ("OldTask", "OldImages"):
        assert told.count(f"old_plugin.{name}: loss(network, batch, recipe) is now loss(network, batch, step)") == 1
    assert told.count("now written ImageSignature(input_shape, classes)") == 2


def test_an_old_plugin_passes_the_conformance_suite(environment, tmp_path):
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "site/test_old_plugin.py"]
    result = subprocess.run(suite, env=os.environ | environment, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    # The suite may grow; it must not pass because it found nothing to check.
    passed = re.search(r"^(\d+) passed", result.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 8
