"""What the packaging says: one version, and an extra for the authors of plugins."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version

import npas_bench
from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_stated_once():
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    stated = (REPOSITORY / PROJECT["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    # As hatch looks for it.
    assert re.findall(r'(?im)^__version__ *= *"v?(.+?)"$', stated) == [npas_bench.__version__]


def test_the_command_and_the_installation_tell_that_version(call):
    assert call("--version").stdout == f"npas-bench {npas_bench.__version__}\n"
    assert version("npas-bench") == npas_bench.__version__


def test_the_conformance_suite_names_its_extra_where_pytest_is_missing():
    code = "import sys; sys.modules['pytest'] = None; import npas_bench.testing.methods"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "pip install 'npas-bench[testing]'" in ended.stderr
    assert PROJECT["project"]["optional-dependencies"]["testing"]
