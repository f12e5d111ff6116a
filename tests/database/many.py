"""The benchmark's maker of large databases, for tests of small ones."""

import importlib.util

from tests.conftest import REPOSITORY


def load():
    """The module `benchmarks/scale_database.py`."""
    spec = importlib.util.spec_from_file_location("scale_database", REPOSITORY / "benchmarks" / "scale_database.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
