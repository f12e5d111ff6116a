"""Plugins of other distributions: fake ones on the path, as an installation leaves them."""

import sys
import textwrap

import pytest

from npas_bench import plugins
from npas_bench.cells.grid_files import grid_files
from npas_bench.errors import PluginError, UnknownName
from npas_bench.global_state.keeping import kept

GOOD = """
    from npas_bench.methods import Method
    from npas_bench.network import PlainNetwork

    class Mine(Method):
        name = "mine"
        whole = True

        def build(self, problem):
            return PlainNetwork(problem.module())
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution with one module and one entry point, for this test."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    names = []

    def make(distribution, name, target, code, group="npas_bench.methods"):
        module = target.split(":")[0]
        names.append(module)
        (site / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        info = site / f"{distribution}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n", encoding="utf-8")
        return site

    yield make
    for module in names:
        sys.modules.pop(module, None)


def registry(kind="methods"):
    known = getattr(plugins, kind)
    return plugins.Registry(known.kind, known.group, known.base)


def test_built_in_and_installed_plugins_are_found_alike(install):
    install("fine-plugin", "mine", "fine_plugin:Mine", GOOD)
    assert {"full", "mine", "reduced", "ssn"} < set(registry().names())
    assert ("mine", "fine_plugin:Mine", "fine-plugin 1.5") in registry().entries()
    assert registry().load("mine").name == "mine"
    assert registry().problems() == []


def test_listing_imports_nothing(install):
    install("fine-plugin", "mine", "fine_plugin:Mine", GOOD)
    registry().entries()
    assert "fine_plugin" not in sys.modules


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("x = = 1", "SyntaxError"),
        ("raise RuntimeError('at import')", r"RuntimeError: at import \(.*bad_plugin.py, line 1\)"),
        ("Mine = 3", "bad_plugin:Mine is not a subclass of Method"),
        ("pass", "has no attribute 'Mine'"),
        ("from npas_bench.methods import Method\nclass Mine(Method):\n  name = 'mine'", "does not define build"),
        ("from npas_bench.methods.full import Full as Mine", "bad_plugin:Mine calls itself 'full'"),
    ],
)
def test_a_broken_plugin_is_named_with_its_distribution_and_stops_nothing_else(install, code, message):
    install("bad-plugin", "mine", "bad_plugin:Mine", code)
    with pytest.raises(PluginError, match=message) as caught:
        registry().load("mine")
    assert "bad-plugin 1.5" in str(caught.value)
    assert registry().load("full").name == "full"
    assert len(registry().problems()) == 1


def test_what_an_import_changes_of_the_global_state_is_set_back_and_told(install, caplog):
    sly = """
        import torch
        torch.set_default_dtype(torch.float64)
        torch.nn.functional.relu = torch.nn.functional.gelu
    """
    install("sly-plugin", "mine", "sly_plugin:Mine", textwrap.dedent(sly) + textwrap.dedent(GOOD))
    with kept() as changes:
        assert registry().load("mine").name == "mine"
    assert not changes
    assert "method 'mine' of sly-plugin 1.5 changed global state when it was imported" in caplog.text
    assert "torch.nn.functional.relu" in caplog.text
    registry().load("mine")
    assert len(caplog.messages) == 1


@pytest.fixture
def fresh(monkeypatch):
    """The modules of a method are imported anew, as in a process that has not met them."""
    from npas_bench import methods

    monkeypatch.setattr(methods, "hashednets", methods.hashednets)
    monkeypatch.delitem(sys.modules, "npas_bench.methods.hashednets")


def test_a_built_in_method_that_an_import_patches_is_set_back_though_nothing_had_imported_it(install, caplog, fresh):
    sly = """
        from npas_bench.methods.hashednets import HashedNets
        HashedNets.build = None
    """
    install("patching-plugin", "mine", "patching_plugin:Mine", textwrap.dedent(sly) + textwrap.dedent(GOOD))
    registry().load("mine")
    assert registry().load("hashednets").build is not None
    assert "npas_bench.methods.hashednets.HashedNets.build" in caplog.text


def test_what_an_import_prints_goes_to_standard_error(install, capsys):
    install("loud-plugin", "mine", "loud_plugin:Mine", "print('hello')\n" + textwrap.dedent(GOOD))
    registry().load("mine")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_plugin_whose_import_changes_what_cannot_be_set_back_is_refused(install):
    deep = """
        import torch
        library = torch.library.Library("aten", "IMPL")
        library.impl("acosh", lambda x: x, "AutogradCUDA")
    """
    install("deep-plugin", "mine", "deep_plugin:Mine", textwrap.dedent(deep) + textwrap.dedent(GOOD))
    with pytest.raises(PluginError, match=r"deep-plugin 1.5 .*aten/acosh"):
        registry().load("mine")


def test_two_distributions_with_one_name_are_an_error_that_names_both(install):
    install("rival-plugin", "ssn", "rival_plugin:Mine", GOOD)
    with pytest.raises(PluginError, match=r"offered by .*npas-bench .* and .*rival-plugin|rival-plugin.* and .*npas"):
        registry().load("ssn")


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownName, match="unknown method 'reducd': did you mean reduced"):
        plugins.methods.load("reducd")
    with pytest.raises(UnknownName, match="unknown task 'zzz': known: cifar10, cifar100, digits, image-folder"):
        plugins.tasks.load("zzz")


def test_every_built_in_plugin_loads_under_its_own_name():
    assert [plugins.methods.load(name).name for name in plugins.methods.names()] == plugins.methods.names()
    assert [plugins.tasks.load(name).name for name in plugins.tasks.names()] == plugins.tasks.names()
    for name in plugins.families.names():
        assert plugins.families.load(name).pattern.startswith(f"{name}-")


def test_architectures_are_made_by_the_family_of_the_longest_fitting_name(install):
    code = """
        from npas_bench.architectures.wrn import WideResNetFamily

        class Other(WideResNetFamily):
            pattern = "wrn-16-V"

            def parse(self, name):
                return super().parse(name.replace("-16-", "-10-"))
    """
    install("more-nets", "wrn-16", "more_nets:Other", code, group="npas_bench.architectures")
    families = registry("families")
    original, plugins.families = plugins.families, families
    try:
        assert plugins.architecture("wrn-16-2").name == "wrn-10-2"
        assert plugins.architecture("wrn-22-2").name == "wrn-22-2"
    finally:
        plugins.families = original


def test_grids_come_from_packages_that_entry_points_name(install, caplog):
    site = install("grids-of-mine", "mine", "ignored", "", group="npas_bench.other")
    package = site / "grids_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("special", "lowbudget"):
        (package / f"{name}.yaml").write_text("tasks: [digits]\nmethods: [full]\n", encoding="utf-8")
    info = site / "grids_of_mine-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: grids-of-mine\nVersion: 1.5\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[npas_bench.grids]\nmine = grids_of_mine\nlost = no_such_package\n", encoding="utf-8"
    )
    broken = site / "broken_parent"
    (broken / "inner").mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('at import')", encoding="utf-8")
    (broken / "inner" / "inner.yaml").write_text("tasks: [digits]\nmethods: [full]\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[npas_bench.grids]\nmine = grids_of_mine\nlost = no_such_package\nbroken = broken_parent.inner\n",
        encoding="utf-8",
    )
    found = grid_files()
    assert "there is no package no_such_package" in caplog.text
    assert found["special"] == (package / "special.yaml", "grids-of-mine 1.5")
    # A package that cannot be imported may have grids all the same.
    assert found["inner"] == (broken / "inner" / "inner.yaml", "grids-of-mine 1.5")
    assert not {"grids_of_mine", "broken_parent"} & sys.modules.keys()
    assert found["lowbudget"][1].startswith("npas-bench")
