# -*- test-case-name: tests.integration.test_sequential_chromium -*-
"""
A DMZ in a network of a test's own: the two proxies know different names, two destinations stand behind them, and
somebody listens to all that passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.integration.chromium import overlay
from tests.integration.namespace import Capture, NamespaceTestCase
from tests.integration.running import Certificates, Proxy, toml
from tests.integration.sequential import SequentialTestCase
from tests.peers import requirePeer

GATE, SHOP, BANK = "10.9.8.1", "10.9.8.7", "10.9.8.8"
"""Where the reverse proxy and the destinations are."""
CP, RP, PORT = 3128, 8443, 9443
"""The ports of the client proxy, the reverse proxy and the destinations."""


class DMZTestCase(SequentialTestCase, NamespaceTestCase):
    """
    A test with a DMZ in a network of its own.

    C{shop.example} and C{bank.example} are nginx; each demands a certificate of another authority.  The client proxy's
    host knows neither name, and would have to ask a name server, of which there is none.

    @ivar clerks: The authority of the browsers that the bank lets in.
    @ivar clerkPEM: A certificate of it.
    @ivar vault: The authority of the bank itself.
    """

    guard = 150.0

    def setUp(self) -> None:
        """
        Start the destinations and whoever listens.
        """
        super().setUp()
        self.clerks = Certificates(self.folder, "clerks")
        self.vault = Certificates(self.folder, "vault")
        self.clerkPEM = self.clerks.issue("clerk", ["clerk.example"], commonName="clerk")
        self.gatePEM = self.gate.issue("gateway", ["gate.example"])
        for address in (GATE, SHOP, BANK):
            self.run_([*self.inside, "ip", "address", "add", f"{address}/32", "dev", "lo"])
        shop = self.shop.issue("shop-example", ["shop.example"])
        bank = self.vault.issue("bank-example", ["bank.example"])
        self.nginx(
            "".join(
                f"server {{ listen {address}:{PORT} ssl; ssl_protocols TLSv1.2 TLSv1.3;"
                f" ssl_certificate {own}; ssl_certificate_key {own};"
                f" ssl_client_certificate {people.ca}; ssl_verify_client on;"
                f' location / {{ return 200 "<p>{name} greets $ssl_client_s_dn of $ssl_client_i_dn</p>";'
                " default_type text/html; } }"
                for name, address, own, people in (
                    ("shop", SHOP, shop, self.people),
                    ("bank", BANK, bank, self.clerks),
                )
            ),
            self.inside,
        )
        self.tcpdump = Capture(self, "wire.pcap", f"tcp port {RP} or tcp port {PORT} or port 53")
        self.capture = self.tcpdump.file

    def knowing(self, who: str, known: Mapping[str, str]) -> list[str]:
        """
        Have a host know some names; for all others it asks a name server.

        @param who: The host.
        @return: The start of its command line.
        """
        places = {
            "/etc/hosts": "".join(f"{address} {name}\n" for name, address in known.items()),
            "/etc/nsswitch.conf": "hosts: files dns\n",
            "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        }
        own = {}
        for at, text in places.items():
            own[at] = self.folder / f"{who}.{at.rpartition('/')[2]}"
            own[at].write_text(text)
        return overlay(self, own)

    def start(self, name: str, route: Mapping[str, Any], known: Mapping[str, str], prefix: Sequence[str] = ()) -> Proxy:
        """
        Start a proxy on a host.

        @param prefix: What its command line begins with.
        """
        config = self.folder / f"{name}.toml"
        config.write_text(f"[proxy]\nlog_repeats = 0\n{toml([route])}", "utf-8")
        return Proxy(self, self.folder, config, 1, [*self.knowing(name, known), *prefix])

    def startReverse(self, value: str = "handshake", prefix: Sequence[str] = (), **more: Any) -> Proxy:
        """
        Start the reverse proxy, which knows where the destinations are.
        """
        route = self.sequentialServer(value, name="rp", listen=f"{GATE}:{RP}", **more)
        route["grant"] = [{"cn": ["ann"], "targets": [f"*.example:{PORT}"]}]
        known = {"localhost": "127.0.0.1", "shop.example": SHOP, "bank.example": BANK}
        return self.start("rp", route, known, prefix)

    def startClient(self, value: str = "handshake", **more: Any) -> Proxy:
        """
        Start the client proxy, which knows where the reverse proxy is.
        """
        route = self.sequentialClient(RP, value, listen=f"127.0.0.1:{CP}", **more)
        (self.folder / "cp.mapping.toml").write_text(
            f'[[reverse_proxy]]\nname = "gate"\naddress = "gate.example:{RP}"\n'
            f'[[map]]\nhosts = ["shop.example:{PORT}", "bank.example:{PORT}"]\nvia = "gate"\n'
            '[[map]]\nhosts = ["elsewhere.example:443"]\ndirect = true\n'
        )
        return self.start("cp", route, {"localhost": "127.0.0.1", "gate.example": GATE})

    def curl(self, url: str, certificate: Any, *options: str, status: int | None = 0) -> str:
        """
        Have curl ask for a page by way of the client proxy.
        """
        self.bothCAs = self.folder / "destinations.pem"
        self.bothCAs.write_bytes(self.shop.ca.read_bytes() + self.vault.ca.read_bytes())
        way = ["--proxy", f"http://127.0.0.1:{CP}"] if "--proxy" not in options else []
        shown = ["--cacert", str(self.bothCAs), "--cert", str(certificate)]
        done = self.run_(
            [*self.inside, requirePeer("curl"), "-sS", "--noproxy", "", *way, *shown, *options, url], status=status
        )
        return done.stdout.decode() + done.stderr.decode()

    def stopCapture(self) -> None:
        """
        Listen no more.
        """
        self.tcpdump.finish()

    def tshark(self, *arguments: str) -> str:
        """
        Ask tshark about what was captured.
        """
        return self.run_(["tshark", "-n", "-r", str(self.capture), *arguments]).stdout.decode("utf-8", "replace")

    def connections(self, port: int) -> list[tuple[bytes, bytes]]:
        """
        Find the connections to a port.

        @return: What has passed in each, up and down.
        """
        numbers = self.tshark("-Y", f"tcp.dstport == {port} && tcp.flags.syn == 1", "-T", "fields", "-e", "tcp.stream")
        found = []
        for number in numbers.split():
            text = self.tshark("-q", "-z", f"follow,tcp,raw,{number}")
            up, down = b"", b""
            for line in text.split("\n"):
                if line.strip() and all(one in "0123456789abcdef" for one in line.strip()):
                    if line.startswith("\t"):
                        down += bytes.fromhex(line.strip())
                    else:
                        up += bytes.fromhex(line)
            found.append((up, down))
        return found
