# -*- test-case-name: tests.enrolling.test_enrollment -*-
"""
What a client proxy remembers of its enrollment: where its reverse proxy is, and whose mappings it takes.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from tlsproxy.address import TCP
from tlsproxy.signedmapping import Trust
from tlsproxy.wire.host import isLiteral
from tlsproxy.wire.hostport import RequestRefused, parseAuthority

__all__ = ["Enrollment", "parseURL"]

_FORMAT: Final = 1
_HTTPS: Final = 443
_LEAST: Final = timedelta(seconds=5)
_MINUTE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 253402300799.0
_HEX: Final = re.compile(r"[0-9a-f]{1,40}")
_EXAMPLE: Final = "as in https://enroll.dmz.example:8443/"


def parseURL(text: str) -> TCP:
    """
    Read where a reverse proxy enrolls: C{https://NAME:PORT/}.

    @return: The name and the port.
    @raise ValueError: It is something else; the sentence shows nothing that may be a secret.
    """
    scheme, found, rest = text.partition("://")
    if not found or scheme.lower() != "https":
        raise ValueError(f"the URL has to begin with https://, {_EXAMPLE}")
    if not text.isprintable() or " " in text:
        raise ValueError("the URL has spaces or control characters in it")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(f"that is no URL: give one {_EXAMPLE}") from None
    if "@" in parts.netloc:
        raise ValueError("the URL has a user in it: who enrolls is told by the token alone")
    if parts.path not in ("", "/") or parts.query or parts.fragment or rest[-1:] in ("?", "#"):
        raise ValueError(f"the URL has more in it than name and port: give it {_EXAMPLE}")
    try:
        host, port = parseAuthority(parts.netloc, "the URL")
    except RequestRefused as e:
        raise ValueError(str(e)) from None
    if isLiteral(host):
        raise ValueError(
            "the URL has an address in it: give the name under which the reverse proxy enrolls, and say by --connect "
            "where it is, if no DNS knows that name"
        )
    return TCP(host, _HTTPS if port is None else port)


@frozen(kw_only=True)
class Enrollment:
    """
    An enrollment.

    @ivar url: Where the reverse proxy enrolls.
    @ivar connect: Where it is connected with; C{""} for the host of the URL.
    @ivar serverName: The name that it shows to those who have enrolled.
    @ivar trust: Whose mappings are taken.
    @ivar fetched: When the mapping was fetched last; L{None} for never.
    @ivar serial: The certificate that C{renewAt} is for.
    @ivar renewAt: When to have it renewed.
    """

    url: str
    connect: str = ""
    serverName: str
    trust: Trust = field(repr=False)
    fetched: datetime | None = None
    serial: int = 0
    renewAt: datetime = _EPOCH

    @property
    def where(self) -> TCP:
        """
        Where the reverse proxy is.
        """
        if self.connect:
            host, port = parseAuthority(self.connect, "connect")
            return TCP(host, port or _HTTPS)
        return parseURL(self.url)

    def renews(self, serial: int, now: datetime, after: float, notAfter: datetime) -> Enrollment:
        """
        Note when a certificate that has just come is to be renewed.

        @param after: After how many seconds, as the reverse proxy says.
        @param notAfter: Until when it is valid.
        """
        # By the clock of the reverse proxy, too: ours may be set right meanwhile.
        at = min(now + timedelta(seconds=after), notAfter - timedelta(seconds=after / 2))
        # Whatever it says, it does not have us make keys without end.
        least = max(_LEAST, min(_MINUTE, (notAfter - now) / 3), timedelta(seconds=after / 4))
        return evolve(self, serial=serial, renewAt=max(at, now + least))

    def text(self) -> bytes:
        """
        Write it down.
        """
        told = {
            "format": _FORMAT,
            "url": self.url,
            "connect": self.connect,
            "server_name": self.serverName,
            "audience": self.trust.audience,
            "mapping_keys": [b64encode(key).decode() for key in self.trust.keys],
            "mapping_version": self.trust.version,
            "mapping_digest": self.trust.digest.hex(),
            "mapping_fetched": None if self.fetched is None else self.fetched.timestamp(),
            "renew_serial": f"{self.serial:x}",
            "renew_at": self.renewAt.timestamp(),
        }
        return json.dumps(told, indent=2).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Enrollment:
        """
        Read what L{text} has written.

        @raise ValueError: It is something else; the sentence goes on behind the name of the file.
        """
        try:
            told = json.loads(data.decode())
        except (ValueError, RecursionError):
            raise ValueError("is damaged, as it is not JSON") from None
        try:
            return cls._of(told)
        except (AttributeError, KeyError, OverflowError, RequestRefused, TypeError, ValueError):
            raise ValueError("is damaged, or of another version of tlsproxy") from None

    @classmethod
    def _of(cls, told: Any) -> Enrollment:
        if told["format"] != _FORMAT:
            raise ValueError
        texts = ("url", "connect", "server_name", "audience", "mapping_digest", "renew_serial")
        if not all(isinstance(told[key], str) for key in texts) or not _HEX.fullmatch(told["renew_serial"]):
            raise TypeError
        keys = tuple(b64decode(key, validate=True) for key in told["mapping_keys"])
        version, digest = told["mapping_version"], bytes.fromhex(told["mapping_digest"])
        if type(version) is not int or any(len(key) != 32 for key in keys) or len(digest) not in (0, 32):
            raise ValueError
        fetched = None if told["mapping_fetched"] is None else _time(told["mapping_fetched"])
        made = cls(
            url=told["url"],
            connect=told["connect"],
            serverName=told["server_name"],
            trust=Trust(keys, told["audience"], version, digest),
            fetched=fetched,
            serial=int(told["renew_serial"], 16),
            renewAt=_time(told["renew_at"]),
        )
        _ = made.where
        return made


def _time(seconds: object) -> datetime:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= _LATEST:
        raise ValueError
    return datetime.fromtimestamp(seconds, UTC)
