"""The files of named grids, which come along with this package and with other distributions."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from npas_bench.plugins import distribution_of

log = logging.getLogger(__name__)
_BUILT_IN = "npas-bench"


def grid_files() -> dict[str, tuple[Path, str]]:
    """The file of every named grid, and the distribution that ships it; nothing is imported.

    An entry point of `npas_bench.grids` names a package whose `*.yaml` files are grids, named after the files.
    """
    found: dict[str, tuple[Path, str]] = {}
    for point in sorted(entry_points(group="npas_bench.grids"), key=lambda point: point.name != _BUILT_IN):
        folders = _folders_of(point.value)
        if not folders:
            log.warning("grids of %s: there is no package %s", distribution_of(point), point.value)
        for folder in folders:
            for path in sorted(folder.glob("*.yaml")):
                found.setdefault(path.stem, (path, distribution_of(point)))
    return dict(sorted(found.items()))


def _folders_of(package: str) -> list[Path]:
    """The folders that a package consists of, found without importing the packages that it lies in."""
    top, _, inner = package.partition(".")
    try:
        # A module of the outermost level is only looked for.
        spec = find_spec(top)
    # Installations of an odd kind bring code of their own that looks for modules, and may fail in any way.
    except (Exception, SystemExit):
        log.debug("%s cannot be looked for", top, exc_info=True)
        return []
    places = (spec.submodule_search_locations or []) if spec else []
    folders = [Path(place, *inner.split(".")) if inner else Path(place) for place in places]
    return [folder for folder in folders if folder.is_dir()]
