# -*- test-case-name: tests.wire.test_agreement -*-
"""
What a client and a server agreed on in a TLS handshake, and whether the keys that come of it are out of the reach of
whoever looks on (RFC 8446, sections 4.1.3, 4.1.4 and 4.2.8, and RFC 5246, sections 7.3 and 7.4.1.3).
"""

from __future__ import annotations

import re
from typing import Final

from tlsproxy.wire.clienthello import ClientHello
from tlsproxy.wire.serverhello import ServerHello

__all__ = ["CLIENTS", "FINISHED", "SERVERS", "Disagreement", "areWhole", "checkAnswer", "sessionIDOf"]

_TLS_1_2: Final = 0x0303
_TLS_1_3: Final = 0x0304

_RECORD: Final = 5  # bytes of a record's header

# Extension types.
_PRE_SHARED_KEY: Final = 41
_SUPPORTED_VERSIONS: Final = 43
_KEY_SHARE: Final = 51
_RENEGOTIATION_INFO: Final = 0xFF01
# RFC 5746, section 3.3: a cipher suite that asks for that extension.
_RENEGOTIATION_SCSV: Final = 0x00FF

# RFC 8446, appendix B.4, without the suite with a short tag.  Those of RFC 9150 encrypt nothing.
_AEAD: Final = frozenset([0x1301, 0x1302, 0x1303])

FINISHED: Final = {
    0x009E: 40,  # DHE-RSA with AES-GCM, RFC 5288
    0x009F: 40,
    0x00A2: 40,  # DHE-DSS with AES-GCM
    0x00A3: 40,
    0xC02B: 40,  # ECDHE-ECDSA with AES-GCM, RFC 5289
    0xC02C: 40,
    0xC02F: 40,  # ECDHE-RSA with AES-GCM
    0xC030: 40,
    0xC09E: 40,  # DHE-RSA with AES-CCM, RFC 6655
    0xC09F: 40,
    0xC0AC: 40,  # ECDHE-ECDSA with AES-CCM, RFC 7251
    0xC0AD: 40,
    0xCCA8: 32,  # ECDHE-RSA with ChaCha20-Poly1305, RFC 7905
    0xCCA9: 32,  # ECDHE-ECDSA with it
    0xCCAA: 32,  # DHE-RSA with it
}
"""
The suites of TLS 1.2 that have an ephemeral key exchange, authentication by certificate and AEAD, and how many bytes
the content of a record with a Finished has: 16, a tag of 16, and with GCM and CCM a nonce of 8.
"""

# Certificate, CertificateStatus (RFC 6066), ServerKeyExchange, CertificateRequest, ServerHelloDone; and behind the
# client's Finished, NewSessionTicket (RFC 5077).
_FULL: Final = re.compile(rb"\x0b\x16?\x0c(\x0d?)\x0e(\x04?)")
_RESUMED: Final = re.compile(rb"\x04?")
# Certificate if there was a CertificateRequest, ClientKeyExchange, CertificateVerify.
_UNASKED: Final = re.compile(rb"\x10")
_ASKED: Final = re.compile(rb"\x0b\x10\x0f?")

SERVERS: Final = frozenset(b"\x04\x0b\x0c\x0d\x0e\x16")
"""The types of the handshake messages that a server may send in TLS 1.2 between its hello and its Finished."""
CLIENTS: Final = frozenset(b"\x0b\x0f\x10")
"""Those that a client may."""


class Disagreement(ValueError):
    """
    A handshake leads to no keys that are out of reach, or to none at all.  The sentence says why.
    """


