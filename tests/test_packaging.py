"""What the packaging says: one version, every dependency, and an extra for the authors of plugins."""

import ast
import contextlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

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


def closure(*wanted):
    """The distributions that an installation of these requirements brings, themselves included."""
    found, open_ = set(), list(wanted)
    while open_:
        name = canonicalize_name(open_.pop())
        if name in found:
            continue
        found.add(name)
        with contextlib.suppress(PackageNotFoundError):
            needs = [Requirement(text) for text in requires(name) or ()]
            open_ += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


RUNTIME = closure(*(Requirement(text).name for text in PROJECT["project"]["dependencies"]))
# What the package imports where it is installed, and does without where it is not; an extra brings the first two.
OPTIONAL = {"psycopg", "pytest", "pynvml"}


def imported(path):
    """The first names of all modules that a file imports, whenever it does so, except for the types' sake."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_whatever_the_package_imports_is_a_dependency_that_it_names():
    named = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    providers = packages_distributions()
    undeclared = {}
    for path in sorted((REPOSITORY / "npas_bench").rglob("*.py")):
        for module in set(imported(path)) - set(sys.stdlib_module_names) - OPTIONAL - {"npas_bench"}:
            provided = {canonicalize_name(name) for name in providers.get(module, ())}
            if not provided & named:
                undeclared.setdefault(module, str(path.relative_to(REPOSITORY)))
    assert undeclared == {}


# Development-only packages cannot be imported in here, as after an installation without extras.
WITHOUT_EXTRAS = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

blocked = set(sys.argv[1].split())

class Hiding:
    find_distributions = staticmethod(PathFinder.find_distributions)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding()
import npas_bench
from npas_bench import plugins
from typer.testing import CliRunner
from npas_bench.cli.main import app

for module in pkgutil.walk_packages(npas_bench.__path__, "npas_bench."):
    # Suites of tests belong to the extra `testing`; a migration is run by Alembic, and a page by Streamlit.
    rooms = ("testing", "database.migrations", "dashboard.pages")
    if not module.name.startswith(tuple(f"npas_bench.{room}" for room in rooms)):
        importlib.import_module(module.name)
for registry in (plugins.methods, plugins.tasks, plugins.families):
    assert registry.problems() == [], registry.problems()
for name in ("efficientnet-b0", "wrn-10-1", "resnet-10", "densenet-bc-40-12"):
    plugins.architecture(name)
plugins.task("cifar10")

def run(*words):
    ended = CliRunner().invoke(app, words)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    assert ended.exit_code == 0, (words, ended.output)

cells = ["--task", "image-folder:pictures", "--architecture", "efficientnet-b0", "--method", "full", "--epochs", "1"]
cells += ["--budget", "100%", "--recipe", "batch_size=2"]
run("plan", *cells)
run("run", *cells, "--executor", "inline", "--device", "cpu", "--keep-weights")
for words in (
    *(f"list {kind}" for kind in ("methods", "tasks", "architectures", "grids")),
    *(f"leaderboard --format {format}" for format in ("table", "markdown", "latex", "csv", "json")),
    "status", "show 1", "compare ssn reduced", "weights 1 --out w.safetensors", "weights 1 --plain --out p.safetensors",
    "export --out mine.jsonl", "import mine.jsonl --db other.db", "db check", "db upgrade", "dashboard --help",
    "run --help", "reproduce --help", "cancel --help",
):
    run(*words.split())

from torchvision.datasets import cifar

def no_network(*_, **__):
    raise OSError("no network")

cifar.download_and_extract_archive = no_network
for name in ("cifar10", "cifar100"):
    assert "cannot be fetched: no network" in str(CliRunner().invoke(app, ["download", name]).exception)
"""


@pytest.mark.slow
def test_the_package_works_without_what_only_development_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("NPAS_BENCH_DATA", str(tmp_path))
    providers = packages_distributions()
    only = [module for module, names in providers.items() if not {canonicalize_name(name) for name in names} & RUNTIME]
    assert {"pytest", "hypothesis", "playwright", "torchmetrics"} <= set(only)
    for split in ("train", "val"):
        for label in ("a", "b"):
            folder = tmp_path / "pictures" / split / label
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (32, 32), (60 * number, 90, 30)).save(folder / f"{number}.png")
    blocked = " ".join(set(only) - {"npas_bench", "tests"})
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, blocked], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
