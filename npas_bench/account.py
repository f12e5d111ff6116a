"""The account that the process runs under, which in containers and on clusters may have neither a name nor a home."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

# No folder of this name is ever made: what libraries look for in a home is simply not there.
_NOWHERE = "/nonexistent"


def complete_account() -> None:
    """Give the account a name and a home, as far as it has none, for the libraries that take both for granted.

    PyTorch cannot even be used without a name of the user, which it makes part of the name of a folder. Both are set
    in the environment, so that processes started from here have them too.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = os.environ["USER"] = f"uid-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = _NOWHERE
