# -*- test-case-name: tests.test_signedmapping -*-
"""
The mapping of a client proxy as somebody has signed it: by whom, for whom, which one, and until when.

The reverse proxy that hands it out need not be trusted with it: it can hold a new one back until the old one has
expired, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import field, frozen

from tlsproxy.tls.signatures import Signed, unsigned
from tlsproxy.wire.network import isName

__all__ = [
    "LONGEST",
    "TABLES",
    "MappingFacts",
    "MappingProblem",
    "Trust",
    "accept",
    "readFacts",
    "recognize",
    "shownTime",
    "textOf",
]

TABLES: Final = ("mapping", "reverse_proxy", "map")
"""All that there is in a signed mapping."""
LONGEST: Final = timedelta(days=400)
"""The longest that one may be valid."""

_LARGEST: Final = 1024 * 1024  # bytes
_HIGHEST: Final = 2**63 - 1
_AHEAD: Final = timedelta(hours=1)
"""How far the clock of whoever has signed may be ahead."""
_FACTS: Final = frozenset({"audience", "version", "issued", "expires"})
_KEY: Final = 32  # bytes
_UNWANTED: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xef\xbb\xbf")
"""What one reader may skip or change, and another may not: all control characters but tab and newline, and the mark of
byte order."""


class MappingProblem(ValueError):
    """
    A mapping cannot be used: one sentence, which begins with "it" or "its".
    """


@frozen
class MappingFacts:
    """
    What a signed mapping says of itself.

    @ivar audience: Whom it is for: the domain of the client proxies' identities.
    @ivar version: Which of several it is; the highest counts.
    @ivar issued: When it was signed.
    @ivar expires: From when on it counts no more.
    @ivar nextKey: The public key that may sign later ones, too: 32 bytes; L{None} for none.
    @ivar signer: The public key that it is signed with.
    @ivar digest: The SHA-256 hash of the whole file.
    """

    audience: str
    version: int
    issued: datetime
    expires: datetime
    nextKey: bytes | None
    signer: bytes
    digest: bytes = field(repr=False)


@frozen
class Trust:
    """
    What a client proxy takes a mapping by.

    @ivar keys: The public keys of which one has to have signed it.
    @ivar audience: Whom it has to be for.
    @ivar version: The highest version that was ever accepted; 0 for none.
    @ivar digest: The SHA-256 hash of that one's file; C{b""} for none.
    """

    keys: tuple[bytes, ...]
    audience: str
    version: int = 0
    digest: bytes = b""


def readFacts(data: bytes) -> MappingFacts:
    """
    Read what a signed mapping says of itself, whoever has signed it.

    @param data: The whole file.
    @raise MappingProblem: It is too large, is not signed, was changed since, or has anything in it but its tables.
    """
    return _facts(data, _unsigned(data))


def accept(data: bytes, trust: Trust, now: datetime) -> tuple[MappingFacts, Trust]:
    """
    Take a mapping that has come from somewhere.

    @param data: The whole file.
    @param trust: What it is taken by.
    @param now: The time, with its time zone.
    @return: What it says of itself, and what the next one is taken by: the key that has signed this one and the one
        that it names, and no older ones.
    @raise MappingProblem: It is not to be had: as of L{recognize}, or it has expired, is from the future, or is valid
        for too long.
    """
    facts, newer = recognize(data, trust)
    if facts.issued - now > _AHEAD:
        raise MappingProblem(f"it was issued in the future, on {shownTime(facts.issued)}: compare the clocks")
    if facts.expires <= now:
        raise MappingProblem(f"it has expired on {shownTime(facts.expires)}")
    return facts, newer


def recognize(data: bytes, trust: Trust) -> tuple[MappingFacts, Trust]:
    """
    Tell whether a mapping that is kept is the one that was taken, or a later one, whatever the time is.

    @return: As of L{accept}.
    @raise MappingProblem: It is not whole, is not signed by a trusted key, is for somebody else, is older than the
        highest that was accepted, or is another one of the same version.
    """
    signed = _unsigned(data)
    # A stranger's text is not even parsed.
    if signed.signer not in trust.keys:
        raise MappingProblem("it is signed by somebody who is not trusted")
    facts = _facts(data, signed)
    if facts.audience != trust.audience:
        raise MappingProblem(f"it is for {facts.audience}, and not for {trust.audience}")
    if facts.version < trust.version:
        raise MappingProblem(f"its version {facts.version} is older than {trust.version}, which was there already")
    if facts.version == trust.version and facts.digest != trust.digest:
        raise MappingProblem(f"it is another one than the one of the same version {facts.version} before it")
    keys = (facts.signer,) if facts.nextKey is None else (facts.signer, facts.nextKey)
    return facts, Trust(tuple(dict.fromkeys(keys)), trust.audience, facts.version, facts.digest)


def textOf(data: bytes) -> str:
    """
    Give what is signed of a mapping, once that is known to be good.

    @raise MappingProblem: It is not.
    """
    return _text(_unsigned(data))


def shownTime(time: datetime) -> str:
    """
    Write a time down for people.
    """
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _unsigned(data: bytes) -> Signed:
    if len(data) > _LARGEST:
        raise MappingProblem(f"it has more than {_LARGEST >> 20} MiB")
    try:
        return unsigned(data)
    except ValueError as e:
        raise MappingProblem(str(e)) from None


def _text(signed: Signed) -> str:
    if _UNWANTED.search(signed.text):
        raise MappingProblem("it has control characters in it, such as carriage returns, or a mark of byte order")
    try:
        return signed.text.decode()
    except UnicodeDecodeError:
        raise MappingProblem("it is not UTF-8 text") from None


def _facts(data: bytes, signed: Signed) -> MappingFacts:
    try:
        document = tomllib.loads(_text(signed))
    except RecursionError:
        raise MappingProblem("it is nested too deep") from None
    except MappingProblem:
        raise
    except ValueError as e:
        raise MappingProblem(f"it is not TOML: {e}") from None
    unknown = _first(set(document) - set(TABLES))
    if unknown is not None:
        raise MappingProblem(f"it has {unknown!r} in it, which no mapping has")
    table = document.get("mapping")
    if not isinstance(table, dict):
        raise MappingProblem("it has no table [mapping], which says whom it is for and until when")
    unknown = _first(set(table) - _FACTS - {"next_key"})
    if unknown is not None:
        raise MappingProblem(f"its [mapping] has a key {unknown!r}, which is not known")
    lacking = _first(_FACTS - set(table))
    if lacking is not None:
        raise MappingProblem(f"its [mapping] does not say {lacking}")
    return _checked(table, signed.signer, hashlib.sha256(data).digest())


def _checked(table: dict[str, Any], signer: bytes, digest: bytes) -> MappingFacts:
    audience, version = table["audience"], table["version"]
    if not isinstance(audience, str) or not isName(audience) or audience != audience.lower().removesuffix("."):
        raise MappingProblem("its audience is no DNS name in lower case")
    if not isinstance(version, int) or isinstance(version, bool) or not 0 < version <= _HIGHEST:
        raise MappingProblem(f"its version is no whole number from 1 to {_HIGHEST}")
    issued, expires = (_time(table, key) for key in ("issued", "expires"))
    if expires <= issued:
        raise MappingProblem("it expires before it was issued")
    if expires - issued > LONGEST:
        raise MappingProblem(f"it is valid for more than {LONGEST.days} days")
    nextKey = _nextKey(table["next_key"]) if "next_key" in table else None
    return MappingFacts(audience, version, issued, expires, nextKey, signer, digest)


def _time(table: dict[str, Any], key: str) -> datetime:
    value = table[key]
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise MappingProblem(f"its {key} is no time with its time zone, as in 2026-12-28T23:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise MappingProblem(f"its {key} is no time that there ever was or will be") from None


def _nextKey(value: object) -> bytes:
    key = b""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9+/]{43}=", value):
        key = b64decode(value)
    if len(key) != _KEY or b64encode(key).decode() != value:
        raise MappingProblem("its next_key is no public key: 32 bytes in base64")
    return key


def _first(names: Iterable[str]) -> str | None:
    return min(names, default=None)
