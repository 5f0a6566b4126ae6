# -*- test-case-name: tests.integration.test_splice_moves_bytes -*-
"""
Between plain sockets the kernel moves the bytes, and a tunnel has a pipe only while bytes are in it.
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from collections import Counter
from itertools import chain

from tests.integration.passages import UNDECRYPTED, Copying, Pairing, PassageTestCase
from tests.integration.running import waitUntil
from tests.integration.talking import Talker, connect
from tests.integration.test_bounded_memory import POOLED
from tests.peers import requirePeer

BULK = 50_000_000
TUNNEL = Pairing("connect", "", "")
FEW = 48
"""How many descriptors the proxy may have where they are few."""
FULL = "clients cannot be accepted"
"""What the log says when there is no descriptor for another client."""

_CALL = re.compile(r"^(\w+)\(.*\) += (\d+)$", re.MULTILINE)


def exchange(one: Talker, other: Talker, data: bytes, count: int) -> None:
    """
    Send bytes over and over, and read them.

    @param count: How many bytes there are to send.
    """

    def send() -> None:
        for _ in range(0, count, len(data)):
            one.send(data)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    left = -(-count // len(data)) * len(data)
    while left:
        got = len(other.recv(1 << 18))
        assert got, other.how
        left -= got
    sending.join()


def inMemory(pid: int, words: bytes) -> bool:
    """
    Look for some words in all of the memory that a process may write to.
    """
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                first, last = (int(one, 16) for one in span.split("-"))
                memory.seek(first)
                if words in memory.read(last - first):
                    return True
    return False


class BytesTests(PassageTestCase):
    """
    Which way the bytes go.
    """

    pairings = UNDECRYPTED
    copies = False

    def test_memory(self) -> None:
        """
        What is sent through, in either direction, is not to be found in the memory of the proxy.
        """
        self.start()
        pid = self.through.process.pid
        for pairing in self.pairings:
            if not pairing.inner:
                client, server = self.open(pairing)
                for one, other in ((client, server), (server, client)):
                    word = os.urandom(24)
                    exchange(one, other, word * 1000, 5_000_000)
                    self.assertEqual(self.copies, inMemory(pid, word), pairing)

    def test_calls(self) -> None:
        """
        Bulk is moved by splice(2), and by no call that reads or writes.
        """
        trace = self.folder / "trace"
        calls = "read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,splice"
        self.prefix = [requirePeer("strace"), "-D", "-f", "-s", "0", "-e", f"trace={calls}", "-o", str(trace)]
        self.start()
        sessions = [self.open(pairing) for pairing in self.pairings]
        before = self.moved(trace.read_text())
        for client, server in sessions:
            exchange(client, server, bytes(100_000), BULK // 8)
            exchange(server, client, bytes(100_000), BULK // 8)
        waitUntil(lambda: self.moved(trace.read_text()).total() - before.total() > 2 * BULK, "the end of the trace")
        moved = self.moved(trace.read_text()) - before
        spliced = moved.pop("splice", 0)
        if self.copies:
            self.assertEqual(0, spliced)
            self.assertGreaterEqual(moved["recvfrom"], BULK)
        else:
            self.assertLess(moved.total(), 10_000, moved)
            # Each byte goes into a pipe, and out of it.
            self.assertGreaterEqual(spliced, 2 * BULK)

    def moved(self, trace: str) -> Counter[str]:
        """
        Count how many bytes each kind of call has moved.
        """
        counts: Counter[str] = Counter()
        for name, count in _CALL.findall(re.sub(r"(?m)^\d+ +", "", trace)):
            counts[name] += int(count)
        return counts


class CopiedTests(Copying, BytesTests):
    """
    Without splice(2) the same tests see the bytes.
    """

    copies = True


class DescriptorTests(PassageTestCase):
    """
    What tunnels cost.
    """

    pairings = UNDECRYPTED

    def settles(self, count: int) -> None:
        """
        Wait until the proxy has so many descriptors, and expect it to keep them.
        """
        waitUntil(lambda: self.through.descriptors() == count, f"{count} descriptors")

    def test_idle(self) -> None:
        """
        An idle tunnel has two descriptors: one before a byte has gone through, and after as well.
        """
        self.start()
        first = self.open(TUNNEL)
        for one, other in (first, first[::-1]):
            exchange(one, other, b"word", 4)
        base = self.through.descriptors()
        count = 40
        pairings = [pairing for pairing in self.pairings for _ in range(count // len(self.pairings))]
        sessions = [self.open(pairing) for pairing in pairings]
        self.settles(base + 2 * count)
        for client, server in sessions:
            exchange(client, server, bytes(50_000), 1_000_000)
            exchange(server, client, b"word", 4)
        # At any time but one direction had bytes, so one pipe was enough.
        self.settles(base + 2 * count)
        for client, server in sessions:
            client.endWrite()
            self.assertEqual((b"", "ended"), (server.readAll(), server.how))
            server.endWrite()
            self.assertEqual((b"", "ended"), (client.readAll(), client.how))
        self.settles(base)

    def test_stalled(self) -> None:
        """
        A direction whose reader has stalled has one pipe more, and gives it back.
        """
        self.start()
        base = self.through.descriptors()
        count = 10  # Only where many have stalled, their bytes are copied aside.
        sessions = [self.open(TUNNEL) for _ in range(count)]
        memory = self.through.resident()
        for talker in chain(*sessions):
            talker.socket.setblocking(False)
        # Two sockets, and two descriptors of a pipe each way.
        most = base + count * (2 + 4)

        def stalled() -> bool:
            taken = sum(fill(talker.socket) for talker in chain(*sessions))
            self.assertLessEqual(self.through.descriptors(), most)
            return not taken and self.through.descriptors() == most

        waitUntil(stalled, "a pipe in each direction")
        self.assertLess(self.through.resident() - memory, 1 << 20)
        for talker in chain(*sessions):
            talker.close()
        waitUntil(lambda: self.through.descriptors() <= base + POOLED, "the end of the pipes")

    def test_noneLeft(self) -> None:
        """
        A proxy that has run out of descriptors goes on with what it has, rests meanwhile, and serves again as soon as
        there are some.
        """
        self.runOut(FEW)

    def test_oneLeft(self) -> None:
        """
        So does one that has a last descriptor for a client, and none for its upstream: the client waits as well.
        """
        self.runOut(FEW + 1)

    def runOut(self, few: int) -> None:
        """
        Make tunnels until that fails.

        @param few: How many descriptors there are.
        """
        self.prefix = ["/bin/sh", "-c", f'ulimit -n {few} && exec "$0" "$@"']
        self.start()
        port = self.through.port("connect")
        kept = [self.open(TUNNEL)]
        waiting = [self.last(kept)]
        # Some more who come, and wait.
        for _ in range(20):
            client = connect(self, port)
            client.requestTunnel(self.upstream.port)
            waiting.append(client)
        for client, server in kept:
            exchange(client, server, bytes(50_000), 100_000)
            exchange(server, client, bytes(50_000), 100_000)
        before = self.cpu()
        time.sleep(1)
        self.assertLess(self.cpu() - before, 0.5)
        self.assertFalse(any(map(isReadable, waiting)))
        for client, server in kept:
            client.close()
            server.close()
        for client in waiting:
            client.readEstablished()
            server = self.upstream.accept()
            exchange(client, server, bytes(50_000), 100_000)
            exchange(server, client, bytes(50_000), 100_000)
            client.close()
            server.close()
        # Nobody had to hear that there is none for its upstream.
        waitUntil(lambda: len(self.through.sessions()) == len(kept) + len(waiting), "the end of all sessions")
        self.assertEqual({"closed"}, {session["outcome"] for session in self.through.sessions()})

    def last(self, kept: list[tuple[Talker, Talker]]) -> Talker:
        """
        Make tunnels until there is no room for one more.

        @param kept: Gets those that stand.
        @return: Who waits to be accepted.
        """
        while True:
            client = connect(self, self.through.port("connect"))
            client.requestTunnel(self.upstream.port)
            self.answered(client)
            if not isReadable(client):
                return client
            client.readEstablished()
            kept.append((client, self.upstream.accept()))

    def answered(self, client: Talker) -> None:
        """
        Wait for the answer to a client, or for the word that it has to wait.
        """
        waitUntil(lambda: isReadable(client) or FULL in self.through.text(), "an answer, or that there is none yet")

    def cpu(self) -> float:
        """
        Tell how much processor time the proxy has had, in seconds.
        """
        with open(f"/proc/{self.through.process.pid}/stat") as stat:
            words = stat.read().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def isReadable(talker: Talker) -> bool:
    """
    Tell whether something has come.
    """
    return bool(select.select([talker.socket], [], [], 0)[0])


def fill(sock: socket.socket) -> int:
    """
    Send without pause until nothing more is taken now.

    @return: How many bytes were taken.
    """
    taken = 0
    try:
        while True:
            taken += sock.send(bytes(1 << 18))
    except BlockingIOError:
        return taken
