# -*- test-case-name: tests.test_tomllines -*-
"""
Where in a TOML file a key stands.

C{tomllib} gives values without lines.  This walks over a text that C{tomllib} has already accepted, so it needs to know
no more than where a key, a value and a header end.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Final

__all__ = ["Path", "findLines"]

Path = tuple[str | int, ...]
"""The way to a key: names, and positions in arrays."""

_TOKEN: Final = re.compile(
    r'''
    (?P<skip>[ \t\r]+|\#[^\n]*)
    |(?P<text>"""(?:\\.|[^\\])*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:'{0,2})|"(?:\\.|[^"\\])*"|'[^']*')
    |(?P<mark>[\[\]{}=,.\n])
    |(?P<bare>[^\s"'\#\[\]{}=,.]+)
    ''',
    re.DOTALL | re.VERBOSE,
)


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """
    Cut a text into what matters.

    @return: Each token, its line, and where it starts.
    """
    line = 1
    for match in _TOKEN.finditer(text):
        if match["skip"] is None:
            yield match[0], line, match.start()
        line += match[0].count("\n")


def _name(token: str) -> str:
    """
    Read one part of a key.
    """
    if token[0] not in "\"'":
        return token
    name: str = tomllib.loads(f"name = {token}")["name"]
    return name


class _Walk:
    """
    One way through a text.

    @ivar lines: What was found.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._tokens = list(_tokens(text))
        self._at = 0
        self._counts: dict[Path, int] = {}
        table: Path = ()
        while self._at < len(self._tokens):
            if self._is("\n"):
                self._at += 1
            elif self._is("["):
                table = self._header()
            else:
                self._pair(table)

    def _is(self, *marks: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at][0] in marks

    def _skip(self, *marks: str) -> None:
        while self._is(*marks):
            self._at += 1

    def _found(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)

    def _key(self) -> tuple[list[str], int]:
        """
        Read a dotted key.

        @return: Its names, and its line.
        """
        line = self._tokens[self._at][1]
        names = []
        while True:
            names.append(_name(self._tokens[self._at][0]))
            self._at += 1
            if not self._is("."):
                return names, line
            self._at += 1

    def _header(self) -> Path:
        """
        Read C{[a.b]} or C{[[a.b]]}.
        """
        start = self._tokens[self._at][2]
        self._at += 1
        several = self._is("[") and self._tokens[self._at][2] == start + 1
        self._skip("[")
        names, line = self._key()
        path: Path = ()
        for position, name in enumerate(names, 1):
            path += (name,)
            self._found(path, line)
            if several and position == len(names):
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path += (self._counts[path],)
                self._found(path, line)
        self._skip("]")
        return path

    def _pair(self, table: Path) -> None:
        """
        Read a key and its value.
        """
        names, line = self._key()
        for position in range(1, len(names) + 1):
            self._found((*table, *names[:position]), line)
        self._skip("=")
        self._value((*table, *names))

    def _value(self, path: Path) -> None:
        """
        Read a value of any kind.
        """
        if self._is("["):
            self._at += 1
            position = 0
            self._skip("\n")
            while not self._is("]"):
                self._found((*path, position), self._tokens[self._at][1])
                self._value((*path, position))
                self._skip("\n", ",")
                position += 1
            self._at += 1
        elif self._is("{"):
            self._at += 1
            while not self._is("}"):
                self._pair(path)
                self._skip(",")
            self._at += 1
        else:
            # A number or a date may be several tokens.
            while self._at < len(self._tokens) and not self._is("\n", ",", "]", "}"):
                self._at += 1


def findLines(text: str) -> dict[Path, int]:
    """
    Find the line of each table, key and element of an array.

    @param text: TOML that C{tomllib} accepts.
    @return: Line numbers, from 1; of a table that is written in several places, the first.
    """
    return _Walk(text).lines
