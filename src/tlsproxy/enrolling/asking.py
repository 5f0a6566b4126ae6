# -*- test-case-name: tests.enrolling.test_asking -*-
"""
Asking a reverse proxy for what a client proxy needs: its CA, a certificate, another certificate, the mapping.

Each is one connection, with one request and one deadline.  What goes out is a request for a certificate, which has the
public key, and a proof; never a key, and never a token.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TookTooLong

from tlsproxy.address import TCP
from tlsproxy.dial import Dialer
from tlsproxy.end import End
from tlsproxy.errors import DialFailed, HandshakeFailed, PeerReset, SessionError, TLSProxyError
from tlsproxy.interfaces import ENDED
from tlsproxy.tls.contexts import ClientTLS
from tlsproxy.tls.explain import explainLate
from tlsproxy.tls.printing import printable
from tlsproxy.upstreamproxy import UpstreamProxy
from tlsproxy.wire.answer import AnswerRefused
from tlsproxy.wire.enrollanswer import EnrollAnswerReader, IssuedAnswer, readIssued
from tlsproxy.wire.enrolling import (
    ALPN,
    AUTHORITY,
    CERTIFICATES,
    ENROLL,
    KEYING,
    KEYING_LENGTH,
    MAPPING,
    MAPPINGS,
    RENEW,
    REQUESTS,
)
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.proof import proofOf

__all__ = ["SECONDS", "Asking", "AskingExpired", "AskingFailed", "AskingRefused"]

SECONDS: Final = 30.0
"""How long one request may take, from looking up the name to the last byte of the answer."""

_WHO: Final = "the reverse proxy"
_JSON: Final = "application/json"
_MOST_SHOWN: Final = 300
_DEMANDS: Final = "alert certificate_required received"
_EXPIRED: Final = "alert certificate_expired received"
_PROTOCOLS: Final = "alert no_application_protocol received"
_TABLES: Final = re.compile(r"(.*); .*(?:\bupstream_tls\b|\[\[reverse_proxy\]\]).*")
"""What ends with a remedy in tables which there are for tunnels, and not for this."""


class AskingFailed(TLSProxyError):
    """
    No answer came that could be used: one sentence.  To ask again later may help.
    """


class AskingRefused(AskingFailed):
    """
    The reverse proxy refuses.

    @ivar status: The status of HTTP that says so.
    @ivar retryAfter: After how many seconds to ask again; L{None} where it does not say.
    """

    def __init__(self, sentence: str, status: int, retryAfter: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retryAfter = retryAfter


class AskingExpired(AskingFailed):
    """
    The reverse proxy finds our certificate expired.
    """


@frozen
class _Request:
    """
    What is asked.

    @ivar line: Method and path.
    @ivar wanted: The media type of the answer.
    @ivar body: What is sent.
    @ivar fields: Makes further fields, by the connection that it all goes on.
    """

    line: str
    wanted: str
    body: bytes = b""
    fields: Callable[[SSL.Connection], list[str]] = lambda _: []

    def head(self, host: str, connection: SSL.Connection) -> bytes:
        """
        Write its head.
        """
        lines = [f"{self.line} HTTP/1.1", f"Host: {host}", *self.fields(connection), "Connection: close"]
        if self.body:
            lines += [f"Content-Type: {REQUESTS}", f"Content-Length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii")


class Asking:
    """
    Asks one reverse proxy.
    """

    def __init__(
        self, reactor: Any, dialer: Dialer, where: TCP, proxy: UpstreamProxy | None = None, seconds: float = SECONDS
    ) -> None:
        """
        @param reactor: The reactor.
        @param dialer: What reaches it.
        @param where: Where it is.
        @param proxy: What it is reached through; L{None} for nothing.
        @param seconds: How long each request may take.
        """
        self._reactor = reactor
        self._dialer = dialer
        self._where = where
        self._proxy = proxy
        self._seconds = seconds

    async def authorities(self, tls: ClientTLS) -> bytes:
        """
        Ask for the CA that the reverse proxy is verified by.

        @param tls: TLS that asks for the name under which it enrolls.
        @return: Certificates as PEM, of whomever.
        @raise AskingFailed: With a sentence on why.
        """
        return await self._ask(tls, _Request(f"GET {AUTHORITY}", CERTIFICATES))

    async def enroll(self, tls: ClientTLS, token: Token, request: bytes) -> IssuedAnswer:
        """
        Ask for the first certificate.

        @param tls: TLS that verifies that name.
        @param token: What lets us.
        @param request: The request for a certificate, as DER.
        @raise AskingFailed: With a sentence on why.
        """

        def prove(connection: SSL.Connection) -> list[str]:
            keying = connection.export_keying_material(KEYING, KEYING_LENGTH)
            proof = b64encode(proofOf(token.secret, keying + request)).decode("ascii")
            return [f'Authorization: TLSProxy-Token id="{token.id}", proof="{proof}"']

        return _issued(await self._ask(tls, _Request(f"POST {ENROLL}", _JSON, request, prove)))

    async def renew(self, tls: ClientTLS, request: bytes) -> IssuedAnswer:
        """
        Ask for another certificate.

        @param tls: TLS that verifies the reverse proxy's name, and shows the certificate that there is.
        @param request: As for L{enroll}, of a new key.
        @raise AskingFailed: With a sentence on why.
        """
        return _issued(await self._ask(tls, _Request(f"POST {RENEW}", _JSON, request)))

    async def mapping(self, tls: ClientTLS) -> bytes:
        """
        Ask for the signed mapping.

        @param tls: As for L{renew}.
        @raise AskingFailed: With a sentence on why.
        """
        return await self._ask(tls, _Request(f"GET {MAPPING}", MAPPINGS))

    async def _ask(self, tls: ClientTLS, request: _Request) -> bytes:
        asking = Deferred.fromCoroutine(self._exchange(tls, request))
        asking.addTimeout(self._seconds, self._reactor)
        try:
            return await asking
        except TookTooLong:
            raise AskingFailed(f"{_WHO} {self._where} did not answer within {self._seconds:g} s") from None
        except PeerReset as e:
            # That is what a limit looks like, as no answer would be worth its handshake.
            many = "" if tls.policy.cert else "; where many enroll at once, it lets more of them in after a minute"
            raise AskingFailed(f"{e}{many}") from None
        except (SessionError, AnswerRefused) as e:
            raise AskingFailed(_TABLES.sub(r"\1", str(e))) from None

    async def _exchange(self, tls: ClientTLS, request: _Request) -> bytes:
        end = await self._reach()
        try:
            answer = await self._talk(end, tls, request)
        except BaseException:
            end.finish()
            raise
        end.linger()
        return _bodyOf(answer, request.wanted)

    async def _reach(self) -> End:
        proxy = self._proxy
        try:
            end = await self._dialer.dial(self._where if proxy is None else proxy.address)
        except DialFailed as e:
            raise DialFailed(str(e).replace("the upstream", _WHO if proxy is None else "the upstream proxy", 1)) from e
        try:
            if proxy is not None:
                end.who = f"the upstream proxy {proxy.address}"
                await proxy.ask(end, self._where)
        except BaseException:
            end.finish()
            raise
        end.who = f"{_WHO} {self._where}"
        return end

    async def _talk(self, end: End, tls: ClientTLS, request: _Request) -> EnrollAnswerReader:
        nobody = (
            f"{end.who} speaks TLS under the name {tls.name}, but enrolls nobody there: see that the address is "
            "right, and that its route has [route.enroll]"
        )
        try:
            stream = await end.startTLS(tls, (ALPN.encode("ascii"),))
        except HandshakeFailed as e:
            if _PROTOCOLS in str(e):
                raise AskingFailed(nobody) from None
            raise
        connection = stream.connection
        spoken = connection.get_alpn_proto_negotiated(), connection.get_protocol_version_name()
        if spoken != (ALPN.encode("ascii"), "TLSv1.3"):
            raise AskingFailed(nobody)
        reader = EnrollAnswerReader()
        try:
            # Where it has refused our certificate and reset the connection, to write would be to lose its alert.
            stream.peek(1)
            if stream.state >= ENDED:
                await end.peek(1)
            await end.write(request.head(tls.name, connection) + request.body)
            while not reader.whole:
                data = await end.read(16384)
                if not data:
                    raise AskingFailed(f"{end.who} ended the connection before its answer was whole")
                reader.read(data)
        except AnswerRefused as e:
            raise AskingFailed(f"{end.who} does not answer as it should: {e}") from None
        except SessionError as e:
            refusal = explainLate(stream, end.who) if end.tls is not None else ""
            if not tls.policy.cert and _DEMANDS in refusal:
                refusal = (
                    f"{end.who} demands a certificate under the name {tls.name}, so that is not where it enrolls: give "
                    "the name of its [route.enroll]"
                )
            if _EXPIRED in refusal:
                raise AskingExpired(refusal.partition("; ")[0]) from None  # No setting of a route would mend it.
            raise AskingFailed(refusal or str(e)) from None
        try:
            end.writing.endWrite()
        except (SSL.Error, SessionError):
            pass  # All has been said.
        return reader


def _bodyOf(answer: EnrollAnswerReader, wanted: str) -> bytes:
    """
    Give what was asked for.

    @raise AskingFailed: It is something else.
    """
    if answer.status not in (200, 201):
        words = f"answers with the status {answer.status}"
        if answer.contentType == "text/plain":
            told = " ".join(answer.body.decode("utf-8", "replace").split())[:_MOST_SHOWN]
            words = f"says: {printable(told)}" if told else words
        raise AskingRefused(f"{_WHO} {words}", answer.status, answer.retryAfter)
    if answer.contentType != wanted:
        raise AskingFailed(f"{_WHO} answers with something else than {wanted}")
    return bytes(answer.body)


def _issued(body: bytes) -> IssuedAnswer:
    try:
        return readIssued(body)
    except AnswerRefused as e:
        raise AskingFailed(f"{_WHO} does not answer as it should: {e}") from None
