# -*- test-case-name: tests.integration.test_dtls_gateway -*-
"""
A pair of gateways carries syslog over UDP, and nobody between the gateways can read it.
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.integration.namespace import NamespaceTestCase
from tests.integration.running import PATIENCE, Child, Proxy, waitUntil
from tests.peers import requirePeer

MIDDLE = 5141
SAID = "open sesame"


def datagrams(capture: bytes) -> Iterator[bytes]:
    """
    Read what C{tcpdump} has written of Ethernet frames.

    @return: What each datagram of UDP carries.
    """
    at = 24
    while at < len(capture):
        (length,) = struct.unpack_from("<8xI4x", capture, at)
        frame = capture[at + 16 : at + 16 + length]
        at += 16 + length
        packet = frame[14:]
        header = 40 if frame[12:14] == b"\x86\xdd" else (packet[0] & 15) * 4
        yield packet[header + 8 :]


class GatewayTests(NamespaceTestCase):
    """
    The example, with everything it says.
    """

    def test_syslog(self) -> None:
        """
        What C{logger} says comes out, each message a datagram of its own, and the middle is mutual DTLS and nothing
        else.
        """
        text = self.example("dtls-gateway.toml").read_text().replace("idle = 120", "idle = 2")
        (self.folder / "dtls-gateway.toml").write_text(text)
        capture = self.folder / "middle.pcap"
        written = ["--immediate-mode", "-U", "-n", "-Z", "root", "-s", "0", "-i", "lo", "-w", str(capture)]
        command = [*self.inside, requirePeer("tcpdump"), *written, f"udp port {MIDDLE}"]
        tcpdump = Child(self, self.folder, "tcpdump", command)
        tcpdump.waitFor("listening on lo")
        proxy = Proxy(self, self.folder, self.folder / "dtls-gateway.toml", 2, self.inside)
        server = Child(
            self, self.folder, "server", [*self.inside, requirePeer("nc"), "-u", "-k", "-l", "5142"], spoken=True
        )
        logger = [*self.inside, requirePeer("logger"), "--server", "localhost", "--port", "5140", "--udp"]
        # It may not listen yet, and then what is sent is lost, as ever with UDP.
        waitUntil(lambda: self.run_([*logger, "anybody?"]) and "anybody?" in server.text(), "the log server")
        self.run_([*logger, SAID])
        self.assertIn("<13>", server.waitFor(f".*{SAID}")[0])
        waitUntil(lambda: len(proxy.sessions()) > 1, "the end of the sessions")
        tcpdump.process.send_signal(signal.SIGINT)
        tcpdump.process.wait(PATIENCE)
        between = list(datagrams(Path(capture).read_bytes()))
        self.assertTrue(between)
        for datagram in between:
            self.assertNotIn(SAID.encode(), datagram)
            self.assertIn(datagram[0], (20, 21, 22, 23))
            self.assertIn(datagram[1:3], (b"\xfe\xff", b"\xfe\xfd"))
        self.assertIn(23, {datagram[0] for datagram in between})
        told = {line["route"]: line for line in proxy.sessions()}
        self.assertIn("CN=tlsproxy development client", told["out"]["certificate"])
        self.assertEqual(("expired", "closed"), (told["in"]["outcome"], told["out"]["outcome"]))
