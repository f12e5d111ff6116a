"""Whose results a board shows; apart from what opens databases, so that the command line knows it without them."""

from enum import StrEnum


class Which(StrEnum):
    """Whose results to show."""

    all = "all"
    mine = "mine"
    published = "published"
