"""The code of third-party plugins is told by distribution, version and a digest of their sources."""

import pytest

from npas_bench.plugin_code import plugin_code
from tests.plugin_site import METHOD, Installed, forget


@pytest.fixture
def installed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield Installed(tmp_path / "site")
    forget()


def test_built_in_plugins_are_told_by_the_packages_own_version():
    assert plugin_code("digits", "wrn-10-1", "ssn") == ()
    assert plugin_code("image-folder:/nowhere", "resnet-18", "reduced") == ()


def test_distribution_version_and_digest_are_told(installed):
    code = installed.install({"fine_plugin.py": METHOD}).code()
    assert code[:4] == ("method", "mine", "fine-plugin", "1.5")
    assert str(code) == f"method 'mine' of fine-plugin 1.5 (sources {code.digest[:8]})"


def test_an_edit_of_any_source_changes_the_digest_and_nothing_else_does(installed):
    package = {"fine_plugin/__init__.py": METHOD, "fine_plugin/deep/inner.py": "x = 1"}
    first = installed.install(package).code()
    (installed.site / "fine_plugin" / "__pycache__").mkdir(exist_ok=True)
    same = installed.install(
        {"fine_plugin/notes.txt": "a", "unrelated.py": "", "fine_plugin/__pycache__/a.pyc": ""}
    ).code()
    assert same == first
    edited = installed.install({"fine_plugin/deep/inner.py": "x = 2"}).code()
    assert edited.digest != first.digest
    assert installed.install({"fine_plugin/deep/inner.py": "x = 1"}).code() == first
    added = installed.install({"fine_plugin/other.py": ""}).code()
    assert added.digest not in (first.digest, edited.digest)


def test_the_other_modules_of_the_distribution_count(installed):
    files = {"fine_plugin.py": METHOD, "helper_code/__init__.py": "x = 1"}
    first = installed.install(files, **{"top_level.txt": "fine_plugin\nhelper_code\n"}).code()
    assert installed.install({"helper_code/__init__.py": "x = 2"}).code().digest != first.digest

    installed.install(files, **{"RECORD": "fine_plugin.py,,\nhelper_code/__init__.py,,\n"})
    (installed.info / "top_level.txt").unlink()
    assert installed.code() == first
    assert installed.install({"helper_code/__init__.py": "x = 2"}).code().digest != first.digest


def test_the_plugins_that_a_plugin_derives_from_count(installed):
    derived = METHOD.replace("npas_bench.methods.full import Full", "helper_code import Full")
    points = "[npas_bench.methods]\nmine = fine_plugin:Mine\nother = helper_code:Full\n"
    base = "from npas_bench.methods.full import Full as Own\nclass Full(Own):\n  name = 'other'\n"
    first = installed.install(
        {"fine_plugin.py": derived, "helper_code.py": base}, **{"entry_points.txt": points}
    ).code()
    installed.install({"helper_code.py": f"{base}  gain = 2\n"}, **{"entry_points.txt": points})
    assert installed.code().digest != first.digest


def test_namespace_packages_are_told_apart(installed):
    files = {"company/mine/__init__.py": METHOD, "company/other/__init__.py": "x = 1"}
    first = installed.install(files, "company.mine:Mine").code()
    assert installed.install({"company/other/__init__.py": "x = 2"}, "company.mine:Mine").code() == first
    changed = installed.install({"company/mine/more.py": ""}, "company.mine:Mine").code()
    assert changed.digest != first.digest


def test_the_place_of_an_installation_does_not_matter(installed, tmp_path, monkeypatch):
    first = installed.install({"fine_plugin/__init__.py": METHOD, "fine_plugin/inner.py": "x = 1"}).code()
    elsewhere = tmp_path / "elsewhere"
    installed.site.rename(elsewhere)
    monkeypatch.syspath_prepend(str(elsewhere))
    assert Installed(elsewhere).code() == first


def test_a_plugin_that_cannot_be_loaded_has_no_code(installed):
    installed.install({"fine_plugin.py": "raise ValueError"})
    assert plugin_code("digits", "wrn-10-1", "mine") == ()
    assert plugin_code("nothing", "nothing-1", "nothing") == ()
