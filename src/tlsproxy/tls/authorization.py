# -*- test-case-name: tests.tls.test_authorization -*-
"""
Which certificates are let in, of those that verify: words, and what they match.

A certificate is written by a stranger as far as its authority lets it be.  So nothing here guesses.  What cannot be
read matches nothing; what could be read in two ways, such as the name of a holder who has two, matches nothing; and
text is compared as a whole, never by its beginning.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final, TypeVar

from attrs import frozen
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tlsproxy.tls.pem import UNDECODABLE
from tlsproxy.tls.policy import ClientPolicy, HostPolicy, ServerPolicy
from tlsproxy.tls.printing import few
from tlsproxy.wire.host import asciiName, isLiteral

__all__ = [
    "Allowed",
    "commonNameOf",
    "isForClients",
    "namesOf",
    "parseDNS",
    "parseEmail",
    "parseName",
    "parsePin",
    "parseURI",
    "pinOf",
    "pinText",
]

T = TypeVar("T")

_LONGEST_URI: Final = 2048
"""The longest URI that a pattern with wildcards matches, in characters: that of a SPIFFE ID."""
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")
"""
What a wildcard stands for: a segment as RFC 3986 has them, but for percent-encoding, in which a slash could hide.
"""
_VERSION: Final = 0xA0
_UTF8: Final = 0x0C


def parseName(word: str) -> str:
    """
    Take a common name or an organizational unit.

    @raise ValueError: It cannot be one.
    """
    if not word or not word.isprintable() or word != word.strip():
        raise ValueError(f"{word!r} is no name that a certificate could show")
    if "*" in word:
        raise ValueError(f"{word!r} has a wildcard, which only URIs take: write the whole name")
    return word


def parseDNS(word: str) -> str:
    """
    Take a DNS name.

    @return: It in ASCII and lower case.
    @raise ValueError: It cannot be one.
    """
    if "*" in word:
        raise ValueError(f"{word!r} has a wildcard, which only URIs take: write the whole name")
    name = asciiName(word)
    if isLiteral(name):
        raise ValueError(f"{word!r} is an address, and no DNS name")
    return name.lower()


def parseURI(word: str) -> tuple[str, ...]:
    """
    Take a pattern of URIs: C{*} stands for one segment between slashes, C{**} for any number of them.

    @return: Its segments.
    @raise ValueError: It cannot be one.
    """
    scheme, colon, rest = word.partition(":")
    if not colon or not rest or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ValueError(f"{word!r} is no URI: it starts with a scheme, as in spiffe://example.org/*")
    if not word.isascii() or not word.isprintable() or " " in word:
        raise ValueError(f"{word!r} is no URI: it has characters that have to be percent-encoded")
    segments = tuple(word.split("/"))
    for one in segments:
        if "*" in one and one not in ("*", "**"):
            raise ValueError(f"{word!r} has a wildcard in {one!r}: * and ** stand for whole segments between slashes")
    return segments


def parseEmail(word: str) -> tuple[str, str]:
    """
    Take an e-mail address, or C{*@} and a domain for all of that.

    @return: What stands before the @, and the domain in ASCII and lower case.
    @raise ValueError: It cannot be one.
    """
    local, at, domain = word.rpartition("@")
    if not at or not local or not domain or "@" in local or not local.isascii() or not local.isprintable():
        raise ValueError(f"{word!r} is no e-mail address: write NAME@DOMAIN, or *@DOMAIN for all of a domain")
    if "*" in domain or ("*" in local and local != "*"):
        raise ValueError(f"{word!r} has a wildcard where none may be: write *@DOMAIN for all of a domain")
    name = asciiName(domain)
    if isLiteral(name):
        raise ValueError(f"{word!r} has an address behind its @: write a domain there")
    return local, name.lower()


def parsePin(word: str) -> bytes:
    """
    Take the hash of a public key (RFC 7469, section 2.4): C{sha256/} and base64, or C{sha256:} and hexadecimal.

    @raise ValueError: It is none.
    """
    kind, text = word[:7], word[7:]
    found = b""
    try:
        if kind == "sha256/":
            found = base64.b64decode(text.encode("ascii"), validate=True)
        elif kind == "sha256:":
            found = bytes.fromhex(text.replace(":", ""))
    except (binascii.Error, ValueError):
        pass
    if len(found) != 32:
        raise ValueError(f"{word!r} is no pin: write sha256/ and base64, or sha256: and hexadecimal, of 32 bytes")
    return found


def pinOf(certificate: x509.Certificate) -> bytes:
    """
    Hash the public key of a certificate as it stands there, its C{SubjectPublicKeyInfo}: to decode and encode it again
    could make another of it.
    """
    data = certificate.tbs_certificate_bytes
    _, place, end = _element(data, 0)
    fields: list[bytes] = []
    while place < end:
        tag, _, after = _element(data, place)
        if tag != _VERSION:
            fields.append(data[place:after])
        place = after
    # RFC 5280, section 4.1: number, algorithm, issuer, validity and subject stand before it.
    return sha256(fields[5]).digest()


def pinText(certificate: x509.Certificate) -> str:
    """
    Write the hash of a certificate's public key as one would give it.
    """
    return f"sha256/{base64.b64encode(pinOf(certificate)).decode('ascii')}"


def _element(data: bytes, start: int) -> tuple[int, int, int]:
    """
    Find the bounds of an element in DER that has been decoded before: its tag, where its content starts, and where it
    ends.
    """
    length, begin = data[start + 1], start + 2
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + size], "big"), begin + size
    return data[start], begin, begin + length


@frozen
class Allowed:
    """
    Who is let in: whoever matches one of these.

    @ivar cn: Common names, as a whole; a certificate that has several matches none of them.
    @ivar ou: Organizational units, as a whole; a certificate may have several.
    @ivar dns: DNS names, in lower case.
    @ivar uri: Patterns of URIs, as L{parseURI} has them.
    @ivar pins: Hashes of keys.
    @ivar email: E-mail addresses, as L{parseEmail} has them.
    """

    cn: frozenset[str] = frozenset()
    ou: frozenset[str] = frozenset()
    dns: frozenset[str] = frozenset()
    uri: tuple[tuple[str, ...], ...] = ()
    pins: frozenset[bytes] = frozenset()
    email: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def read(cls, words: ServerPolicy | HostPolicy | ClientPolicy, tell: Callable[[str, str], None]) -> Allowed:
        """
        Take what a policy allows.

        @param tell: Is told of a key, and what is wrong with it.
        """

        def each(key: str, given: Sequence[str], parse: Callable[[str], T]) -> Iterable[T]:
            for word in given:
                try:
                    yield parse(word)
                except ValueError as e:
                    tell(key, str(e))

        return cls(
            frozenset(each("allow_cn", words.allowCn, parseName)),
            frozenset(each("allow_ou", words.allowOu, parseName)),
            frozenset(each("allow_dns", words.allowDns, parseDNS)),
            tuple(each("allow_uri", words.allowUri, parseURI)),
            frozenset(each("pins", words.pins, parsePin)),
        )

    def within(self, other: Allowed) -> bool:
        """
        Tell whether whoever is let in by this is let in by another as well.
        """
        if other == Allowed():
            return True
        return self != Allowed() and (
            self.cn <= other.cn
            and self.ou <= other.ou
            and self.dns <= other.dns
            and set(self.uri) <= set(other.uri)
            and self.pins <= other.pins
            and self.email <= other.email
        )

    def matches(self, certificate: x509.Certificate) -> bool:
        """
        Tell whether a certificate is one of those that are let in.
        """
        # What is compared here is public, so how long it takes tells nobody anything.
        if self.pins and pinOf(certificate) in self.pins:
            return True
        if self.cn and commonNameOf(certificate) in self.cn:
            return True
        if self.ou and not self.ou.isdisjoint(_subject(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)):
            return True
        if self.dns and any(
            one.isascii() and one.lower() in self.dns for one in _alternatives(certificate, x509.DNSName)
        ):
            return True
        if self.email and any(_matchesEmail(self.email, one) for one in _alternatives(certificate, x509.RFC822Name)):
            return True
        if self.uri:
            uris = _alternatives(certificate, x509.UniformResourceIdentifier)
            return any(_matchesURI(pattern, one) for one in uris for pattern in self.uri)
        return False


def commonNameOf(certificate: x509.Certificate) -> str:
    """
    Give the common name of a certificate, where all who read it find the same; C{""} otherwise.
    """
    names = _subject(certificate, NameOID.COMMON_NAME)
    return names[0] if len(names) == 1 and names[0].isprintable() else ""


def _subject(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str]:
    """
    Find what a certificate says of its holder.
    """
    try:
        return [str(each.value) if _isPlain(each) else "" for each in certificate.subject.get_attributes_for_oid(kind)]
    except UNDECODABLE:
        return []


def _isPlain(attribute: x509.NameAttribute[str | bytes]) -> bool:
    """
    Tell whether all who read a text read the same: what is not ASCII has to be UTF-8 by its type, as other types with
    such bytes (T61String) were meant to be read otherwise.
    """
    text = attribute.value
    if isinstance(text, bytes):
        return False
    if text.isascii():
        return True
    data = text.encode("utf-8", "replace")
    # Longer names than 64 characters are not to be had (RFC 5280, appendix A.1), and so the length is one byte.
    return len(data) < 128 and _nameBytes(attribute).endswith(bytes((_UTF8, len(data))) + data)


def _nameBytes(attribute: x509.NameAttribute[str | bytes]) -> bytes:
    try:
        return x509.Name([attribute]).public_bytes()
    except UNDECODABLE:
        return b""


def _alternatives(
    certificate: x509.Certificate, kind: type[x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier]
) -> list[str]:
    """
    Find the alternative names of some kind.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *UNDECODABLE):
        return []
    return [each.value for each in names if isinstance(each, kind)]


