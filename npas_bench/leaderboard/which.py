"""Whose results a board shows.

This is a module of its own so that the command line can name the choices without importing what opens databases.
"""

from enum import StrEnum


class Which(StrEnum):
    """Whose results to show."""

    all = "all"
    mine = "mine"
    published = "published"
