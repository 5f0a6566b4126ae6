# -*- test-case-name: tests.integration.test_client_proxy_users -*-
"""
Nobody but its own user borrows a client proxy's certificate, unless he shows a password.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.integration.clientproxying import SHOP, ClientProxyCase, answerOf, says
from tests.patterns.connecting import PASSWORD, credentials, userLine

STRANGER = 65534
"""Another user than this process's."""

_ASK = """
import os, socket, sys
"".encode("idna")  # loads what connecting needs, as the other user may not be let into the folder of this Python
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
if sys.argv[2].isdigit():
    sock = socket.create_connection((sys.argv[4], int(sys.argv[2])), 20)
else:
    sock = socket.socket(socket.AF_UNIX); sock.settimeout(20); sock.connect(sys.argv[2])
sock.sendall(sys.argv[3].encode())
while piece := sock.recv(65536):
    sys.stdout.buffer.write(piece)
"""


class StrangerTests(ClientProxyCase):
    """
    A process of another user.
    """

    def setUp(self) -> None:
        """
        Start a reverse proxy that tells by its answer that it has been reached.
        """
        super().setUp()
        if os.geteuid() != 0:
            raise SkipTest("only root can be another user")
        self.reached = self.reverse(says(answerOf(b"403 Forbidden", b"reached")))

    def askAs(self, user: int, where: str, *fields: str, host: str = "127.0.0.1", line: str = "") -> str:
        """
        Ask as a user.

        @param where: A port of loopback, or the path of a Unix socket.
        @return: The answer.
        """
        head = [line or f"CONNECT {SHOP} HTTP/1.1", f"Host: {SHOP if not line else 'localhost'}", *fields, "", ""]
        done = self.run_([sys.executable, "-c", _ASK, str(user), where, "\r\n".join(head), host])
        return done.stdout.decode()

    def test_tcp(self) -> None:
        """
        By TCP the kernel tells whose the client is: another user gets no tunnel and no list of hosts, and the reverse
        proxy hears nothing.
        """
        for listen, host in (("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")):
            proxy = self.start(self.reached.port, listen=listen)
            port = str(proxy.port("sequential-client"))
            for line in ("", "GET /proxy.pac HTTP/1.1"):
                answer = self.askAs(STRANGER, port, host=host, line=line)
                self.assertTrue(answer.startswith("HTTP/1.1 403 Forbidden\r\n"), (listen, answer))
                self.assertTrue(answer.endswith("\r\nthis proxy serves the processes of its own user only\n"), answer)
            self.assertEqual([], self.reached.heads)
            self.assertEqual(
                ("refused", f"the client is a process of user id {STRANGER}, and this is one of user id 0"),
                (proxy.session()["outcome"], proxy.session()["reason"]),
            )
            self.assertIn("reached", self.askAs(0, port, host=host))
            self.reached.heads.clear()

    def test_unix(self) -> None:
        """
        So it is by a Unix socket.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        Path(folder.name).chmod(0o755)
        path = f"{folder.name}/s"
        proxy = self.start(self.reached.port, listen=f"unix:{path}")
        Path(path).chmod(0o666)
        self.assertIn("its own user only", self.askAs(STRANGER, path))
        self.assertEqual([], self.reached.heads)
        self.assertIn("reached", self.askAs(0, path))
        self.assertEqual("refused", proxy.session()["outcome"])

    def test_password(self) -> None:
        """
        Where there are users, a right password is what counts, and without one nobody gets a tunnel.
        """
        users = self.folder / "users"
        users.write_bytes(userLine() + b"\n")
        users.chmod(0o600)
        proxy = self.start(self.reached.port, users=str(users))
        port = str(proxy.port("sequential-client"))
        for user in (STRANGER, 0):
            self.assertIn("407 Proxy Authentication Required", self.askAs(user, port))
            self.assertIn("407 ", self.askAs(user, port, credentials(password="wrong")))
        self.assertEqual([], self.reached.heads)
        self.assertIn("reached", self.askAs(STRANGER, port, credentials()))
        self.assertNotIn(PASSWORD, proxy.text() + "".join(self.reached.heads))
        self.assertNotIn("Proxy-Authorization", "".join(self.reached.heads))
