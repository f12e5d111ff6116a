"""Which code ran: the commit of the checkout that the package lies in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple


class Code(NamedTuple):
    """The code that ran.

    Attributes:
        commit: of the checkout; None where the package is not in one.
        dirty: whether tracked files of the package differ from that commit.
    """

    commit: str | None
    dirty: bool | None


def code() -> Code:
    """The commit of the checkout that the package was imported from, and whether it was changed since."""
    package = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (package.parent / ".git").exists():
        return Code(None, None)
    commit = _ask(git, package.parent, "rev-parse", "HEAD")
    changes = _ask(git, package.parent, "status", "--porcelain", "--untracked-files=no", "--", package.name)
    return Code(commit or None, None if changes is None else bool(changes))


def _ask(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603 (fixed arguments)
            [git, "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
