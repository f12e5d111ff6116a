"""The code of third-party plugins is told by distribution, version and a digest of their sources."""

import importlib.abc
import sys
import textwrap
from importlib.machinery import ModuleSpec
from types import FunctionType
from zipfile import ZipFile

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
        {
            "fine_plugin/train.log": "a",
            "fine_plugin/.git/HEAD": "a",
            "fine_plugin/.mypy_cache/a.json": "a",
            "fine_plugin/__pycache__/a.pyc": "",
            "unrelated.py": "",
        }
    ).code()
    assert same == first
    edited = installed.install({"fine_plugin/deep/inner.py": "x = 2"}).code()
    assert edited.digest != first.digest
    assert installed.install({"fine_plugin/deep/inner.py": "x = 1"}).code() == first
    added = installed.install({"fine_plugin/other.py": ""}).code()
    assert added.digest not in (first.digest, edited.digest)


def test_the_data_files_of_a_package_count(installed):
    files = {"fine_plugin/__init__.py": METHOD, "fine_plugin/gain.json": "0.5", "fine_plugin/data/table.csv": "1"}
    first = installed.install(files).code()
    for name in ("fine_plugin/gain.json", "fine_plugin/data/table.csv"):
        assert installed.install({name: "0.6"}).code().digest != first.digest
        assert installed.install(files).code() == first

    record = "fine_plugin/__init__.py,,\nfine_plugin/gain.json,,\nfine_plugin-1.5.dist-info/METADATA,,\n"
    assert installed.install(files, RECORD=record).code() == first


def test_of_a_large_file_the_size_and_both_ends_count(installed, monkeypatch):
    monkeypatch.setattr("npas_bench.plugin_code._LARGE_BYTES", 100)
    monkeypatch.setattr("npas_bench.plugin_code._END_BYTES", 10)
    found = [
        installed.install({"fine_plugin/__init__.py": METHOD, "fine_plugin/weights.bin": text}).code().digest
        for text in ("a" * 1000, "a" * 1001, "b" + "a" * 999, "a" * 999 + "b")
    ]
    assert len(set(found)) == 4


def test_modules_beside_a_plugin_that_it_imports_count(installed):
    files = {
        "fine_plugin.py": f"from helper_code import GAIN\n{textwrap.dedent(METHOD)}",
        "helper_code.py": "def deep():\n    import company\nGAIN = 1\n",
        "company/__init__.py": "x = 1",
    }
    first = installed.install(files).code()
    assert installed.install({"helper_code.py": f"{files['helper_code.py']}GAIN = 2\n"}).code().digest != first.digest
    assert installed.install({**files, "company/__init__.py": "x = 2"}).code().digest != first.digest
    assert installed.install({**files, "unrelated.py": "x = 2"}).code() == first


def zipped(folder, files):
    """An archive with the files of a distribution, as `PYTHONPATH` may name one."""
    path = folder / "plugins.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr(
            "fine_plugin-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: fine-plugin\nVersion: 1.5\n"
        )
        archive.writestr(
            "fine_plugin-1.5.dist-info/entry_points.txt", "[npas_bench.methods]\nmine = fine_plugin:Mine\n"
        )
        for name, text in files.items():
            archive.writestr(name, textwrap.dedent(text))
    return path


@pytest.mark.parametrize("name", ["fine_plugin.py", "fine_plugin/__init__.py"])
def test_a_plugin_in_an_archive_is_told_by_its_sources_too(tmp_path, monkeypatch, name):
    digests = []
    for number, text in enumerate((METHOD, f"{METHOD}\n        gain = 2\n")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(zipped(folder, {name: text})))
            digests.append(Installed(folder).code().digest)
            forget()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plain = Installed(tmp_path / "site").install({name: METHOD}).code().digest
    forget()
    assert digests[0] == plain != digests[1]


class FromNowhere(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Finds and loads a module that lies in no file."""

    def __init__(self, text):
        self.text = text

    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, origin="nowhere") if name == "fine_plugin" else None

    def exec_module(self, module):
        code = compile(textwrap.dedent(self.text), "nowhere", "exec")
        FunctionType(code, vars(module))()


def test_a_plugin_without_any_source_is_told_by_its_compiled_functions(tmp_path, monkeypatch):
    text = f"{METHOD}\n        def gain(self):\n            return 1 in {{'a', 'b', 1}} and (lambda: 2)()\n"
    digests = []
    for code in (text, text, text.replace("2", "3")):
        monkeypatch.syspath_prepend(str(tmp_path))
        others = [one for one in sys.meta_path if not isinstance(one, FromNowhere)]
        monkeypatch.setattr(sys, "meta_path", [FromNowhere(code), *others])
        digests.append(Installed(tmp_path).install({}).code().digest)
        forget()
    assert digests[0] == digests[1] != digests[2]


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
