"""The rooms: who may import whom, and what must stay light."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from itertools import chain

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "npas_bench"
# Lower levels know nothing of higher ones; rooms of one level may use one another.
LEVELS = [
    {"account", "errors", "seeding", "torch_internals"},
    {"budget", "layers", "recipe", "global_state"},
    {"generation"},
    {"allocation", "weights", "network", "weights_file", "loose_values", "loose_places", "loose_content"},
    {"architectures"},
    {"tasks", "methods"},
    {"plugins", "plugin_code"},
    {"cells"},
    {"database", "training"},
    {"leaderboard", "runner", "forecast"},
    {"dashboard", "results", "verify"},
    {"cli", "api"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("npas_bench"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name.split(".")[1] for name in names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("npas_bench."))


FILES = [path for path in PACKAGE.rglob("*.py") if room(path) not in ("__init__", "testing")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    for imported in imports(path):
        assert imported == "__version__" or LEVEL[imported] <= LEVEL[room(path)], f"{path} imports {imported}"


def test_nothing_imports_a_named_method_or_task():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for folder, names in (("methods", ("full", "reduced", "ssn")), ("tasks", ("classification",))):
            if folder not in path.parts:
                assert not any(f"npas_bench.{folder}.{name}" in text for name in names), path


def test_only_one_module_relies_on_what_is_private_in_torch():
    private = re.compile(
        r"torch\.(\w+\.)*_(?!_)|nn\.modules\.|torch\.ops\."
        r"|\b(?!self)\w+\._(version|parameters|buffers|modules|is_view)\b"
        r"|\._cdata\b|_flat_weights|\._conv_forward"
    )
    found = {path.name for path in FILES if private.search(path.read_text(encoding="utf-8"))}
    assert found == {"torch_internals.py"}


def test_a_public_class_name_means_one_thing():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


FRAGMENT = re.compile(r"(Whether|Of|As|By|If|With|Those)\b")


def test_no_docstring_begins_as_a_fragment():
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        f"{path.relative_to(PACKAGE)}: {docstring.splitlines()[0]}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds) and (docstring := ast.get_docstring(node)) and FRAGMENT.match(docstring)
    ]
    assert found == []


def test_every_module_is_linted_and_no_link_is_followed():
    ruff = [sys.executable, "-m", "ruff", "check", "--show-files", "."]
    shown = subprocess.run(ruff, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout.split()
    assert {str(path) for path in PACKAGE.rglob("*.py")} <= set(shown)
    assert not any(name.startswith(f"{REPOSITORY / link}/") for name in shown for link in ("methods", "runner"))


def test_modules_stay_small():
    assert [str(path) for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > 400] == []


@pytest.mark.parametrize("link", ["methods", "tasks", "runner", "dashboard"])
def test_the_parts_show_at_the_root(link):
    assert (REPOSITORY / link).is_symlink()
    assert (REPOSITORY / link).resolve() == PACKAGE / link


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        (
            "npas_bench.cli.main",
            {
                "torch",
                "ray",
                "sqlalchemy",
                "pydantic",
                "numpy",
                "alembic",
                "streamlit",
                "plotly",
                "npas_bench.dashboard",
            },
        ),
        ("npas_bench.leaderboard.standings", {"torch", "ray"}),
        ("npas_bench.database.queries.results", {"torch", "ray", "alembic"}),
        ("npas_bench.runner.execution", {"ray", "streamlit", "sqlalchemy"}),
        ("npas_bench.runner.driver", {"ray", "streamlit", "npas_bench.dashboard", "npas_bench.cli"}),
    ],
)
def test_light_modules_import_nothing_heavy(module, forbidden):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert forbidden & {*loaded, *(name.split(".")[0] for name in loaded)} == set()


def test_every_dependency_is_pinned_and_torch_is_paired_with_torchvision():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    names = {name.split("[")[0].split(">")[0].lower().replace("_", "-") for name in wanted}
    names.discard(project["name"])
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)
    assert names <= pinned.keys()
    assert (pinned["torch"], pinned["torchvision"]) == ("2.12.1", "0.27.1")


def test_no_modules_import_one_another_in_a_circle():
    modules = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path for path in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    graph = {name: {other for other in imported_modules(path, names) if other != name} for name, path in names.items()}
    graphlib.TopologicalSorter(graph).prepare()


def imported_modules(path, names):
    """The package's modules that a file imports, those for type checking among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module in names:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in names else node.module for name in inner)
