# -*- test-case-name: tests.integration.test_tap_wireshark -*-
"""
What the handler C{tap} writes is what Wireshark reads: whole TCP connections, in clear.
"""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.integration.running import IntegrationTestCase, freePort, waitUntil
from tests.integration.talking import Listener, Server, Talker, clientContext, connect, echo
from tests.peers import requirePeer

_EXPERT = ("-e", "frame.number", "-e", "_ws.expert.message")
CHECKS = ("tcp.check_checksum:TRUE", "ip.check_checksum:TRUE")
TRUNCATED = r"outcome=truncated,Connection reset"
"""An nginx that was told the end of a connection does not end TLS by itself."""


class TapTestCase(IntegrationTestCase):
    """
    A test with a file of packets.

    @ivar pcap: The file.
    """

    def setUp(self) -> None:
        """
        Look for the programs that read it.
        """
        super().setUp()
        requirePeer("tshark")
        requirePeer("capinfos")
        self.pcap = self.folder / "shop.pcapng"

    def tap(self, **options: Any) -> dict[str, Any]:
        """
        Give the keys of a route with a tap.
        """
        return {"handler": [{"name": "tap", "pcap": str(self.pcap), **options}]}

    def shark(self, *arguments: str, file: Path | None = None) -> str:
        """
        Have C{tshark} read the file.
        """
        checks = [word for check in CHECKS for word in ("-o", check)]
        command = ["tshark", "-n", "-r", str(file or self.pcap), *checks, *arguments]
        return self.run_(command).stdout.decode("utf-8")

    def fields(self, shown: str, *names: str, decode: str = "") -> list[list[str]]:
        """
        Read fields of the packets that a filter shows.
        """
        words = [word for name in names for word in ("-e", name)]
        how = ["-d", decode] if decode else []
        lines = self.shark(*how, "-Y", shown, "-T", "fields", *words).splitlines()
        return [line.split("\t") for line in lines]

    def followed(self, stream: int, file: Path | None = None) -> tuple[bytes, bytes]:
        """
        Follow a stream.

        @return: What the client and the server said.
        """
        text = self.shark("-q", "-z", f"follow,tcp,raw,{stream}", file=file)
        lines = re.findall(r"^(\t?)([0-9a-f]+)$", text, re.MULTILINE)
        client, server = (
            bytes.fromhex("".join(data for indent, data in lines if bool(indent) == inward)) for inward in (False, True)
        )
        return client, server

    def assertClean(self, decode: str = "", but: str = "", file: Path | None = None) -> None:
        """
        Wireshark has nothing to complain of.

        @param but: What it may say, a regular expression.
        """
        how = ["-d", decode] if decode else []
        # Comments, and notes that an orderly connection has, too, are no complaints.
        lines = self.shark(*how, "-Y", "_ws.expert.severity >= 0x400000", "-T", "fields", *_EXPERT, file=file)
        allowed = r"This frame (initiates|undergoes) the connection closing" + (f"|{but}" if but else "")
        self.assertEqual([], [line for line in lines.splitlines() if not re.search(allowed, line)])
        wrong = "tcp.analysis.flags || tcp.checksum.status != 1 || ip.checksum.status != 1 || _ws.malformed"
        self.assertEqual("", self.shark(*how, "-Y", wrong, file=file))
        self.run_(["capinfos", str(file or self.pcap)])


class DecodingTests(TapTestCase):
    """
    Wireshark finds the protocol that was inside TLS.
    """

    def setUp(self) -> None:
        """
        Start nginx.
        """
        super().setUp()
        self.plain, self.secure = freePort(), freePort()
        self.nginx(
            f"server {{ listen 127.0.0.1:{self.plain}; }}"
            f"server {{ listen 127.0.0.1:{self.secure} ssl http2;"
            f" ssl_certificate {self.pem}; ssl_certificate_key {self.pem}; }}"
        )
        (self.folder / "www" / "page").write_bytes(b"hello " * 10000)

    def fetch(self, port: int, *options: str, scheme: str = "https") -> None:
        """
        Fetch the page.
        """
        command = ["curl", "--silent", "--show-error", "--cacert", str(self.certificates.ca), "--output", "page"]
        self.run_([*command, *options, f"{scheme}://localhost:{port}/page"])
        self.assertEqual((self.folder / "page").read_bytes(), b"hello " * 10000)

    def test_offload(self) -> None:
        """
        HTTP inside the client's TLS is shown as HTTP, with what is known of the session on the first packet and its
        outcome on the last.
        """
        proxy = self.proxy(self.offload(self.plain, **self.tap(port=80)))
        self.fetch(proxy.port("offload"))
        line = proxy.session()
        found = self.fields("http", "http.request.uri", "http.response.code", "tcp.dstport")
        self.assertEqual([["/page", "", "80"], ["", "200", line["client"].rpartition(":")[2]]], found)
        comments = self.fields("frame.comment", "frame.comment", "frame.interface_name")
        self.assertEqual({name for _, name in comments}, {"offload"})
        first, last = (comment for comment, _ in comments)
        self.assertEqual(last, "route=offload outcome=closed")
        for name in ("client", "sni", "tls", "upstream"):
            self.assertIn(f" {name}={line[name]}", first)
        self.assertClean()
        self.assertEqual(self.pcap.stat().st_mode & 0o7777, 0o600)

    def test_encrypt(self) -> None:
        """
        Where the client is the side in clear, it is shown as it connected to the proxy.
        """
        proxy = self.proxy(self.encrypt(self.secure, **self.tap()))
        port = proxy.port("encrypt")
        self.fetch(port, scheme="http")
        proxy.session()
        decode = f"tcp.port=={port},http"
        self.assertEqual(
            [["127.0.0.1", str(port), "/page"]],
            self.fields("http.request", "ip.dst", "tcp.dstport", "http.request.uri", decode=decode),
        )
        self.assertClean(decode, TRUNCATED)

    def test_bridge(self) -> None:
        """
        HTTP/2 between two TLS connections is shown as such, also on the port that HTTP has without TLS.
        """
        alpn = {"alpn": ["h2"]}
        proxy = self.proxy(self.bridge(self.secure, tls=alpn, **self.tap(port=80)))
        self.fetch(proxy.port("bridge"), "--http2")
        proxy.session()
        self.assertEqual([["/page"]], self.fields("http2.headers.path", "http2.headers.path"))
        self.assertIn("/h2 upstream=", self.fields("frame.number == 1", "frame.comment")[0][0])
        self.assertClean(but=TRUNCATED)


