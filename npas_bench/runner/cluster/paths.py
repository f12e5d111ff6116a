"""Where Ray's workers look for modules: in the folders in which the driver looks, and in the same order."""

from __future__ import annotations

import sys
import sysconfig
from itertools import takewhile
from pathlib import Path
from typing import Any

from typing_extensions import override


def same_imports(*, here: bool) -> Any:
    """The configuration of a Ray job whose workers import what the driver imports.

    Ray itself puts the working directory before everything else, so that a `statistics.py` there would take the place
    of Python's own in workers alone.

    Args:
        here: whether all workers are started on this machine by this process, and so have the same folders. Workers
            elsewhere have Python and its packages in places of their own, and get what the driver has before these.
    """
    from ray.job_config import JobConfig

    class SameImports(JobConfig):
        @override
        def _runtime_env_has_working_dir(self) -> bool:
            # Ray leaves the folders of a job that brings its own working directory alone.
            return True

    # A worker puts each folder before those that it has.
    return SameImports(_py_driver_sys_path=_folders(here=here)[::-1])


def _folders(*, here: bool) -> list[str]:
    folders = [str(Path(folder).absolute()) for folder in sys.path if isinstance(folder, str)]
    if here:
        return folders
    python = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")}
    python |= {folder for folder in folders if folder.endswith(".zip")}
    return list(takewhile(lambda folder: folder not in python, folders))
