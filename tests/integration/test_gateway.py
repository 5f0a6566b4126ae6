# -*- test-case-name: tests.integration.test_gateway -*-
"""
A pair of gateways carries plain text between two netcats, and nobody between the gateways can read it.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator, Sequence

from tests.integration.namespace import Capture, NamespaceTestCase
from tests.integration.running import PATIENCE, Child, Proxy, waitUntil
from tests.peers import requirePeer

MIDDLE = 5002


def segments(capture: bytes) -> Iterator[tuple[tuple[bytes, int, int], int, bytes]]:
    """
    Read what C{tcpdump} has written of Ethernet frames.

    @return: Of each TCP segment which way it goes (source and both ports), its sequence number and its payload.
    """
    magic, linkType = struct.unpack_from("<I16xI", capture)
    assert (magic, linkType) == (0xA1B2C3D4, 1), (magic, linkType)
    at = 24
    while at < len(capture):
        length, whole = struct.unpack_from("<8xII", capture, at)
        assert length == whole
        frame = capture[at + 16 : at + 16 + length]
        at += 16 + length
        kind = int.from_bytes(frame[12:14], "big")
        packet = frame[14:]
        if kind == 0x0800 and packet[9] == 17:
            continue  # The last datagram.
        if kind == 0x0800:
            header, end, source = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big"), packet[12:16]
        else:
            assert kind == 0x86DD and packet[6] == 6, (kind, packet[6])
            header, end, source = 40, 40 + int.from_bytes(packet[4:6], "big"), packet[8:24]
        segment = packet[header:end]
        sourcePort, targetPort, number = struct.unpack_from(">HHI", segment)
        yield (source, sourcePort, targetPort), number, segment[(segment[12] >> 4) * 4 :]


def streams(capture: bytes) -> list[bytes]:
    """
    Put the segments of a capture together, each direction of each connection by itself.
    """
    found: dict[tuple[bytes, int, int], bytes] = {}
    expected: dict[tuple[bytes, int, int], int] = {}
    for way, number, payload in segments(capture):
        # On loopback nothing comes out of order; what comes twice is dropped.
        if payload and number == expected.get(way, number):
            found[way] = found.get(way, b"") + payload
            expected[way] = (number + len(payload)) % (1 << 32)
    return list(found.values())


def records(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Take a stream for TLS records.

    @return: The type and version of each.
    """
    while stream:
        length = int.from_bytes(stream[3:5], "big")
        assert len(stream) >= 5 + length, "it ends within a record"
        yield stream[0], stream[1:3]
        stream = stream[5 + length :]


class Netcat(Child):
    """
    A netcat that can be typed into.
    """

    def __init__(self, case: NamespaceTestCase, name: str, *arguments: str) -> None:
        self._file = case.folder / f"{name}.log"
        with self._file.open("wb") as output:
            self.process = subprocess.Popen(
                [*case.inside, requirePeer("nc"), *arguments],
                cwd=case.folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._output = self._file
        case.addCleanup(self.kill)

    def kill(self) -> None:
        """
        End it by force, if it still runs.
        """
        super().kill()
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def type(self, text: str) -> None:
        """
        Type something.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def leaves(self) -> bool:
        """
        Type a line, and tell whether nobody takes it any more.
        """
        try:
            self.type("is anybody there?\n")
        except BrokenPipeError:
            return True
        return self.process.poll() is not None


class GatewayTests(NamespaceTestCase):
    """
    The example, with everything it says.

    @cvar between: What else is in its file.
    @cvar routes: The names of all routes.
    """

    between = ""
    routes: Sequence[str] = ("in", "out")

    def setUp(self) -> None:
        """
        Start the gateways, and listen in between.
        """
        super().setUp()
        config = self.example("gateway.toml")
        if self.between:
            text = config.read_text().replace('upstream = "localhost:5002"', 'upstream = "localhost:5004"')
            config.write_text(text + self.between)
        self.tcpdump = Capture(self, "middle.pcap", f"tcp port {MIDDLE}")
        self.through = Proxy(self, self.folder, config, len(self.routes), self.inside)

    def listening(self) -> Netcat:
        """
        Be the server.
        """
        server = Netcat(self, "server", "-l", "5003")
        self.waitForListener(5003)
        return server

    def assertTalk(self, server: Netcat) -> Netcat:
        """
        Be the client, and talk both ways.
        """
        client = Netcat(self, "client", "localhost", "5001")
        client.type("open sesame, says the client\n")
        server.waitFor("^open sesame, says the client$")
        server.type("sesame is open, says the server\n")
        client.waitFor("^sesame is open, says the server$")
        return client

    def captured(self) -> bytes:
        """
        Stop listening in.
        """
        # The last packets are those of the sessions' end.
        waitUntil(lambda: len(self.through.sessions()) == len(self.routes), "the end of the session on all routes")
        return self.tcpdump.finish()

    def assertSealed(self) -> None:
        """
        Expect the middle to be TLS and nothing else, both ways, and not to show the text.
        """
        capture = self.captured()
        self.assertNotIn(b"sesame", capture)
        both = streams(capture)
        self.assertEqual(2, len(both))
        for stream in both:
            self.assertNotIn(b"sesame", stream)
            types = []
            for kind, version in records(stream):
                self.assertIn(kind, (20, 21, 22, 23))
                self.assertIn(version, (b"\3\1", b"\3\3"))
                types.append(kind)
            self.assertEqual(22, types[0])
            self.assertIn(23, types)

    def assertMutual(self) -> None:
        """
        Expect each gateway to have known the other.
        """
        lines = {line["route"]: line for line in self.through.sessions()}
        self.assertEqual(set(self.routes), set(lines))
        self.assertIn("CN=tlsproxy development client", lines["out"]["certificate"])
        for line in lines.values():
            self.assertEqual("closed", line["outcome"], line)

    def test_clientCloses(self) -> None:
        """
        Text goes both ways, the middle is sealed, and the client's end closes the server.
        """
        server = self.listening()
        client = self.assertTalk(server)
        client.end()
        server.process.wait(PATIENCE)
        self.assertSealed()
        self.assertMutual()

    def test_serverCloses(self) -> None:
        """
        The same, and the server's end closes the client's connection: netcat, which waits for what is typed, notices
        when it has to send it.
        """
        server = self.listening()
        client = self.assertTalk(server)
        server.end()
        waitUntil(lambda: len(self.through.sessions()) == len(self.routes), "the end of the session on all routes")
        waitUntil(client.leaves, "the end of the client that types")
        self.assertSealed()
        self.assertMutual()


class RelayedTests(GatewayTests):
    """
    The same with a host in between that passes on what it cannot decrypt.
    """

    routes = ("in", "between", "out")
    between = """
[[route]]
name = "between"
mode = "passthrough"
listen = "localhost:5004"
close = "both"
[[route.rule]]
sni = "localhost"
upstream = "localhost:5002"
"""
