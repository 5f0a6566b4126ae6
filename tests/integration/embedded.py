# -*- test-case-name: tests.integration.test_embedding -*-
"""
A program with servers of its own, each behind a route of mode C{offload}.

Run with a file of routes; each route is listened by with the server of its name.  What its protocols live through is
written to the log.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from tlsproxy.address import tellPeer

reactor: Any = installed
_log = Logger()


class Who(Resource):
    """
    Tells who asks, and how.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """
        Tell it.
        """
        certificate = request.transport.getPeerCertificate()
        name = certificate.get_subject().CN if certificate is not None else "nobody"
        return f"{name} {'secure' if request.isSecure() else 'clear'} {request.getClientAddress().host}\n".encode()


class Digest(Resource):
    """
    Tells what was posted.
    """

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        """
        Tell it.
        """
        content = request.content.read()
        return f"{len(content)} {sha256(content).hexdigest()}\n".encode()


class Large(Resource):
    """
    A page of 3 MB.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        """
        All of it at once.
        """
        return b"0123456789" * 300_000


def site() -> Any:
    """
    A web site.
    """
    root = Resource()
    for name, page in ((b"who", Who()), (b"digest", Digest()), (b"large", Large())):
        root.putChild(name, page)
    return Site(root)


def kleinSite() -> Any:
    """
    A web site of Klein's making.
    """
    from klein import Klein

    app = Klein()

    @app.route("/who")  # type: ignore[untyped-decorator, unused-ignore]
    def who(request: Any) -> bytes:
        return Who().render_GET(request)

    return Site(app.resource())


class Told(Protocol):
    """
    Tells all that it lives through.
    """

    def connectionMade(self) -> None:
        """
        Tell the transport.
        """
        transport: Any = self.transport
        secure = ISSLTransport.providedBy(transport)
        certificate = transport.getPeerCertificate() if secure else None
        self.tell(
            "made peer={peer} host={host} secure={secure} certificate={certificate} protocol={protocol}",
            peer=tellPeer(transport.getPeer()),
            host=tellPeer(transport.getHost()),
            secure=secure,
            certificate=certificate.get_subject().CN if certificate is not None else "-",
            protocol=getattr(transport, "negotiatedProtocol", None),
        )

    def tell(self, format: str, **facts: object) -> None:
        """
        Write to the log.
        """
        _log.info("{name}: " + format, name=type(self).__name__, **facts)

    def dataReceived(self, data: bytes) -> None:
        """
        Answer, or do as told.
        """
        assert self.transport is not None
        if data == b"abort":
            self.transport.abortConnection()  # type: ignore[attr-defined]
        elif data == b"lose":
            self.transport.write(b"farewell")
            self.transport.loseConnection()
        else:
            self.transport.write(data.upper())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Tell why.
        """
        self.tell("lost {kind}: {sentence}", kind=type(reason.value).__name__, sentence=str(reason.value))


@implementer(IHalfCloseableProtocol)
class Half(Told):
    """
    Answers when the other side has said all.
    """

    def __init__(self) -> None:
        self.count = 0

    def dataReceived(self, data: bytes) -> None:
        """
        Count.
        """
        self.count += len(data)

    def readConnectionLost(self) -> None:
        """
        The other side has said all: a while later, so do we.
        """
        self.tell("read lost")
        reactor.callLater(0.2, self._answer)

    def _answer(self) -> None:
        assert self.transport is not None
        self.transport.write(b"%d" % self.count + b"!" * 500_000)
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        What we have said has been sent.
        """
        self.tell("write lost")


SERVERS = {
    "site": site,
    "klein": kleinSite,
    "told": lambda: Factory.forProtocol(Told),
    "half": lambda: Factory.forProtocol(Half),
}

if __name__ == "__main__":
    log.startLogging(sys.stdout, setStdout=False)
    for name in sys.argv[2:]:
        serverFromString(reactor, f"tlsproxy:{sys.argv[1]}:{name}").listen(SERVERS[name]()).addErrback(log.err)
    reactor.run()
