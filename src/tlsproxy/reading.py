# -*- test-case-name: tests.test_reading -*-
"""
Reading tables of a configuration into their classes, and collecting all that is wrong.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import fields

from tlsproxy.address import Address, Unix, parseListen, parseUpstream
from tlsproxy.errors import ConfigurationError, Problem
from tlsproxy.keeping import Sightings
from tlsproxy.settings import BESIDE_CERT, LATER
from tlsproxy.tls.policy import snake
from tlsproxy.tls.sources import CertificateFiles, CertificateSource, NSSDatabase, PKCS12File
from tlsproxy.values import convert, fileName, kindOf, suggest

__all__ = ["Reader", "ownersOf", "spell"]

T = TypeVar("T")

_LONGEST_PATH: Final = 107
"""The longest path of a Unix socket on Linux, in bytes (unix(7))."""
_NONE: Final[Mapping[str, type[Any] | None]] = {}


class Reader:
    """
    Reads, and collects all that is wrong.

    @ivar problems: What is wrong.
    @ivar files: The files that are read.
    """

    def __init__(self, base: Path) -> None:
        """
        @param base: The folder that relative paths start from.
        """
        self.base = base
        self.problems: list[Problem] = []
        self.files = Sightings()

    def tell(self, path: str, sentence: str) -> None:
        """
        Note what is wrong with a key.
        """
        # What follows from a value that could not be read is no second problem.
        if not any(path == problem.key or path.startswith(f"{problem.key}.") for problem in self.problems):
            self.problems.append(Problem(path, sentence))

    def attempt(self, path: str, action: Callable[[], T]) -> T | None:
        """
        Do something that may find a problem with a key.

        @return: What came of it, or L{None} where there was one.
        """
        try:
            return action()
        except ConfigurationError as e:
            for problem in e.problems:
                self.tell(problem.key, problem.sentence)
        except ValueError as e:
            self.tell(path, str(e))
        return None

    def resolve(self, file: str) -> str:
        """
        Make a path of what a file is called.

        @raise ValueError: It starts from a home that nobody has.
        """
        try:
            return str(self.base / Path(file).expanduser())
        except RuntimeError:
            raise ValueError(f"{file!r} starts from a home that nobody has") from None

    def settings(
        self,
        cls: type[T],
        table: object,
        path: str,
        tables: Mapping[str, type[Any] | None] = _NONE,
        others: Mapping[str, type[Any] | None] = _NONE,
    ) -> T:
        """
        Read the keys of one table into their class.  What cannot be read is told, and left at its default, so that
        the rest can be checked.

        @param tables: Keys that are tables, and read elsewhere, each with the class of its own keys, if those may be
            looked for here by mistake.
        @param others: The same of tables that stand elsewhere.
        """
        if not isinstance(table, Mapping):
            self.tell(path, f"give a table, not {kindOf(table)}")
            return cls()
        section = re.sub(r"\[\d+\]", "", path)
        known = {snake(attribute.name): attribute for attribute in fields(cls)}  # type: ignore[arg-type]
        pair = tuple(BESIDE_CERT) if "cert" in known else ()
        values: dict[str, Any] = {}
        for key, value in table.items():
            place = f"{path}.{spell(key)}"
            if key in known:
                attribute = known[key]
                result = self.attempt(place, lambda: convert(attribute, value, self.resolve))  # noqa: B023
                if result is not None:
                    values[attribute.name] = result
            elif key in LATER.get(section, ()):
                self.tell(place, "not yet supported")
            elif key not in (*tables, *pair):
                owners = ownersOf(key, {**tables, **others})
                self.tell(place, "there is no such key" + (owners or suggest(key, [*known, *tables, *pair])))
        for key in pair:
            if key in table:
                self._completeCert(key, table, path, values)
        return cls(**values)

    def _completeCert(self, key: str, table: Mapping[str, Any], path: str, values: dict[str, Any]) -> None:
        """
        Take a key that stands beside C{cert}, and says more of the one certificate that this is.
        """
        place = f"{path}.{key}"
        if "cert" not in table:
            what = "a key" if key == "key" else "a password"
            self.tell(place, f"{what} needs its certificate beside it: give cert, too")
        if "cert" not in values:
            return
        several = values["cert"] if isinstance(values["cert"], tuple) else (values["cert"],)
        if len(several) > 1:
            self.tell(place, "say of which certificate: write it inside cert, as in {chain = ..., key = ...}")
            return
        file = self.attempt(place, lambda: fileName(table[key], self.resolve))
        if file is None:
            return
        whole: CertificateSource | None = None
        match several[0], key:
            case CertificateFiles(chain, None), "key":
                whole = CertificateFiles(chain, file)
            case ((CertificateFiles(name, None) | PKCS12File(name, None)), "cert_password_file"):
                whole = PKCS12File(name, file)
            case NSSDatabase(folder, nickname, None), "cert_password_file":
                whole = NSSDatabase(folder, nickname, file)
            case NSSDatabase(), "key":
                self.tell(place, "an NSS database holds its keys itself: leave this out")
            case PKCS12File(), "key":
                self.tell(place, "a PKCS#12 file holds its key itself: leave this out")
            case CertificateFiles(), "cert_password_file":
                self.tell(place, "it is the password of a PKCS#12 file, which has no key beside it: leave one out")
            case _:
                self.tell(place, "it is given twice")
        if whole is not None:
            values["cert"] = (whole,) if isinstance(values["cert"], tuple) else whole

    def each(self, texts: Sequence[str], path: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """
        Read several values of one key, and tell what is wrong with any of them.

        @param parse: Reads one, and raises L{ValueError} with a sentence.
        """
        read: list[T] = []
        wrong: list[str] = []
        for text in texts:
            try:
                read.append(parse(text))
            except ValueError as e:
                wrong.append(str(e))
        if wrong:
            self.tell(path, "; ".join(wrong))
        return tuple(read)

    def listen(self, text: str, path: str) -> Address | None:
        """
        Read an address to listen on.
        """
        if not text:
            self.tell(path, "say where to listen, as in 8443")
            return None
        return self.attempt(path, lambda: self._fromBase(parseListen(text)))

    def upstream(self, text: str, path: str) -> Address | None:
        """
        Read an address to dial.
        """
        return self.attempt(path, lambda: self._fromBase(parseUpstream(text)))

    def _fromBase(self, where: Address) -> Address:
        if not isinstance(where, Unix):
            return where
        path = self.resolve(where.path)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise ValueError(f"{path!r} is too long for a Unix socket, whose path takes {_LONGEST_PATH} bytes at most")
        return Unix(path)


def ownersOf(key: str, tables: Mapping[str, type[Any] | None]) -> str:
    """
    Say which tables have a key that stands outside of them.
    """
    owners = []
    for table, cls in tables.items():
        known = [snake(attribute.name) for attribute in fields(cls)] if cls is not None else []
        if key in known or (key in BESIDE_CERT and "cert" in known):
            owners.append(f"{table}.{key}")
    return f"; do you mean {' or '.join(owners)}?" if owners else ""


def spell(key: str) -> str:
    """
    Write a key as TOML does.
    """
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
