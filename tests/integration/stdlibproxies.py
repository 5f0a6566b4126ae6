# -*- test-case-name: tests.integration.test_sequential_stdlib -*-
"""
A client proxy and a reverse proxy that take their TLS off, on nothing but Python's own library: what another
implementer would write who has read the protocol and has no tlsproxy at hand.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.integration.innertls import DOWN, UP, Framing, NotTLS, Watch, serverName
from tests.integration.stdlibheads import Refused, fields, readHead, readOuterHead
from tests.integration.stdlibouter import PATIENCE, Cut, Outer, RecordOuter, SocketOuter

ALPN = "tlsproxy-seq/1"


def outerContext(server: bool, certificate: Path, ca: Path, alpn: Sequence[str] = (ALPN, "http/1.1")) -> ssl.SSLContext:
    """
    Make what both proxies speak: TLS 1.3 alone, a certificate on both sides, no tickets.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Python sets it, and then the end of the TCP stream looks like one of TLS.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    context.load_cert_chain(certificate)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(list(alpn))
    if server:
        context.num_tickets = 0
    return context


class Tunnel:
    """
    What both do once the tunnel stands: carry the bytes, and take the TLS off where that was agreed.

    @ivar outcome: How it ended.
    @ivar switched: Which directions went on in plain: L{UP}, L{DOWN}.
    """

    def __init__(self, outer: Outer, plain: socket.socket, out: int, agreed: str, host: str, early: bytes) -> None:
        """
        @param plain: The browser's side, or the destination's.
        @param out: The direction that is written to the outer side.
        @param host: What the browser's hello has to name; empty for whatever it does.
        @param early: What the outer side has sent already.
        """
        self.outcome = ""
        self.switched: list[int] = []
        self._outer, self._plain, self._out, self._agreed, self._host = outer, plain, out, agreed, host
        self._watch = Watch()
        self._held: bytes | None = b""
        self._retried = False
        self._early = early
        self._after: socket.socket | None = None

    def run(self) -> None:
        """
        Carry until both directions have ended.
        """
        try:
            if self._agreed == "connect":
                self._takeOff()
            if self._early:
                self._pass(1 - self._out, self._early)
            ended = [False, False]
            while not all(ended) and (self._held is not None or self.switched != [UP, DOWN]):
                self._carry(ended)
            if not all(ended):
                self._carryPlain(ended)
            self.outcome = self.outcome or "ended"
        except (OSError, Cut, NotTLS, Refused) as e:
            self.outcome = f"{type(e).__name__}: {e}"
            for sock in (self._outer.sock, self._plain):
                abort(sock)
        finally:
            self._outer.close()
            self._plain.close()

    def _carry(self, ended: list[bool]) -> None:
        out, into = self._out, 1 - self._out
        socks = [sock for sock, way in ((self._plain, out), (self._outer.sock, into)) if not ended[way]]
        watched = [*socks, self._after] if self._after is not None else socks
        ready = [self._outer.sock] if self._outer.pending() else select.select(watched, [], [], PATIENCE)[0]
        if not ready:
            raise Cut("nobody says anything")
        if self._after in ready:
            if self._after.recv(1):
                raise Cut("something came after the end of TLS")
            self._after = None
            return
        if self._plain in ready:
            data = self._plain.recv(16384)
            if data:
                self._pass(out, data)
            else:
                ended[out] = True
                if out in self.switched:
                    self._outer.sock.shutdown(socket.SHUT_WR)
                else:
                    self._outer.endWrite()
        # It may have gone on in plain meanwhile.
        elif into in self.switched:
            data = self._outer.sock.recv(65536)
            if data:
                self._pass(into, data)
            else:
                ended[into] = True
                self._plain.shutdown(socket.SHUT_WR)
        elif (more := self._outer.recv()) is None:
            pass
        elif more:
            self._pass(into, more)
        elif self._agreed == "connect" or (self._watch.safe and self._watch.between(into)):
            self._plainFrom(into)
        else:
            # An ordinary end; whatever follows would be no part of any agreement.
            ended[into] = True
            self._plain.shutdown(socket.SHUT_WR)
            self._after = self._outer.under()

    def _pass(self, direction: int, data: bytes) -> None:
        if direction == UP and self._held is not None:
            self._held += data
            try:
                name = serverName(self._held, self._watch.retried)
            except EOFError:
                return
            if self._host and name != self._host:
                raise Refused(f"a hello for {name}")
            data, self._held = self._held, None
        if self._agreed != "handshake":
            self._write(direction, data)
            return
        while data:
            piece = self._watch.cut(direction, data)
            data = data[len(piece) :]
            self._write(direction, piece)
            if self._watch.retried and not self._retried:
                self._held, self._retried = b"", True
            if self._watch.safe and self._out not in self.switched and self._watch.between(self._out):
                self._takeOff()

    def _write(self, direction: int, data: bytes) -> None:
        if direction != self._out:
            self._plain.sendall(data)
        elif direction in self.switched:
            self._outer.sock.sendall(data)
        else:
            self._outer.send(data)

    def _takeOff(self) -> None:
        self._plainFrom(self._out)
        if self._outer.endWrite():
            self._plainFrom(1 - self._out)

    def _plainFrom(self, direction: int) -> None:
        self.switched = sorted({*self.switched, direction})

    def _carryPlain(self, ended: list[bool]) -> None:
        ways = [(self._plain, self._outer.sock, self._out), (self._outer.sock, self._plain, 1 - self._out)]
        troubles: list[Exception] = []
        threads = []
        for source, sink, direction in ways:
            if not ended[direction]:
                arguments = (source, sink, Framing(self._watch.version), troubles)
                threads.append(threading.Thread(target=self._copy, args=arguments, daemon=True))
                threads[-1].start()
        for thread in threads:
            thread.join()
        if troubles:
            raise troubles[0]

    def _copy(self, source: socket.socket, sink: socket.socket, framing: Framing, troubles: list[Exception]) -> None:
        try:
            while data := source.recv(65536):
                if self._agreed == "handshake":
                    framing.see(data)
                sink.sendall(data)
            if self._agreed == "handshake":
                framing.end()
            sink.shutdown(socket.SHUT_WR)
        except (OSError, NotTLS) as e:
            troubles.append(e)
            abort(source)
            abort(sink)


