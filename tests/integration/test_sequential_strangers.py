# -*- test-case-name: tests.integration.test_sequential_strangers -*-
"""
Another user of the same machine gets nothing: not from a client proxy, and not from the socket on loopback by which
TLS is taken off.
"""

from __future__ import annotations

import os
import sys
from unittest import SkipTest

from tests.integration.dmz import PORT, DMZTestCase
from tests.integration.running import Child
from tests.integration.sequential import SequentialTestCase
from tests.peers import requirePeer

NOBODY = 65534

INTRUDER = """
import socket, sys, time
known = {ports!r}
print("it looks", flush=True)
tried = got = 0
end = time.monotonic() + 60
while time.monotonic() < end:
    for line in open("/proc/net/tcp").readlines()[1:]:
        fields = line.split()
        address, port = fields[1].split(":")
        if fields[3] != "0A" or address != "0100007F" or int(port, 16) in known:
            continue
        sock = socket.socket()
        sock.settimeout(0.2)
        try:
            sock.connect(("127.0.0.1", int(port, 16)))
            tried += 1
            sock.sendall(b"\\x17\\x03\\x03\\x00\\x05STOLE" * 3)
            got += len(sock.recv(4096))
        except OSError:
            pass
        sock.close()
        print("tried", tried, "got", got, flush=True)
"""
"""Connects to whatever begins to listen on loopback, as fast as it can."""


def stranger() -> list[str]:
    """
    Have a program run as another user.

    @return: The start of its command line.
    """
    if os.geteuid() != 0:
        if os.environ.get("TLSPROXY_REQUIRE_PEERS") == "1":
            raise AssertionError("only root can be somebody else")
        raise SkipTest("only root can be somebody else")
    return [requirePeer("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]


class StrangerTests(SequentialTestCase):
    """
    Both proxies, and somebody else on their machine.
    """

    def setUp(self) -> None:
        """
        Have somebody else.
        """
        super().setUp()
        self.stranger = stranger()

    def test_clientProxy(self) -> None:
        """
        The client proxy serves the processes of its own user, and nobody else with its certificate.
        """
        reverse = self.proxy(self.sequentialServer())
        client = self.proxy(self.sequentialClient(reverse.port("sequential-server")))
        destination = self.destination(required=False)
        # Nobody else can read what is in the test's folder.
        asked = ["curl", "-sk", "-o", "/dev/null", "--write-out", "%{http_connect}", "--noproxy", "", "--proxy"]
        asked += [f"http://127.0.0.1:{client.port('cp')}", f"https://localhost:{destination.port}/50"]
        self.assertEqual(b"403", self.run_([*self.stranger, *asked], status=56).stdout)
        self.assertIn("is a process of user id 65534", client.session()["reason"])
        self.assertEqual(([], []), (destination.visits, reverse.sessions()))
        self.assertEqual(b"200", self.run_(asked).stdout)


class LoopbackTests(DMZTestCase):
    """
    The same in a network where nobody else listens.
    """

    def test_loopback(self) -> None:
        """
        The socket by which TLS is taken off takes one connection, the proxy's own: whoever else connects, however
        fast, is not let in, and the tunnels are as without.
        """
        # It is slow between that it listens and that it connects with itself, so that there is something to see.
        slow = [requirePeer("strace"), "-D", "-f", "-s", "0", "-e", "trace=connect", "-e"]
        slow += ["inject=connect:delay_enter=150000", "-o", str(self.folder / "trace")]
        reverse = self.startReverse(take_off="loopback", prefix=slow)
        self.startClient(take_off="loopback")
        listening = [self.run_([*self.inside, "cat", "/proc/net/tcp"]).stdout.decode().split("\n")[1:-1]]
        known = [int(line.split()[1].split(":")[1], 16) for lines in listening for line in lines]
        program = [sys.executable, "-c", INTRUDER.format(ports=known)]
        intruder = Child(self, self.folder, "intruder", [*self.inside, *stranger(), *program])
        intruder.waitFor("it looks")
        pages = asked = 0
        # On a machine that is busy, the intruder may take its time.
        while asked < 10 or ("tried" not in intruder.text() and asked < 60):
            # Who takes the one place there is keeps the proxy out, and then there is no session.
            page = self.curl(f"https://shop.example:{PORT}/", self.browserPEM, status=None)
            pages += "shop greets CN=browser" in page
            asked += 1
        intruder.kill()
        self.assertNotIn("Traceback", intruder.text())
        self.assertNotRegex(intruder.text(), r"got [1-9]")
        met = reverse.text().count("somebody else on this machine got in between")
        self.assertIn("tried", intruder.text())
        self.assertEqual(asked, pages + met)
