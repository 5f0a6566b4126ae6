# -*- test-case-name: tests.enrolling.test_desk -*-
"""
Where client proxies enroll with their reverse proxy, and where they renew their certificates.

Who has no certificate comes under a server name of its own, and so meets a TLS of its own, which asks for none and
speaks nothing but this.  All others come under the name that tunnels are made under; their certificate has been
verified when the first byte is read.  Nobody gets from here to a tunnel, or back.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final, NoReturn

from attrs import Factory, field, frozen
from cryptography import x509
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from tlsproxy.address import tellPeer
from tlsproxy.enrolling.lineages import Issue, Lineages
from tlsproxy.enrolling.rates import Rates
from tlsproxy.enrolling.records import Issued, Refused, Theft
from tlsproxy.enrolling.standing import Standing
from tlsproxy.enrolling.storefile import StoreProblem
from tlsproxy.errors import AdmissionRefused, Answered, PeerEnded, forgetFrames
from tlsproxy.grants import Grant
from tlsproxy.lifetimes import wallClock
from tlsproxy.session import Session
from tlsproxy.signedmapping import MappingFacts
from tlsproxy.steps import acceptTLS
from tlsproxy.tls.contexts import ServerTLS
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.issuing import BACKDATED, Issuer, PublicKey, readRequest
from tlsproxy.tls.keys import spkiHash
from tlsproxy.wire.enrolling import (
    ALPN,
    AUTHORITY,
    CERTIFICATES,
    KEYING,
    KEYING_LENGTH,
    MAPPING,
    MAPPINGS,
)
from tlsproxy.wire.enrollrequest import (
    BY_CERTIFICATE,
    BY_TOKEN,
    CHALLENGE,
    EnrollRefused,
    EnrollRequest,
    EnrollRequestReader,
    answer,
)
from tlsproxy.wire.proof import isProof

__all__ = ["Desk", "Done"]

_log = Logger()

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_NO_TOKEN: Final = "the token is unknown, used, expired or revoked, or the proof is wrong"
_NOT_YOU: Final = "this certificate does not let you have that"
_NOT_NOW: Final = (("Retry-After", "30"),)
_LATE: Final = {
    "head": (408, "the request did not come in time"),
    "route": (503, "it was not decided in time; try again later"),
}


class Done(Answered):
    """
    A client proxy got what it asked for.
    """

    def __init__(self, outcome: str, sentence: str) -> None:
        """
        @param outcome: The one word for the log.
        """
        super().__init__(sentence)
        self.outcome = outcome


@frozen(kw_only=True, eq=False)
class Desk:
    """
    The desk.

    @ivar name: The server name for those without a certificate.
    @ivar serverName: The one for those with one, and for tunnels.
    @ivar tls: The TLS of the former.
    @ivar authorities: What clients verify the reverse proxy by, as PEM.
    @ivar issuer: Certifies.
    @ivar mapping: The signed mapping, as it is.
    @ivar facts: What it says of itself; L{None} where that is not known.
    @ivar lifetime: How long a certificate is valid.
    @ivar lineage: After what time a new token is needed.
    @ivar store: Who may enroll, and who has.
    @ivar rates: How often those without a certificate may ask.
    @ivar renewals: How often those with one may.
    @ivar now: Tells the time that certificates have to be valid at.
    @ivar standing: Whether certificates are still good.
    """

    name: str
    serverName: str
    tls: ServerTLS
    authorities: bytes = field(repr=False)
    issuer: Issuer
    mapping: bytes = field(repr=False)
    lifetime: timedelta
    lineage: timedelta
    store: Lineages = field(repr=False)
    rates: Rates = field(repr=False)
    renewals: Rates = field(repr=False)
    facts: MappingFacts | None = None
    now: Callable[[], datetime] = field(default=wallClock, repr=False)
    standing: Standing = field(
        repr=False, default=Factory(lambda self: Standing(self.issuer, self.store), takes_self=True)
    )
    _nobodys: bytes = field(init=False, repr=False, factory=lambda: secrets.token_bytes(32))

    def isFor(self, session: Session) -> bool:
        """
        Tell whether a client comes under the name for those without a certificate, whose hello has been read.
        """
        return session.serverName == self.name

    async def admit(self, session: Session) -> NoReturn:
        """
        Serve a client without a certificate, from before its handshake to the end of its session.
        """
        wait = self._wait(session, self.rates)
        if wait:
            session.phase = "route"
            session.near.finish(reset=True)
            _count(session, "refused", "rate")
            raise AdmissionRefused("too many ask to enroll, as max_requests and max_client_requests say")
        await acceptTLS(session, self.tls)
        if session.alpn != ALPN.encode():
            raise AdmissionRefused(f"the client does not speak {ALPN}")

        async def act(request: EnrollRequest) -> tuple[bytes, Done]:
            if request.path == AUTHORITY:
                _count(session, "done", "ca")
                return answer(200, self.authorities, CERTIFICATES), Done("served", "the client got our CA")
            return await self._enroll(session, request)

        await self._serve(session, BY_TOKEN, act)

    async def serve(self, session: Session, chain: tuple[x509.Certificate, ...], grants: Iterable[Grant]) -> NoReturn:
        """
        Serve a client with a certificate, behind its handshake.

        @param chain: Its certificate, and those that it was verified by.
        @param grants: Who may reach what.
        """

        async def act(request: EnrollRequest) -> tuple[bytes, Done]:
            if not _isNew(session):
                raise EnrollRefused("version", "this is to be had in TLS 1.3 only", 400)
            if session.serverName != self.serverName:
                raise EnrollRefused("host", f"this is to be had under {self.serverName} only", 421)
            if not self.issuer.hasIssued(chain):
                raise EnrollRefused("issuer", _NOT_YOU, 403, log="another CA has issued the client's certificate")
            # Whose certificate was taken back is a stranger, and uses up nothing of what the others have together.
            wait = self._wait(session, self.rates if self.standing.whyCut(chain) else self.renewals)
            if wait:
                later = (("Retry-After", str(ceil(wait))),)
                raise EnrollRefused("rate", "too many ask for certificates; try again later", 429, later)
            if request.path == MAPPING:
                why = self.standing.whyNot(chain)
                if why:
                    raise EnrollRefused("dead", _NOT_YOU, 403, log=why)
                _count(session, "done", "mapping")
                return answer(200, self.mapping, MAPPINGS), Done("served", "the client got the mapping")
            if not any(grant.isFor(chain) for grant in grants):
                raise EnrollRefused("grant", _NOT_YOU, 403, log="no grant is for the client's certificate any more")
            return await self._renew(session, request, chain[0])

        await self._serve(session, BY_CERTIFICATE, act)

    def _wait(self, session: Session, rates: Rates) -> float:
        route = session.route
        now = session.keeper.reactor.seconds()
        return rates.wait(session.client, route.clientPrefixIpv4, route.clientPrefixIpv6, now)

    async def _serve(
        self,
        session: Session,
        paths: dict[str, str],
        act: Callable[[EnrollRequest], Awaitable[tuple[bytes, Done]]],
    ) -> NoReturn:
        """
        Read the one request and answer it.

        @raise Done: It got what it asked for.
        @raise AdmissionRefused: It did not.
        """
        reader = EnrollRequestReader(session.serverName, paths)
        try:
            response, done = await act(await _read(session, reader, paths))
        except EnrollRefused as e:
            _count(session, "refused", e.reason)
            session.answer(answer(e.status, f"{e}\n".encode("utf-8", "backslashreplace"), _TEXT, e.headers))
            raise AdmissionRefused(e.log) from None
        except CancelledError:
            if session.late and session.phase in _LATE:
                _count(session, "refused", "late")
                status, sentence = _LATE[session.phase]
                session.answer(answer(status, f"{sentence}\n".encode(), _TEXT))
            raise
        session.enter("negotiate")
        await session.near.write(response)
        await session.near.endTLSWrite()
        session.answer(b"")
        raise done

    async def _enroll(self, session: Session, request: EnrollRequest) -> tuple[bytes, Done]:
        stream = session.near.tls
        assert stream is not None
        message = stream.connection.export_keying_material(KEYING, KEYING_LENGTH) + request.body
        try:
            record = self.store.token(request.token)
        except StoreProblem as e:
            raise _broken(session, e) from None
        # A token that is unknown takes as long as one that is not.
        proven = isProof(self._nobodys if record is None else record.storedKey, message, request.proof)
        if record is None:
            raise _noToken("unknown", f"no token is called {request.token}")
        if not proven:
            raise _noToken("proof", f"the proof for the token {request.token} of {record.name} is wrong")
        public = _public(request)

        def enroll(spki: bytes, issue: Issue) -> Issued:
            with suppress(StoreProblem):
                self.store.prune()  # It grows by those who enroll, so this is often enough.
            return self.store.enroll(request.token, spki, self.lineage, issue)

        found = await self._issued(session, "enrolled", public, enroll)
        if isinstance(found, Refused):
            raise _noToken(found.reason, str(found))
        return self._answer(session, "enrolled", found)

    async def _renew(self, session: Session, request: EnrollRequest, parent: x509.Certificate) -> tuple[bytes, Done]:
        public = _public(request)

        def renew(spki: bytes, issue: Issue) -> Issued:
            return self.store.renew(parent.serial_number, spki, issue, spkiHash(parent.public_key()))

        found = await self._issued(session, "renewed", public, renew)
        if isinstance(found, Refused):
            raise EnrollRefused(found.reason, found.public, 403, log=str(found))
        return self._answer(session, "renewed", found)

    async def _issued(
        self, session: Session, what: str, public: PublicKey, ask: Callable[[bytes, Issue], Issued]
    ) -> Issued | Refused:
        """
        Have the store issue a certificate, in a thread, since it waits for the disk.  What comes of it is told even
        where the client has gone meanwhile.

        @param what: What is asked for, in a word for the log.
        """
        spki = spkiHash(public)

        def issue(name: str, ends: datetime) -> x509.Certificate:
            now = self.now()
            if now >= self.issuer.certificate.not_valid_after_utc:
                raise StoreProblem("the CA that certifies client proxies has expired")
            return self.issuer.issue(name, public, min(ends, now + self.lifetime), now)

        def work() -> Issued | Refused | StoreProblem:
            try:
                return ask(spki, issue)
            except (Refused, StoreProblem) as e:
                forgetFrames(e)
                return e

        session.enter("route")
        reactor, route, client = session.keeper.reactor, session.route.name, tellPeer(session.client)

        def tell(result: Issued | Refused | StoreProblem) -> Issued | Refused | StoreProblem:
            if isinstance(result, Theft):
                words = "theft: {problem}, by {client} at route {route}"
                _log.error(words, problem=str(result), client=client, route=route)
                self.standing.judge()
            elif isinstance(result, Issued) and not result.again:
                leaf = x509.load_pem_x509_certificate(result.certificate)
                _log.info(
                    "{route} {what} {name}: certificate {serial:x} until {until}, asked for from {client}",
                    route=route,
                    what=what,
                    name=result.name,
                    serial=leaf.serial_number,
                    until=f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                    client=client,
                )
            return result

        turns = self.standing.turns
        await turns.acquire()
        told: Deferred[Issued | Refused | StoreProblem] = Deferred()
        working: Deferred[Any] = deferToThreadPool(reactor, reactor.getThreadPool(), work)

        def next(result: Any) -> Any:
            turns.release()
            return result

        working.addBoth(next)
        working.addCallback(tell)
        working.chainDeferred(told)
        result = await told
        if isinstance(result, StoreProblem):
            raise _broken(session, result)
        return result

    def _answer(self, session: Session, what: str, issued: Issued) -> tuple[bytes, Done]:
        leaf = x509.load_pem_x509_certificate(issued.certificate)
        ends = leaf.not_valid_after_utc
        life = ends - (leaf.not_valid_before_utc + BACKDATED)
        told = {
            "certificate": issued.certificate.decode("ascii"),
            "mapping": self.mapping.decode(),
            "server_name": self.serverName,
            "renew_after": max(0, int((ends - life / 3 - self.now()).total_seconds())),
        }
        _count(session, "done", "repeated" if issued.again else what)
        sentence = f"{issued.name} has its certificate until {ends:%Y-%m-%d %H:%M} UTC"
        return answer(201, json.dumps(told).encode("ascii"), _JSON), Done(what, sentence)


def _isNew(session: Session) -> bool:
    stream = session.near.tls
    return stream is not None and stream.connection.get_protocol_version_name() == "TLSv1.3"


async def _read(session: Session, reader: EnrollRequestReader, paths: Iterable[str]) -> EnrollRequest:
    """
    Take the request, and not one byte of what follows.
    """
    session.enter("head")
    near = session.near
    while reader.request is None:
        data = await near.peek(reader.LIMIT)
        if not data:
            raise PeerEnded(f"{near.who} ended the stream before its request was whole")
        try:
            taken = reader.read(data)
        finally:
            if reader.target in paths:
                session.target = reader.target
        await near.read(taken)
    return reader.request


def _public(request: EnrollRequest) -> PublicKey:
    try:
        return readRequest(request.body)
    except CertificateProblem as e:
        raise EnrollRefused("csr", str(e), 422) from None


def _noToken(reason: str, log: str) -> EnrollRefused:
    return EnrollRefused(reason, _NO_TOKEN, 401, CHALLENGE, log)


def _broken(session: Session, problem: StoreProblem) -> EnrollRefused:
    _log.error("{route}: nobody can enroll or renew: {problem}", route=session.route.name, problem=str(problem))
    return EnrollRefused("store", "this is out of order; try again later", 503, _NOT_NOW, str(problem))


def _count(session: Session, kind: str, word: str) -> None:
    session.keeper.enrolled[kind, word] += 1