def abort(sock: socket.socket) -> None:
    """
    Reset a connection.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        pass


class _Proxy:
    """
    Listens, and has a thread for each connection.

    @ivar port: Its port.
    @ivar tunnels: The tunnels that it has made.
    @ivar troubles: Why others have not been.
    """

    kind: type[SocketOuter] | type[RecordOuter]

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.tunnels: list[Tunnel] = []
        self.troubles: list[str] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        """
        Listen no more.
        """
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._threads[0].join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        try:
            tunnel = self.open(sock)
        except (OSError, Cut, Refused) as e:
            self.troubles.append(f"{type(e).__name__}: {e}")
            self.refuse(sock)
            sock.close()
        else:
            self.tunnels.append(tunnel)
            tunnel.run()

    def open(self, sock: socket.socket) -> Tunnel:
        """
        Open a tunnel for a client.
        """
        raise NotImplementedError

    def refuse(self, sock: socket.socket) -> None:
        """
        Tell a client that there is none.
        """


class ClientProxy(_Proxy):
    """
    A client proxy; its C{unwrap} is the one of sockets.

    @ivar answers: What the reverse proxy has answered.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        upstream: int,
        wishes: str = "handshake, none",
        kind: type[SocketOuter] | type[RecordOuter] = SocketOuter,
    ) -> None:
        """
        @param upstream: The port of the reverse proxy.
        @param wishes: What it asks for, the strongest wish first.
        """
        self._upstream, self._wishes, self.kind = upstream, wishes, kind
        self.answers: list[str] = []
        super().__init__(context)

    def open(self, sock: socket.socket) -> Tunnel:
        """
        Ask the reverse proxy, and answer the browser.
        """
        method, target, _ = fields(readHead(sock.recv))[0].split(" ")
        if method != "CONNECT":
            raise Refused(method)
        raw = socket.create_connection(("127.0.0.1", self._upstream), PATIENCE)
        outer = self.kind(raw, self._context, False, "localhost")
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        lines += ["Connection: TLS-Downgrade", f"TLS-Downgrade: {self._wishes}"] if self._wishes else []
        outer.send("\r\n".join([*lines, "", ""]).encode())
        head, rest = readOuterHead(outer)
        first, answer = fields(head)
        self.answers.append(first)
        status = first.split(" ")[1]
        if status != "200":
            outer.sock.close()
            raise Refused(first)
        agreed = answer.get("tls-downgrade", "none") if outer.agreed() == ALPN else "none"
        if agreed not in ("none", *(wish.strip() for wish in self._wishes.split(","))):
            raise Refused(f"nobody asked for {agreed}")
        tunnel = Tunnel(outer, sock, UP, agreed, "", rest)
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return tunnel

    def refuse(self, sock: socket.socket) -> None:
        """
        See L{_Proxy}.
        """
        try:
            sock.sendall(b"HTTP/1.1 502 No tunnel\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass


class ServerProxy(_Proxy):
    """
    A reverse proxy; its C{unwrap} is the one of memory, as it may not wait for the peer's.

    @ivar clients: The common names of those that were let in.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        targets: Callable[[str, str], bool],
        value: str = "handshake",
        kind: type[SocketOuter] | type[RecordOuter] = RecordOuter,
    ) -> None:
        """
        @param targets: Whether a client, by its common name, may have a target.
        @param value: The strongest that it grants.
        """
        self._targets, self._value, self.kind = targets, value, kind
        self.clients: list[str] = []
        super().__init__(context)

    def open(self, sock: socket.socket) -> Tunnel:
        """
        Let a client in, and dial.
        """
        outer = self.kind(sock, self._context, True)
        head, rest = readOuterHead(outer)
        first, asked = fields(head)
        method, target, _ = first.split(" ")
        host, _, port = target.rpartition(":")
        if method != "CONNECT" or not self._targets(outer.peer(), target):
            outer.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            outer.endWrite()
            raise Refused(f"{outer.peer()} may not have {target}")
        granted = {"none": ("none",), "handshake": ("handshake", "none"), "connect": ("connect", "handshake", "none")}
        wishes = [wish.strip() for wish in asked.get("tls-downgrade", "").split(",")]
        common = [wish for wish in wishes if wish in granted[self._value]]
        agreed = common[0] if common and outer.agreed() == ALPN else "none"
        try:
            # Who listens on another family's loopback is somebody else.
            far = socket.create_connection((socket.gethostbyname(host), int(port)), PATIENCE)
        except OSError:
            outer.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            outer.endWrite()
            raise
        self.clients.append(outer.peer())
        told = (
            f"Connection: TLS-Downgrade\r\nTLS-Downgrade: {agreed}\r\n"
            if asked.get("tls-downgrade") and outer.agreed() == ALPN
            else ""
        )
        outer.send(f"HTTP/1.1 200 OK\r\n{told}\r\n".encode())
        named = host.lower().rstrip(".") if not host.replace(".", "").isdigit() else ""
        return Tunnel(outer, far, DOWN, agreed, named, rest)
