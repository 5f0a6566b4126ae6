# -*- test-case-name: tests.test_keeping -*-
"""
What was loaded of files, kept for as long as these stay as they are.

A reload that changes one certificate leaves the TLS of all others alone: the clients of those resume their sessions,
and nothing is read and made anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from attrs import fields, has

from tlsproxy.tls.sources import NSSDatabase
from tlsproxy.watching import Signature, signatureOf, signaturesOf

__all__ = ["Kept", "Sightings", "filesOf"]

T = TypeVar("T")

_SYSTEM: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
)
"""Where systems have the authorities that they trust."""
_FILES: Final = frozenset({"certificates", "file", "files"})
"""The kinds of options that name what is read."""


def filesOf(policy: Any, every: bool = False) -> Iterator[str]:
    """
    Find the files and folders that a policy names, those of values inside it included.

    @param every: Whether all of its words name files, and not only those of options that say so.
    """
    for attribute in fields(type(policy)):
        named = every or attribute.metadata.get("kind") in _FILES
        value = getattr(policy, attribute.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, NSSDatabase):
                yield from one.files
            elif has(type(one)):
                yield from filesOf(one, named)
            elif named and isinstance(one, str) and one:
                yield from (one,) if one != "system" else (*_SYSTEM, os.environ.get("SSL_CERT_FILE") or _SYSTEM[0])


class Sightings(dict[str, Signature | None]):
    """
    Files, each as it was when it was first looked at: before it was read.
    """

    def see(self, paths: Iterable[str]) -> None:
        """
        Look at some files, and at what is in folders.
        """
        for path in paths:
            if path not in self:
                for one, signature in signaturesOf(path).items():
                    self.setdefault(one, signature)


class Kept:
    """
    What was loaded.
    """

    def __init__(self) -> None:
        self._before: dict[Hashable, tuple[Any, Mapping[str, Signature | None]]] = {}
        self._now: dict[Hashable, tuple[Any, Mapping[str, Signature | None]]] = {}

    def load(self, key: Hashable, files: Iterable[str], seen: Sightings, load: Callable[[], T]) -> T:
        """
        Load something, unless it is there already and its files have not changed.

        @param key: All that it depends on beside the content of files.
        @param files: What it is read from, as far as that is known.
        @param seen: Gets all files that it is read from.
        @param load: Loads it; what this raises is passed on.  Its result may have C{files}, which are then heeded, too.
        """
        found = self._now.get(key) or self._before.get(key)
        if found is not None and all(signatureOf(path) == signature for path, signature in found[1].items()):
            for path, signature in found[1].items():
                seen.setdefault(path, signature)
            self._now[key] = found
            loaded: T = found[0]
            return loaded
        mine = Sightings()
        mine.see(files)
        for path, signature in mine.items():
            seen.setdefault(path, signature)
        loaded = load()
        mine.see(getattr(loaded, "files", ()))
        for path, signature in mine.items():
            seen.setdefault(path, signature)
        self._now[key] = loaded, mine
        return loaded

    def settle(self, good: bool) -> None:
        """
        All is loaded, or some of it could not be.

        @param good: Whether it could: then what was not asked for any more is forgotten.
        """
        self._before = self._now if good else self._before | self._now
        self._now = {}
