"""The benchmark's maker of large databases, for tests of small ones."""

import importlib.util

from tests.conftest import REPOSITORY


def load():
    """The module `benchmarks/scale_store.py`."""
    spec = importlib.util.spec_from_file_location("scale_store", REPOSITORY / "benchmarks" / "scale_store.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