def checkAnswer(hello: ClientHello, sessionID: bytes, answer: ServerHello, asked: ServerHello | None) -> None:
    """
    Hold a server's hello, or its request for another, against what the client offered.

    @param hello: The client's last hello.
    @param sessionID: The session id that it had.
    @param asked: The HelloRetryRequest that came before, or L{None}.
    @raise Disagreement: They do not fit, or it is too little.
    """
    version, suite = answer.version, answer.cipherSuite
    if version not in hello.versions:
        raise Disagreement(f"the destination chose the TLS version 0x{version:04x}, which was not offered")
    if version not in (_TLS_1_2, _TLS_1_3):
        raise Disagreement(f"the destination chose the TLS version 0x{version:04x}")
    if answer.legacyVersion != _TLS_1_2 or (answer.selected is not None and answer.selected != _TLS_1_3):
        raise Disagreement("the destination told its TLS version in a way that is out of order")
    if suite not in hello.cipherSuites:
        raise Disagreement(f"the destination chose the cipher suite 0x{suite:04x}, which was not offered")
    if suite not in (_AEAD if version == _TLS_1_3 else FINISHED):
        raise Disagreement(f"the destination chose the cipher suite 0x{suite:04x}")
    if answer.compression:
        raise Disagreement("the destination chose compression")
    if version == _TLS_1_3:
        _checkThree(hello, sessionID, answer, asked)
    else:
        _checkTwo(hello, answer, asked)


def _checkThree(hello: ClientHello, sessionID: bytes, answer: ServerHello, asked: ServerHello | None) -> None:
    """
    Check what is particular to TLS 1.3.
    """
    if answer.sessionID != sessionID:
        raise Disagreement("the destination answered another hello, by its session id")
    if answer.group is not None and answer.group not in hello.groups:
        raise Disagreement(f"the destination chose the group {answer.group}, which was not offered")
    if answer.retry:
        if asked is not None:
            raise Disagreement("the destination asked for another hello twice")
        return
    offered = {_SUPPORTED_VERSIONS, _KEY_SHARE, _PRE_SHARED_KEY} & {*hello.extensions}
    if not offered.issuperset(answer.extensions):
        raise Disagreement("the destination chose an extension that was not offered")
    if answer.group is None:
        raise Disagreement("the destination chose a pre-shared key alone")
    if asked is not None and (asked.cipherSuite != answer.cipherSuite or asked.group not in (None, answer.group)):
        raise Disagreement("the destination chose something else than what it had asked for")


def _checkTwo(hello: ClientHello, answer: ServerHello, asked: ServerHello | None) -> None:
    """
    Check what is particular to TLS 1.2.
    """
    if answer.retry or asked is not None:
        raise Disagreement("the destination chose TLS 1.2 in a handshake of TLS 1.3")
    if answer.downgraded and _TLS_1_3 in hello.versions:
        raise Disagreement("the destination chose TLS 1.2, and says that something kept it from TLS 1.3")
    offered = {*hello.extensions} - {_SUPPORTED_VERSIONS, _KEY_SHARE, _PRE_SHARED_KEY}
    if _RENEGOTIATION_SCSV in hello.cipherSuites:
        offered.add(_RENEGOTIATION_INFO)
    if not offered.issuperset(answer.extensions):
        raise Disagreement("the destination chose an extension that was not offered")


def areWhole(servers: bytes | bytearray, clients: bytes | bytearray, othersFinished: bool, clientsTurn: bool) -> bool:
    """
    Tell whether the time has come for a ChangeCipherSpec in TLS 1.2: all messages that come before it are there.

    @param servers: The types of the messages behind the server's hello.
    @param clients: The types of those behind the client's.
    @param othersFinished: Whether the other of the two has finished.
    @param clientsTurn: Whether the ChangeCipherSpec is the client's.
    """
    full = _FULL.fullmatch(servers)
    if full is None:
        # A session is resumed, and there the server is the first to finish.
        return _RESUMED.fullmatch(servers) is not None and not clients and othersFinished == clientsTurn
    if (_ASKED if full[1] else _UNASKED).fullmatch(clients) is None:
        return False
    return not othersFinished and not full[2] if clientsTurn else othersFinished


def sessionIDOf(wire: bytearray) -> bytes:
    """
    Read the session id out of a hello that was understood.

    @param wire: All of it, with the headers of its records.
    """
    message = bytearray()
    at = 0
    # Behind the opening, the version and the random.
    while len(message) <= 38 or len(message) < 39 + message[38]:
        end = at + _RECORD + int.from_bytes(wire[at + 3 : at + _RECORD], "big")
        message += wire[at + _RECORD : end]
        at = end
    return bytes(message[39 : 39 + message[38]])
