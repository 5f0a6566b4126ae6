# -*- test-case-name: tests.test_tomlfile -*-
"""
A TOML file, and where in it something is wrong.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve, field, frozen

from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.tls.files import readWhole
from tlsproxy.tomllines import findLines

__all__ = ["TOMLFile"]


@frozen
class TOMLFile:
    """
    A file as it was read.

    @ivar name: What it was called.
    @ivar document: What it says.
    """

    name: str
    document: dict[str, Any] = field(repr=False)
    _text: str = field(repr=False)

    @classmethod
    def read(cls, name: str) -> TOMLFile:
        """
        Read a file.

        @raise ConfigurationError: It cannot be read, or is no TOML.
        """
        try:
            data = readWhole(name)[0]
        except OSError as e:
            raise ConfigurationError([Problem("", e.strerror or "it cannot be read", name)]) from e
        return cls.parse(name, data)

    @classmethod
    def parse(cls, name: str, data: bytes) -> TOMLFile:
        """
        Take what was read of a file.

        @raise ConfigurationError: It is no TOML.
        """
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as e:
            raise ConfigurationError([Problem("", "it is not UTF-8 text", name)]) from e
        try:
            return cls(name, tomllib.loads(text), text)
        except tomllib.TOMLDecodeError as e:
            line = re.search(r"line (\d+)", str(e))
            number = int(line[1]) if line else max(1, len(text.splitlines()))
            raise ConfigurationError([Problem("", f"it is not TOML: {e}", name, number)]) from e
        except RecursionError as e:
            raise ConfigurationError([Problem("", "it is nested too deep", name)]) from e
        except ValueError as e:
            # Python limits the digits of a number, and does not say where.
            raise ConfigurationError([Problem("", "it has a number of too many digits", name)]) from e

    @property
    def lines(self) -> Mapping[tuple[str | int, ...], int]:
        """
        The line of each key, see L{findLines}.
        """
        return findLines(self._text)

    def place(self, problems: Iterable[Problem]) -> list[Problem]:
        """
        Give problems with keys of this file its name and their lines; what is wrong with another file stays as it is.
        """
        lines = self.lines
        return [
            one if one.file else evolve(one, key=_shown(one.key), file=self.name, line=_line(one.key, lines))
            for one in problems
        ]


def _shown(key: str) -> str:
    return re.sub(r'("(?:[^"\\]|\\.)*")|\[\d+\]', r"\1", key)


def _line(key: str, lines: Mapping[tuple[str | int, ...], int]) -> int:
    parts = re.findall(r'\[(\d+)\]|("(?:[^"\\]|\\.)*")|([^.\[\]"]+)', key)
    path: tuple[str | int, ...] = tuple(
        int(position) if position else json.loads(quoted) if quoted else bare for position, quoted, bare in parts
    )
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
