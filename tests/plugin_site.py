"""A distribution with a method that a test installs, edits and has loaded anew, as new processes would."""

import importlib
import sys
import textwrap

from npas_bench import plugin_code as module
from npas_bench import plugins

METHOD = """
    from npas_bench.methods.full import Full

    class Mine(Full):
        name = "mine"
"""
_MODULES = ("fine_plugin", "company", "helper_code")


def forget():
    """Forget what this process knows of the distribution, as a new process would not know it."""
    module._code_of.cache_clear()
    for registry in (plugins.methods, plugins.tasks, plugins.families):
        vars(registry).pop("_points", None)
    for name in [name for name in sys.modules if name.split(".")[0] in _MODULES]:
        del sys.modules[name]
    # A folder that was not there when something was imported last would stay unknown.
    importlib.invalidate_caches()


class Installed:
    """A distribution in a folder on the path, with one method."""

    def __init__(self, site):
        self.site = site
        self.info = site / "fine_plugin-1.5.dist-info"

    def install(self, files, target="fine_plugin:Mine", **metadata):
        """Write files and metadata, as an installation or an edit leaves them."""
        self.info.mkdir(parents=True, exist_ok=True)
        texts = {
            "METADATA": "Metadata-Version: 2.1\nName: fine-plugin\nVersion: 1.5\n",
            "entry_points.txt": f"[npas_bench.methods]\nmine = {target}\n",
        }
        for name, text in (texts | metadata).items():
            (self.info / name).write_text(text, encoding="utf-8")
        for name, text in files.items():
            path = self.site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        forget()
        return self

    def code(self):
        """The code of the method, as a new process would tell it."""
        forget()
        (found,) = module.plugin_code("digits", "wrn-10-1", "mine")
        return found
