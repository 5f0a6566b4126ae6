# -*- test-case-name: tests.test_tunnels -*-
"""
What all modes have in common whose clients ask for tunnels: the head of the request, and the answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool

from tlsproxy.address import TCP
from tlsproxy.connecting import isLocal
from tlsproxy.end import End
from tlsproxy.errors import AdmissionRefused, Answered, DialFailed, PeerEnded
from tlsproxy.opening import Opening, negotiate
from tlsproxy.passwords import Busy, NotAuthenticated, Users
from tlsproxy.session import Session
from tlsproxy.side import FarSide, NearSide
from tlsproxy.targets import TargetRefused, ownListener
from tlsproxy.wire.connect import Request, RequestReader, RequestRefused, response
from tlsproxy.wire.pac import PAC_TYPE, pacFile

__all__ = ["LATE", "checkUser", "ownOf", "request", "stand"]

_PAC: Final = "/proxy.pac"
_CHALLENGE: Final = (("Proxy-Authenticate", 'Basic realm="tlsproxy", charset="UTF-8"'),)
"""RFC 7617, section 2."""
_FOR_BROWSERS: Final = (("X-Content-Type-Options", "nosniff"), ("Cross-Origin-Resource-Policy", "same-origin"))
"""So that no web page can run the file as a script of its own, and read the hosts in it."""
_BUSY: Final = "too many others wait for their passwords to be verified; try again later"
_UNDECIDED: Final = "whether you may use this proxy was not decided in time; try again later"
LATE: Final = {
    "head": (408, "the request did not come in time"),
    "route": (503, _UNDECIDED),
    "dial": (504, "the target did not answer in time"),
}
"""What a client is told of a phase that took too long: a status and a sentence."""


async def request(
    session: Session,
    reach: Callable[[Request, TCP], Awaitable[End]],
    secure: bool,
    passwords: bool = False,
    pac: Callable[[Request], str] | None = None,
    late: Mapping[str, tuple[int, str]] = LATE,
) -> tuple[Request, End]:
    """
    Take a client's request for a tunnel, and reach its target.  Where that does not come about the client is told why.

    @param reach: Decides whether the client may, and reaches the target.
    @param secure: Whether clients speak TLS with this proxy.
    @param passwords: Whether clients may wait for their passwords to be verified.
    @param pac: Writes the file for browsers that such a client asked for; L{None} for one that sends them here with all
        that is encrypted.
    @param late: What the client is told of a phase that took too long.
    @return: What was asked for, and the target's side; the client has no answer yet.
    """
    reader = RequestReader()
    try:
        asked = await _readRequest(session, reader)
        if asked.method != "CONNECT":
            _serve(session, asked, pac or (lambda asked: pacFile(asked.authority, secure)), reader.bodyless)
        where = TCP(asked.host, asked.port)
        session.target = str(where)
        return asked, await reach(asked, where)
    except RequestRefused as e:
        # What may be a password or the like is not for the log.
        session.target = reader.target.partition("?")[0] if "@" not in reader.target else ""
        session.answer(response(e.status, str(e), e.headers, bodyless=reader.bodyless))
        raise AdmissionRefused(str(e)) from e
    except NotAuthenticated:
        session.answer(response(407, "this proxy wants a user's name and password", _CHALLENGE))
        raise
    except Busy:
        session.answer(response(503, _BUSY))
        raise
    except TargetRefused as e:
        session.answer(response(403, e.public))
        raise
    except AdmissionRefused:
        session.answer(response(403, "this proxy does not let you in"))
        raise
    except DialFailed as e:
        session.answer(response(e.status, str(e)))
        raise
    except CancelledError:
        if session.late and session.phase in late:
            status, sentence = late[session.phase]
            if session.far is not None:
                tardy = "finish the TLS handshake" if session.phase == "upstream_handshake" else "answer"
                sentence = f"{session.far.who} did not {tardy} in time"
            session.answer(response(status, _BUSY if passwords and session.phase == "route" else sentence))
        raise


async def stand(session: Session, answer: bytes) -> None:
    """
    Tell the client that its tunnel stands, and have the protocol handlers talk with both sides first, if they want to.

    @param answer: What the client is told.
    """
    await session.near.write(answer)
    if session.route.handlers:
        opening = Opening(session, None)
        await negotiate(session, NearSide(opening, False), FarSide(opening, False, False))


async def checkUser(session: Session, users: Users, authorization: str) -> None:
    """
    Find out which user the client is.

    @param authorization: What its request says of that.
    @raise NotAuthenticated: It has not shown to be any.
    @raise Busy: Too many others wait.
    """
    session.enter("route")
    reactor = session.keeper.reactor

    def inThread(check: Callable[[], bool]) -> Deferred[bool]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), check)

    session.user = await users.check(authorization, inThread)


def ownOf(session: Session) -> Callable[[str, int], bool]:
    """
    Make what tells whether an address and a port lead back to this proxy.
    """
    return ownListener(session.keeper.listeners, isLocal)


async def _readRequest(session: Session, reader: RequestReader) -> Request:
    """
    Take the head of the request, and not one byte of what follows.
    """
    session.enter("head")
    near = session.near
    while reader.request is None:
        data = await near.peek(reader.LIMIT)
        if not data:
            raise PeerEnded(f"{near.who} ended the stream before its request was whole")
        await near.read(reader.read(data))
    return reader.request


def _serve(session: Session, asked: Request, pac: Callable[[Request], str], bodyless: bool) -> None:
    """
    Answer a request to the proxy itself.  Browsers do not show who they are when they ask for such a file, and it tells
    nothing that they do not know.

    @raise Answered: It has been.
    """
    if asked.target.partition("?")[0] != _PAC:
        raise RequestRefused(f"there is nothing here but {_PAC}; this proxy makes tunnels, by CONNECT", 404)
    try:
        text = pac(asked)
    except ValueError as e:
        raise RequestRefused(str(e)) from e
    session.answer(response(200, text, _FOR_BROWSERS, PAC_TYPE, bodyless))
    raise Answered(f"the client asked for {_PAC}")
