# -*- test-case-name: tests.test_tomllines -*-
"""
Where in a TOML file a key stands.

C{tomllib} gives values without lines.  This follows the lines of a file that C{tomllib} has already accepted, so it
needs to know no more than what a header, a key, and a value over several lines look like.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Path", "findLines"]

Path = tuple[str | int, ...]
"""The way to a key: names, and positions in arrays of tables."""

_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT: Final = re.compile(rf"\s*({_DOTTED})\s*=\s*")
_ONE_KEY: Final = re.compile(_KEY)
_TOKEN: Final = re.compile(r'''"""|\'\'\'|"(?:[^"\\]|\\.)*"|'[^']*'|#.*|[\[\]{}]''')


def _names(dotted: str) -> list[str]:
    return [name.strip("\"'") if name[0] in "\"'" else name for name in _ONE_KEY.findall(dotted)]


def _open(text: str, depth: int, quote: str) -> tuple[int, str]:
    """
    Follow brackets and long strings to the end of a line.

    @param depth: How many brackets are open before it.
    @param quote: The long quote that is open before it, if any.
    """
    while text:
        if quote:
            _, found, text = text.partition(quote)
            quote = "" if found else quote
            continue
        token = _TOKEN.search(text)
        if token is None:
            break
        text = text[token.end() :]
        if token[0] in ('"""', "'''"):
            quote = token[0]
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
    return depth, quote


def findLines(text: str) -> dict[Path, int]:
    """
    Find the line of each table and key.

    @param text: TOML that C{tomllib} accepts.
    @return: Line numbers, from 1.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if depth or quote:
            depth, quote = _open(line, depth, quote)
            continue
        if header := _HEADER.match(line):
            path: Path = ()
            names = _names(header[2])
            for position, name in enumerate(names):
                path += (name,)
                if header[1] == "[[" and position == len(names) - 1:
                    counts[path] = counts.get(path, -1) + 1
                if path in counts:
                    path += (counts[path],)
            table = path
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault(table + tuple(_names(assignment[1])), number)
            depth, quote = _open(line[assignment.end() :], 0, "")
    return lines