def _matchesEmail(patterns: frozenset[tuple[str, str]], address: str) -> bool:
    """
    Tell whether an address is among others.  One with several @ can be read in more than one way.
    """
    local, _, domain = address.partition("@")
    if not local or "@" in domain or not address.isascii() or not address.isprintable():
        return False
    return not patterns.isdisjoint({(local, domain.lower()), ("*", domain.lower())})


def _matchesURI(pattern: tuple[str, ...], uri: str) -> bool:
    if "*" not in pattern and "**" not in pattern:
        return uri == "/".join(pattern)
    if len(uri) > _LONGEST_URI:
        return False
    reached = _past(pattern, {0})
    for segment in uri.split("/"):
        free = _isSegment(segment)
        found = {here + 1 for here in reached if here < len(pattern) and _takes(pattern[here], segment, free)}
        found.update(here for here in reached if free and pattern[here : here + 1] == ("**",))
        reached = _past(pattern, found)
    return len(pattern) in reached


def _takes(word: str, segment: str, free: bool) -> bool:
    return free if word == "*" else word == segment


def _past(pattern: tuple[str, ...], places: set[int]) -> set[int]:
    """
    Go on behind each C{**}, since it may stand for nothing.
    """
    for here, word in enumerate(pattern):
        if word == "**" and here in places:
            places.add(here + 1)
    return places


def _isSegment(text: str) -> bool:
    """
    Tell whether a wildcard stands for a segment: not for those that lead elsewhere when somebody resolves them.
    """
    return text not in (".", "..") and _SEGMENT.fullmatch(text) is not None


def namesOf(certificate: x509.Certificate) -> str:
    """
    List what a certificate could have been let in by, for people; C{""} where that is nothing.
    """
    names = [f"OU {one}" for one in _subject(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)]
    names += [f"DNS {one}" for one in _alternatives(certificate, x509.DNSName)]
    names += [f"e-mail {one}" for one in _alternatives(certificate, x509.RFC822Name)]
    names += [f"URI {one}" for one in _alternatives(certificate, x509.UniformResourceIdentifier)]
    return few(names)


def isForClients(certificate: x509.Certificate) -> bool:
    """
    Tell whether a certificate says that it is for TLS clients (RFC 5280, section 4.2.1.12); to say nothing of it, or
    that it is for anything, is not enough.
    """
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, *UNDECODABLE):
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usages
