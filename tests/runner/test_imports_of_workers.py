"""Workers import what the driver imports: a file or a plugin is found by both of them or by neither."""

import multiprocessing
import os
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest
import ray.job_config

from npas_bench.runner.cluster.paths import same_imports
from npas_bench.runner.together import importing_alike
from tests.conftest import REPOSITORY

# Modules of Python's own that Ray, torch or the package import, and under whose names users keep files.
SHADOWS = ("statistics", "random", "types", "tokenize", "socket", "queue", "select", "platform")
# What the console script does: no folder of the user's is on its path.
SCRIPT = "import sys; sys.argv[0] = 'npas-bench'; from npas_bench.cli.main import main; main()"
PLUGIN = """
    import torch

    from npas_bench.methods.reduced import Reduced


    class Sly(Reduced):
        name = "sly"

        def build(self, problem):
            torch.nn.functional.cross_entropy = lambda *arguments, **options: torch.zeros((), requires_grad=True)
            return super().build(problem)
"""
CELLS = ("--task", "digits", "--budget", "10%", "--seeds", "1", "--short", "--epochs", "1")


@pytest.fixture
def folder(tmp_path):
    """A working directory with files that are named as modules of Python are."""
    (tmp_path / "work").mkdir()
    for name in SHADOWS:
        code = f"raise RuntimeError('{name}.py of the working directory was imported')"
        (tmp_path / "work" / f"{name}.py").write_text(code, encoding="utf-8")
    return tmp_path / "work"


def run(folder, *arguments, **environment):
    script = folder.parent / "npas-bench.py"
    script.write_text(SCRIPT, encoding="utf-8")
    path = os.pathsep.join([*environment.pop("paths", ()), str(REPOSITORY)])
    return subprocess.run(
        [sys.executable, "-P", script, "run", *CELLS, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "80"} | environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_files_of_the_working_directory_shadow_nothing_on_workers_and_plugins_are_found_there(folder):
    site = folder / "plugins"
    information = site / "sly-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: sly\nVersion: 1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text("[npas_bench.methods]\nsly = sly_plugin:Sly\n", encoding="utf-8")
    (site / "sly_plugin.py").write_text(textwrap.dedent(PLUGIN), encoding="utf-8")
    methods = ("--method", "sly", "--method", "reduced")
    # The plugin lies in the working directory, and PYTHONPATH names it, as where it is being developed.
    ran = run(folder, *methods, "--executor", "ray", "--db", "ray.db", "--log", "ray.log", paths=["plugins"])
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 done" in ran.stdout
    log = (folder / "ray.log").read_text(encoding="utf-8")
    assert "method 'sly' (sly_plugin:Sly) changed global state: torch.nn.functional.cross_entropy" in log
    assert "each worker that this happens to is replaced" in log


def test_processes_that_train_together_import_what_the_driver_imports(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with importing_alike():
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(0,))
        process.start()
    process.join()
    assert process.exitcode == 0
    assert "PYTHONSAFEPATH" not in os.environ


def folders(here):
    return list(same_imports(here=here)._get_proto_job_config().py_driver_sys_path)[::-1]


def test_workers_of_this_machine_get_the_drivers_folders_in_their_order(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", ["", "relative", *sys.path, str(tmp_path / "last")])
    assert folders(here=True)[:2] == [str(Path.cwd()), str(Path.cwd() / "relative")]
    assert folders(here=True)[-1] == str(tmp_path / "last")


def test_workers_elsewhere_get_what_the_driver_looks_into_before_pythons_own_modules(monkeypatch):
    own = sysconfig.get_path("stdlib")
    monkeypatch.setattr(sys, "path", ["/scripts", "/plugins", own, "/somewhere/site-packages"])
    assert folders(here=False) == ["/scripts", "/plugins"]


def test_ray_adds_no_folder_to_those_of_the_driver():
    # It asks this before it would add the working directory and the folder of the script.
    assert not ray.job_config.JobConfig()._runtime_env_has_working_dir()
    assert same_imports(here=True)._runtime_env_has_working_dir()
