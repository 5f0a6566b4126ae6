# -*- test-case-name: tests.integration.test_check -*-
"""
C{tlsproxy check} tells before the start what would fail after it, when it is asked to.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.running import TOOL, Certificates, IntegrationTestCase, freePort, toml
from tests.integration.talking import Server, Talker, serverContext


class ReachTests(IntegrationTestCase):
    """
    C{--connect}.
    """

    def test_connect(self) -> None:
        """
        Who answers as it should is good; who does not listen, speaks no TLS, or shows a certificate that does not
        verify, is told with the line and the reason.
        """

        def greet(talker: Talker) -> None:
            talker.send(b"220 mail.example ESMTP\r\n")
            talker.readAll()

        good = Server(self, Talker.readAll, serverContext(self.pem))
        strange = Server(self, Talker.readAll, serverContext(Certificates(self.folder, "stranger").issue("strange")))
        plain = Server(self, greet)
        closed = freePort()
        ports = (good.port, strange.port, plain.port, closed)
        routes = [
            self.encrypt(port, name=f"r{number}", listen=f"127.0.0.1:{9000 + number}")
            for number, port in enumerate(ports)
        ]
        routes.append(self.offload(plain.port, name="r4", listen="127.0.0.1:9004"))
        file = self.folder / "config.toml"
        file.write_text(toml(routes))
        done = self.run_([*TOOL, "check", "--connect", "config.toml"], status=1)
        told = done.stderr.decode().splitlines()
        written = enumerate(file.read_text().splitlines(), 1)
        at = [f"config.toml:{number}: route" for number, line in written if line.startswith("upstream =")]
        self.assertEqual(
            [
                f"{at[1]} r1: 127.0.0.1:{strange.port}: the upstream's certificate is refused: unable to get local "
                "issuer certificate (alert unknown_ca sent); it has to come from a CA in ca of upstream_tls, and the "
                "upstream has to send all of the chain below that",
                f"{at[2]} r2: 127.0.0.1:{plain.port}: the upstream does not speak TLS; see whether that "
                "is the right port; an upstream without TLS is for mode offload",
                f"{at[3]} r3: 127.0.0.1:{closed} cannot be reached: Connection refused",
            ],
            told,
        )
        self.assertEqual(b"", done.stdout)

    def test_JSON(self) -> None:
        """
        Nothing is connected with by default, and programs read what each route comes to.
        """
        (self.folder / "config.toml").write_text(toml([self.bridge(freePort(), listen="127.0.0.1:9000")]))
        done = self.run_([*TOOL, "check", "--format", "json", "config.toml"])
        (route,) = json.loads(done.stdout)["routes"]
        self.assertEqual(["localhost", "127.0.0.1"], route["tls"]["certificates"][0]["names"])
        self.assertEqual(str(Path(self.certificates.ca)), route["upstream_tls"]["ca"][0])
