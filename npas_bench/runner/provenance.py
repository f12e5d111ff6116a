"""Which code ran: the package's sources, and the commit of the checkout that they lie in."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Commit(NamedTuple):
    """The code that ran.

    Attributes:
        commit: commit of the checkout; None if the package is not in one.
        dirty: whether tracked files of the package differ from that commit.
    """

    commit: str | None
    dirty: bool | None


def code() -> Commit:
    """The commit of the checkout that the package was imported from, and whether it was changed since."""
    package = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (package.parent / ".git").exists():
        return Commit(None, None)
    commit = _ask(git, package.parent, "rev-parse", "HEAD")
    changes = _ask(git, package.parent, "status", "--porcelain", "--untracked-files=no", "--", package.name)
    return Commit(commit or None, None if changes is None else bool(changes))


@cache
def source_digest() -> str:
    """A digest of the package's source files, which is the same wherever the same code runs."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _ask(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603 (fixed arguments)
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
