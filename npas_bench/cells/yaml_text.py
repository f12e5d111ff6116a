"""YAML as grids are written in it: numbers are what they look like, and no file takes long to read.

PyYAML follows YAML 1.1, which reads `1:30` as 90, `010` as 8, `no` as false and `2024-01-02` as a date. Here plain
scalars are read as the core schema of YAML 1.2.2 (section 10.3.2) says, without its octal and hexadecimal numbers:
whatever is no decimal number, `true`, `false` or `null` is the text that stands there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from npas_bench.errors import GridError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 256 * 1024
_MOST_NODES = 50_000
_DEEPEST = 20
_TAG = "tag:yaml.org,2002:"
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})\Z")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?\Z")
# What stands before and after the comma that groups the digits of a number by thousands.
_BEFORE_COMMA = re.compile(r"[-+]?[0-9]{1,3}\Z")
_AFTER_COMMA = re.compile(r"[0-9]{3}(?![0-9])")
_NO_NUMBER = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


class _Composer(yaml.SafeLoader):
    """Makes the tree of a document and resolves nothing in it."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (as PyYAML declares it)


def read_yaml(text: str, where: str) -> Any:
    """The content of a YAML document.

    Args:
        text: the document.
        where: what it is, as messages call it.

    Raises:
        GridError: if it is no YAML, is too large or too deep, uses aliases to be so, or has values that no grid has;
            the message says where.
    """
    if len(text) > MOST_BYTES:
        raise GridError(f"{where} has {len(text):,} characters, and a grid has at most {MOST_BYTES:,}")
    try:
        loader = _Composer(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:
        raise GridError(f"{where} is no YAML that can be read: {error}") from None
    except RecursionError:
        raise GridError(f"{where} is no YAML that can be read: it is nested more than {_DEEPEST} deep") from None
    return None if node is None else _Reader(where).value(node, 0)


class _Reader:
    """Turns the nodes of a document into values."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._nodes = 0

    def value(self, node: yaml.Node, depth: int) -> Any:
        """What a node stands for.

        Args:
            node: any node of the document.
            depth: how many lists and mappings it lies in.

        Raises:
            GridError: if it is none that a grid has.
        """
        # Aliases lead to the same node again, which counts as often as it is read.
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise self._refused(node, f"has more than {_MOST_NODES:,} entries, with what aliases repeat")
        if depth > _DEEPEST:
            raise self._refused(node, f"is nested more than {_DEEPEST} deep")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            self._check_commas(node)
            return [self.value(one, depth + 1) for one in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return dict(self._entries(node, depth + 1))
        raise self._refused(node, f"has the tag {node.tag.removeprefix(_TAG)}, which grids do not use")

    def _entries(self, node: yaml.MappingNode, depth: int) -> Iterator[tuple[Any, Any]]:
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._refused(key, "has a key that is no plain word")
            if key.value in seen:
                raise self._refused(key, f"has the key '{key.value}' twice")
            seen.add(key.value)
            yield self._scalar(key), self.value(value, depth)

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        tag, written = node.tag.removeprefix(_TAG), str(node.value)
        if tag != "str":
            raise self._refused(node, f"has the tag {tag}, which grids do not use")
        return written if node.style is not None else plain_value(written)

    def _check_commas(self, node: yaml.SequenceNode) -> None:
        """Refuse `[12,500]` and `[12,500k]`, which may be meant as one number."""
        for one, other in zip(node.value, node.value[1:], strict=False):
            touching = other.start_mark.index == one.end_mark.index + 1
            if touching and _plain(one, _BEFORE_COMMA) and _plain(other, _AFTER_COMMA):
                both = f"{one.value},{other.value}"
                wanted = f"write {one.value}{other.value} for one number, or '{one.value}, {other.value}' for two"
                raise self._refused(one, f"has {both}, which can be one number or two: {wanted}")

    def _refused(self, node: yaml.Node, what: str) -> GridError:
        return GridError(f"{self._where}, line {node.start_mark.line + 1}: it {what}")


def _plain(node: yaml.Node, pattern: re.Pattern[str]) -> bool:
    """Tell whether a node is a scalar without quotes whose text begins as a pattern says."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and pattern.match(str(node.value)) is not None


def plain_value(written: str) -> Any:
    """What a plain scalar stands for: a decimal number, true, false or nothing, or else the text itself."""
    if written.lower() in _WORDS:
        return _WORDS[written.lower()]
    if _INTEGER.match(written):
        return int(written)
    if _NUMBER.match(written):
        return float(written)
    lowered = written.lower()
    return float(_NO_NUMBER[lowered]) if lowered in _NO_NUMBER else written
