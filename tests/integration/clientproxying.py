# -*- test-case-name: tests.integration -*-
"""
A client proxy between a browser and a reverse proxy whose every move a test decides: one of nothing but the standard
library, which knows TLS, CONNECT, and no way to take TLS off.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.running import Certificates, IntegrationTestCase, Proxy
from tests.integration.talking import Server, Talker

__all__ = ["ESTABLISHED", "SHOP", "ClientProxyCase", "ReverseProxy"]

SHOP = "shop.bank.invalid:443"
"""What the browser asks for: a name that no DNS knows."""
ESTABLISHED = b"HTTP/1.1 200 OK\r\n\r\n"


class ReverseProxy(Server):
    """
    A reverse proxy.

    @ivar heads: The requests that came.
    @ivar subjects: Who made them: the common names of the certificates.
    """

    def __init__(
        self,
        case: IntegrationTestCase,
        certificate: Path,
        authorities: Sequence[Path],
        behave: Callable[[ssl.SSLSocket], object],
        alpn: Sequence[str] = ("http/1.1",),
    ) -> None:
        """
        @param certificate: What it shows.
        @param authorities: Whose certificates it demands.
        @param behave: What it does when it has read a request.
        @param alpn: The application protocols that it chooses from.
        """
        self.heads: list[str] = []
        self.subjects: list[str] = []
        self._behave = behave
        self.context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        for one in authorities:
            context.load_verify_locations(one)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        super().__init__(case, self._answerIt)

    def _answerIt(self, talker: Talker) -> None:
        talker.socket.settimeout(20)
        with self.context.wrap_socket(talker.socket, server_side=True, do_handshake_on_connect=False) as sock:
            try:
                sock.do_handshake()
            except ssl.SSLError:
                # What is unread would make the close a reset, which may overtake the alert.
                socket.socket.shutdown(sock, socket.SHUT_WR)
                while os.read(sock.fileno(), 4096):
                    pass
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = sock.recv(1)
                if not piece:
                    return
                head += piece
            subject: Any = (sock.getpeercert() or {})["subject"]
            self.subjects.append(dict(pair for names in subject for pair in names)["commonName"])
            self.heads.append(head.decode("ascii"))
            self._behave(sock)


def tunnelTo(port: int) -> Callable[[ssl.SSLSocket], None]:
    """
    Make what connects every tunnel with one port of loopback.
    """

    def behave(near: ssl.SSLSocket) -> None:
        with socket.create_connection(("127.0.0.1", port), 20) as far:
            near.sendall(ESTABLISHED)
            near.setblocking(True)
            while True:
                ready = [near] if near.pending() else select.select([near, far], [], [], 20)[0]
                for one, other in ((near, far), (far, near)):
                    if one in ready:
                        data = one.recv(16384)
                        if not data:
                            if other is near:
                                near.unwrap()
                            return
                        other.sendall(data)

    return behave


def says(answer: bytes) -> Callable[[ssl.SSLSocket], None]:
    """
    Make what answers, and ends.
    """

    def behave(near: ssl.SSLSocket) -> None:
        near.sendall(answer)
        near.unwrap()

    return behave


def answerOf(status: bytes, body: bytes) -> bytes:
    """
    Make an answer with a sentence.

    @param status: The status, and the words behind it.
    """
    head = b"HTTP/1.1 %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def page(talker: Talker) -> None:
    """
    Answer a request for a page.
    """
    seen = b""
    while b"\r\n\r\n" not in seen:
        piece = talker.recv()
        if not piece:
            return
        seen += piece
    talker.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
    talker.endWrite()


class ClientProxyCase(IntegrationTestCase):
    """
    A test with a client proxy.

    @ivar dmz: The authority of reverse proxies.
    @ivar staff: The authority of client proxies.
    @ivar identity: A certificate of its making.
    """

    def setUp(self) -> None:
        """
        Make the authorities.
        """
        super().setUp()
        self.dmz = Certificates(self.folder, "dmz")
        self.staff = Certificates(self.folder, "staff")
        self.identity = self.staff.issue("laptop", ["laptop.bank.example"], commonName="laptop")
        self.reverseCertificate = self.dmz.issue("reverse")

    def reverse(self, behave: Callable[[ssl.SSLSocket], object], **more: Any) -> ReverseProxy:
        """
        Start a reverse proxy.
        """
        given: dict[str, Any] = {"certificate": self.reverseCertificate, "authorities": [self.staff.ca], **more}
        return ReverseProxy(self, behave=behave, **given)

    def start(self, port: int, *, extra: str = "", upstream: Mapping[str, Any] | None = None, **more: Any) -> Proxy:
        """
        Start the client proxy.

        @param port: Where the reverse proxy is.
        @param extra: More of the mapping, which comes first.
        @param upstream: More of the TLS toward it.
        @param more: More keys of the route.
        """
        mapping = self.folder / "mapping.toml"
        mapping.write_text(
            f'{extra}\n[[reverse_proxy]]\nname = "dmz"\naddress = "localhost:{port}"\n'
            '[[map]]\nhosts = ["*.bank.invalid:443", "192.0.2.0/24:443"]\nvia = "dmz"\n'
        )
        tls = {"ca": str(self.dmz.ca), "cert": str(self.identity), **(upstream or {})}
        return self.proxy({"mode": "sequential-client", "mapping": str(mapping), "upstream_tls": tls, **more})

    def ask(self, proxy: Proxy, target: str = SHOP, *fields: str) -> tuple[str, str]:
        """
        Ask for a tunnel that is not to be had.

        @return: The first line of the answer, and its body.
        """
        with socket.create_connection(("127.0.0.1", proxy.port("sequential-client")), 20) as sock:
            sock.sendall("\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *fields, "", ""]).encode())
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
        head, _, body = answer.decode().partition("\r\n\r\n")
        return head.split("\r\n")[0], body

    def fetch(self, proxy: Proxy, *options: str, status: int = 0) -> tuple[str, str]:
        """
        Fetch a page by curl, through the client proxy.

        @return: The page, and what curl complains of.
        """
        command = ["curl", "--silent", "--show-error", "--noproxy", "", "--cacert", str(self.certificates.ca)]
        command += ["--proxy", f"http://127.0.0.1:{proxy.port('sequential-client')}", *options, f"https://{SHOP}/"]
        done = self.run_(command, status=status)
        return done.stdout.decode(), done.stderr.decode()
