# -*- test-case-name: tests.integration.test_sequential_wire -*-
"""
What somebody sees who captures all that passes between the proxies, and to name servers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.integration.dmz import GATE, PORT, RP, SHOP, DMZTestCase
from tests.integration.innertls import records
from tests.integration.running import Child, waitUntil

ROOT = Path(__file__).resolve().parent.parent.parent

KEYS = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
import socket
from tests.integration.stdlibproxies import ServerProxy, outerContext
made = socket.create_server
socket.create_server = lambda address: made(({address!r}, {port}))
context = outerContext(True, Path({certificate!r}), Path({ca!r}))
context.keylog_filename = {keys!r}
proxy = ServerProxy(context, lambda who, what: who == "ann")
print("it listens", flush=True)
time.sleep(600)
"""
"""A reverse proxy that writes down all the keys that it has."""


class WireTests(DMZTestCase):
    """
    curl, both proxies, nginx, and C{tcpdump}.
    """

    def test_records(self) -> None:
        """
        From the first byte to the last, what passes between the proxies are TLS records, and once TLS is off, they are
        the very records that reach the destination, and come from it.
        """
        self.startReverse()
        self.startClient()
        shop, bank = f"https://shop.example:{PORT}/", f"https://bank.example:{PORT}/"
        for version in ("--tlsv1.3", "--tls-max=1.2"):
            self.assertIn("greets CN=browser", self.curl(shop, self.browserPEM, *version.split("=")))
        self.assertIn("bank greets CN=clerk of CN=test clerks", self.curl(bank, self.clerkPEM))
        self.stopCapture()
        outside, inside = self.connections(RP), self.connections(PORT)
        self.assertEqual((3, 3), (len(outside), len(inside)))
        for number, (leg, own) in enumerate(zip(outside, inside, strict=True)):
            for way in (0, 1):
                kept, theirs = list(records(leg[way])), list(records(own[way]))
                first = [one[0] for one in theirs].index(20) + 2 if number == 1 else 1
                same = theirs[first:]
                self.assertTrue(same)
                # A browser that closes before it has read everything resets all of it, and the last may be on its way.
                few = same[:2]
                begin = next(at for at in range(len(kept)) if kept[at : at + len(few)] == few)
                plain = kept[begin:]
                both = min(len(plain), len(same))
                self.assertEqual(same[:both], plain[:both])
                self.assertLessEqual(max(len(plain), len(same)) - both, 1)
                # What came before was inside.
                for one in theirs[:first]:
                    if len(one) > 6:
                        self.assertNotIn(one, leg[way])
        capture = self.capture.read_bytes()
        for secret in (b"greets", b"CONNECT shop"):
            self.assertNotIn(secret, capture)

    def test_names(self) -> None:
        """
        The client proxy's host asks no name server for a name that is mapped, whether the reverse proxy is there or
        not; for one that is not mapped it does.
        """
        self.startClient()
        url = f"https://shop.example:{PORT}/"
        self.assertIn("502", self.curl(url, self.browserPEM, status=56))
        self.startReverse()
        self.assertIn("shop greets", self.curl(url, self.browserPEM))
        self.curl("https://elsewhere.example/", self.browserPEM, status=56)
        self.stopCapture()
        asked = self.tshark("-Y", "dns.flags.response == 0", "-T", "fields", "-e", "dns.qry.name").split()
        self.assertEqual({"elsewhere.example"}, set(asked))

    def test_keysOfTheReverseProxy(self) -> None:
        """
        Who has all keys of a reverse proxy reads the request for the tunnel, and nothing of what is in it.

        The reverse proxy is the one on Python's own library, as that writes its keys down.
        """
        keys = self.folder / "keys.log"
        program = KEYS.format(
            root=str(ROOT),
            address=GATE,
            port=RP,
            certificate=str(self.gatePEM),
            ca=str(self.gate.ca),
            keys=str(keys),
        )
        known = self.knowing("rp", {"shop.example": SHOP})
        Child(self, self.folder, "keys", [*known, sys.executable, "-c", program]).waitFor("^it listens$")
        self.startClient()
        self.assertIn("shop greets CN=browser", self.curl(f"https://shop.example:{PORT}/", self.browserPEM))
        self.stopCapture()
        self.assertIn("CLIENT_TRAFFIC_SECRET", keys.read_text())
        opened = self.tshark(
            *("-o", f"tls.keylog_file:{keys}", "-d", f"tcp.port=={RP},tls", "-d", f"tls.port=={RP},http"),
            *("-Y", f"tcp.port == {RP}", "-V", "-x"),
        )
        self.assertIn("CONNECT shop.example", opened)
        self.assertIn("TLS-Downgrade: handshake", opened)
        self.assertNotIn("greets", opened)
        self.assertNotIn("GET / HTTP", opened)

    def test_control(self) -> None:
        """
        The capture would show it: with all keys of the browser, the same tools read the page.
        """
        self.startReverse()
        self.startClient()
        keys = self.folder / "browser.log"
        ours = ["env", f"SSLKEYLOGFILE={keys}"]
        self.inside = [*self.inside, *ours]
        self.assertIn("shop greets CN=browser", self.curl(f"https://shop.example:{PORT}/", self.browserPEM))
        waitUntil(keys.exists, "the keys")
        self.stopCapture()
        opened = self.tshark(
            *("-o", f"tls.keylog_file:{keys}", "-d", f"tcp.port=={PORT},tls", "-d", f"tls.port=={PORT},http"),
            *("-Y", f"tcp.port == {PORT}", "-V", "-x"),
        )
        self.assertIn("GET / HTTP", opened)