class StreamTests(TapTestCase):
    """
    Wireshark follows what was said.
    """

    def exchange(self, port: int, data: bytes, end: bool = True) -> Talker:
        """
        Send much to a server that echoes, and read it.
        """
        client = connect(self, port, clientContext(self.certificates.ca))
        # Piece by piece, and not in two threads, as OpenSSL bears but one in a connection.
        for start in range(0, len(data), 50_000):
            piece = data[start : start + 50_000]
            client.send(piece)
            self.assertEqual(piece, client.read(len(piece)))
        if end:
            client.endWrite()
            self.assertEqual((b"", "ended"), (client.readAll(), client.how))
        return client

    def test_follow(self) -> None:
        """
        Both directions of every session are whole, also of several at once.
        """
        server = Server(self, echo)
        proxy = self.proxy(self.offload(server.port, **self.tap(port=9)))
        data = [random.Random(number).randbytes(300_000) for number in range(4)]
        port = proxy.port("offload")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda each: self.exchange(port, each), data))
        proxy.session(3)
        found = {self.followed(stream) for stream in range(4)}
        self.assertEqual({(each, each) for each in data}, found)
        self.assertClean("tcp.port==9,data")
        self.assertEqual(
            self.shark("-Y", "tcp.flags.fin == 1", "-T", "fields", "-e", "tcp.stream").split().count("0"), 2
        )

    def test_rotation(self) -> None:
        """
        Every file of a session that is longer than one is readable by itself, and together they have all of it.
        """
        server = Server(self, echo)
        proxy = self.proxy(self.offload(server.port, **self.tap(port=9, size=1_000_000, keep=50)))
        data = random.Random(5).randbytes(3_000_000)
        self.exchange(proxy.port("offload"), data)
        proxy.session()
        count = len(list(self.folder.glob("shop.pcapng.*")))
        self.assertGreater(count, 4)
        files = [*(Path(f"{self.pcap}.{number}") for number in range(count, 0, -1)), self.pcap]
        for file in files:
            self.assertLessEqual(file.stat().st_size, 1_000_000)
            self.assertClean("tcp.port==9,data", file=file)
        self.run_(["mergecap", "-a", "-w", "all.pcapng", *map(str, files)])
        merged = self.folder / "all.pcapng"
        self.assertEqual((data, data), self.followed(0, merged))
        self.assertClean("tcp.port==9,data", file=merged)

    def test_reset(self) -> None:
        """
        A session that was reset, and one whose TLS was cut off, end with a reset; each says why.
        """
        listener = Listener(self)
        proxy = self.proxy(self.offload(listener.port, **self.tap(port=9)))
        for number, (cut, outcome) in enumerate(((Talker.reset, "reset"), (Talker.truncate, "truncated"))):
            client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
            client.send(b"request")
            server = listener.accept()
            self.assertEqual(b"request", server.read(7))
            cut(client)
            server.readAll()
            server.close()
            self.assertEqual(outcome, proxy.session(number)["outcome"])
            last = self.fields(f"tcp.stream == {number} && tcp.flags.reset == 1", "frame.comment")
            self.assertEqual([[f"route=offload outcome={outcome}"]], last)
        self.assertClean("tcp.port==9,data", r"Connection reset \(RST\)")

    def test_soon(self) -> None:
        """
        What passed is in the file a little later, while the session goes on.
        """
        listener = Listener(self)
        proxy = self.proxy(self.offload(listener.port, **self.tap(port=9)))
        client = connect(self, proxy.port("offload"), clientContext(self.certificates.ca))
        client.send(b"request")
        server = listener.accept()
        self.assertEqual(b"request", server.read(7))
        waitUntil(self.pcap.exists, "the file")
        self.assertEqual((b"request", b""), self.followed(0))
        server.send(b"answer")
        waitUntil(lambda: b"answer" in self.pcap.read_bytes(), "the answer in the file")

    def test_diskFull(self) -> None:
        """
        A session goes on untouched when nothing can be written any more; the file stays readable, and the log says so.
        """
        server = Server(self, echo)
        prefix = [requirePeer("prlimit"), "--fsize=2000000"]
        proxy = self.proxy(self.offload(server.port, **self.tap(port=9)), prefix=prefix)
        data = random.Random(6).randbytes(3_000_000)
        self.exchange(proxy.port("offload"), data)
        proxy.session()
        self.assertEqual(1, proxy.text().count("packets cannot be written to"))
        self.assertIn("File too large; the sessions go on", proxy.text())
        self.assertLessEqual(self.pcap.stat().st_size, 2_000_000)
        self.assertGreater(self.pcap.stat().st_size, 1_000_000)
        sent, _ = self.followed(0)
        self.assertEqual(data[: len(sent)], sent)
        self.assertClean("tcp.port==9,data")
