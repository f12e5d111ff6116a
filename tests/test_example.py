"""The example plugin passes the suite that it shows, and its packaging names what is there."""

import importlib
import os
import subprocess
import sys
import tomllib

from tests.conftest import REPOSITORY

PLUGIN = REPOSITORY / "examples" / "plugin"


def test_the_example_passes_the_conformance_suite():
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN / "tests")]
    result = subprocess.run(
        arguments, env=os.environ | {"PYTHONPATH": str(PLUGIN)}, capture_output=True, text=True, cwd=PLUGIN
    )
    assert result.returncode == 0, result.stdout
    assert "9 passed" in result.stdout


def test_its_entry_point_names_its_class(monkeypatch):
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((name, target),) = project["entry-points"]["npas_bench.methods"].items()
    monkeypatch.syspath_prepend(str(PLUGIN))
    module, _, attribute = target.partition(":")
    assert getattr(importlib.import_module(module), attribute).name == name
