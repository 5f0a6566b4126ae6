# -*- test-case-name: tests.wire.test_serverhello -*-
"""
The TLS ServerHello and the HelloRetryRequest, which is one in form (RFC 8446, section 4.1.3, and RFC 5246, section
7.4.1.3), read from a whole handshake message.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = ["ServerHello", "ServerHelloError", "readServerHello"]

# RFC 8446, section 4.1.3: the SHA-256 of "HelloRetryRequest".
_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
# There too: TLS 1.3 was offered and is known to the server, and yet did not come about.
_DOWNGRADED: Final = (b"DOWNGRD\1", b"DOWNGRD\0")

_SUPPORTED_VERSIONS: Final = 43
_KEY_SHARE: Final = 51


class ServerHelloError(ValueError):
    """
    What the server sent is not a ServerHello.  The sentence says what is wrong with it.
    """


@frozen
class ServerHello:
    """
    What a server chose.

    @ivar legacyVersion: The version field of the message itself.
    @ivar selected: The version that the extension supported_versions has, L{None} if there is none.
    @ivar sessionID: The session id.
    @ivar cipherSuite: The cipher suite.
    @ivar compression: The compression method.
    @ivar group: The group of the extension key_share, L{None} if there is none.  A ServerHello has a share with it.
    @ivar extensions: The types of the extensions, in the order sent.
    @ivar retry: Whether it is a HelloRetryRequest.
    @ivar downgraded: Whether the server marks that it knows TLS 1.3 and was made to choose less.
    """

    legacyVersion: int
    selected: int | None
    sessionID: bytes
    cipherSuite: int
    compression: int
    group: int | None
    extensions: tuple[int, ...]
    retry: bool
    downgraded: bool

    @property
    def version(self) -> int:
        """
        The version of TLS that was chosen.
        """
        return self.legacyVersion if self.selected is None else self.selected


def _extensions(block: bytes) -> dict[int, bytes]:
    """
    Take the extensions apart.

    @return: Type to content, in the order sent.
    @raise ServerHelloError: One comes twice, or is cut short.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(block):
        kind = int.from_bytes(block[at : at + 2], "big")
        start = at + 4
        at = start + int.from_bytes(block[at + 2 : start], "big")
        if start > len(block) or at > len(block):
            raise ServerHelloError("the server's hello is malformed: its last extension ends too late")
        if kind in found:
            raise ServerHelloError(f"the server's hello has the extension {kind} twice")
        found[kind] = block[start:at]
    return found


def _groupOf(content: bytes, retry: bool) -> int:
    """
    Read the extension of RFC 8446, section 4.2.8.

    @raise ServerHelloError: It is malformed, or a ServerHello has a group without a share.
    """
    if not retry and (len(content) < 5 or int.from_bytes(content[2:4], "big") != len(content) - 4):
        raise ServerHelloError("the server's hello has a malformed key share")
    if retry and len(content) != 2:
        raise ServerHelloError("the server's request for another hello has a malformed group")
    return int.from_bytes(content[:2], "big")


def readServerHello(body: bytes) -> ServerHello:
    """
    Take a whole ServerHello apart.

    @param body: The handshake message without its opening of four bytes.
    @raise ServerHelloError: It is malformed.
    """
    end = 35 + body[34] if len(body) > 34 else 0
    if not end or end - 35 > 32 or len(body) < end + 3:
        raise ServerHelloError("the server's hello is malformed: it ends too early")
    block = b""
    # Before TLS 1.3 a hello may end without extensions.
    if len(body) > end + 3:
        block = body[end + 5 :]
        if len(body) < end + 5 or int.from_bytes(body[end + 3 : end + 5], "big") != len(block):
            raise ServerHelloError("the server's hello is malformed: the extension block does not end with it")
    found = _extensions(block)
    random = body[2:34]
    retry = random == _RETRY
    selected = found.get(_SUPPORTED_VERSIONS)
    if selected is not None and len(selected) != 2:
        raise ServerHelloError("the server's hello has a malformed version")
    return ServerHello(
        legacyVersion=int.from_bytes(body[:2], "big"),
        selected=None if selected is None else int.from_bytes(selected, "big"),
        sessionID=body[35:end],
        cipherSuite=int.from_bytes(body[end : end + 2], "big"),
        compression=body[end + 2],
        group=_groupOf(found[_KEY_SHARE], retry) if _KEY_SHARE in found else None,
        extensions=tuple(found),
        retry=retry,
        downgraded=random.endswith(_DOWNGRADED),
    )
