"""
One measurement at a time: proxies that run, load that goes through them, and what it cost.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import field, frozen
from credentials import Credentials, issue
from peers import Job, Peer
from processes import Memory, ProcessError, Program
from traffic import HOST, ORDER_SIZE, SUITE, Order, TrafficError, clientContext, close, connect, readExactly, speaks

_HERE = Path(__file__).parent
_START = 20.0
_PATIENCE = 300.0
_STALLED = 100 * 1000 * 1000
_GIB = 1 << 30


@frozen
class Work:
    """
    How much of each kind of work one measurement is.

    @param bulk: bytes of a bulk transfer.
    @param connections: new connections.
    @param clients: how many of them at a time.
    @param requests: small requests.
    @param keptAlive: the connections they share.
    @param held: idle connections whose memory is read.
    """

    bulk: int = _GIB
    connections: int = 2000
    clients: int = 4
    requests: int = 50_000
    keptAlive: int = 32
    held: int = 2000

    def arguments(self, kind: str) -> list[str]:
        """
        The load client's options for a kind of load.
        """
        if kind in ("down", "up"):
            return ["--size", str(self.bulk)]
        if kind == "connections":
            return ["--count", str(self.connections), "--clients", str(self.clients)]
        if kind == "requests":
            return ["--count", str(self.requests), "--clients", str(self.keptAlive)]
        if kind == "hold":
            return ["--count", str(self.held)]
        return ["--size", str(_STALLED)]

    def perUnit(self, kind: str, seconds: float) -> float:
        """
        CPU time by the unit the tables show: s/GiB, ms a connection, µs a request.
        """
        if kind == "connections":
            return seconds * 1e3 / self.connections
        if kind == "requests":
            return seconds * 1e6 / self.requests
        return seconds * _GIB / self.bulk


WARM_UP = Work(bulk=1 << 20, connections=4, clients=1, requests=64)
"""What each proxy does once before anything is counted."""


@frozen
class Handshake:
    """
    What was seen on both sides of a proxy.

    @param near: TLS version and cipher toward the client, or C{plain}.
    @param far: the same toward the upstream.
    @param tickets: session tickets that the proxy sent to a new client.
    """

    near: str
    far: str
    tickets: int


@frozen
class Running:
    """
    A proxy at work.

    @param peer: which.
    @param mode: what it does.
    @param port: where it listens.
    @param program: its processes.
    @param handshake: what was seen when it came up.
    """

    peer: Peer
    mode: str
    port: int
    program: Program
    handshake: Handshake


@frozen
class Bench:
    """
    All that the measurements share.

    @param folder: for all files.
    @param credentials: the certificates.
    @param backend: the port of each kind of backend.
    @param proxyCores: where proxies run, as taskset(1) lists them, or C{None}.
    @param loadCores: where everything else runs.
    """

    folder: Path
    credentials: Credentials
    backend: dict[str, int]
    proxyCores: str | None
    loadCores: str | None
    _serial: Iterator[int] = field(factory=itertools.count, init=False)

    def _log(self, name: str) -> Path:
        return self.folder / f"{next(self._serial)}-{name}.log"

    @contextmanager
    def proxy(self, peer: Peer, mode: str, upstream: str | None = None) -> Iterator[Running]:
        """
        Start a proxy and wait until a first conversation through it succeeds.

        @param upstream: the kind of backend, if not the one that takes orders.
        @raise ProcessError: if it does not come up, or does not speak the TLS it was told to.
        """
        kind = upstream or ("plain" if mode == "offload" else "tls")
        folder = self.folder / f"{next(self._serial)}-{peer.name}"
        folder.mkdir()
        with socket.socket() as reserved:
            reserved.bind((HOST, 0))
            port = reserved.getsockname()[1]
        command = peer.command(Job(mode, port, self.backend[kind], self.credentials, folder))
        program = Program(peer.name, command, self.proxyCores, self._log(peer.name))
        try:
            yield Running(peer, mode, port, program, self._firstConversation(program, port, mode))
        finally:
            program.stop()

    def _firstConversation(self, program: Program, port: int, mode: str) -> Handshake:
        until = time.monotonic() + _START
        while True:
            time.sleep(0.1)
            program.members()
            try:
                seen = self._converse(port, mode)
                break
            except (OSError, TrafficError) as failure:
                if time.monotonic() > until:
                    message = f"{program.name}: nothing passes ({failure!r})\n{program.said()}"
                    raise ProcessError(message) from failure
        due = f"TLSv1.3 {SUITE}"
        for side, said, plain in (("client", seen.near, mode == "encrypt"), ("upstream", seen.far, mode == "offload")):
            # The echoing backend cannot tell what it sees; it is never behind TLS.
            if said not in ((due,) if not plain else ("plain", "")):
                raise ProcessError(f"{program.name} speaks {said!r} to the {side}")
        return seen

    def _converse(self, port: int, mode: str) -> Handshake:
        tickets: list[object] = []

        def message(connection: object, direction: str, version: object, kind: object, type: object, _: bytes) -> None:
            if direction == "read" and getattr(type, "name", "") == "NEWSESSION_TICKET":
                tickets.append(type)

        context = None if mode == "encrypt" else clientContext(self.credentials.ca)
        if context is not None:
            # Tickets come after the handshake and nothing public counts them.
            context._msg_callback = message  # type: ignore[attr-defined]
        connection = connect(port, context)
        try:
            connection.settimeout(5.0)
            connection.sendall(Order("tell", 0).toBytes())
            far = readExactly(connection, ORDER_SIZE)
            near = speaks(connection)
        finally:
            close(connection)
        echoed = far == Order("tell", 0).toBytes()
        return Handshake(near, "" if echoed else far.rstrip(b"\0").decode("ascii"), len(tickets))

    @contextmanager
    def _load(self, running: Running, kind: str, work: Work) -> Iterator[Program]:
        command = [sys.executable, str(_HERE / "load.py"), kind, str(running.port), *work.arguments(kind)]
        if running.mode != "encrypt":
            command += ["--ca", str(self.credentials.ca)]
        load = Program(f"{kind} through {running.peer.name}", command, self.loadCores, self._log("load"), talks=True)
        try:
            yield load
        finally:
            load.stop()

    def cpu(self, running: Running, kind: str, work: Work) -> float:
        """
        Send one load through a proxy.

        @param kind: C{down}, C{up}, C{connections} or C{requests}.
        @return: what it cost the proxy, in CPU time per unit.
        @raise ProcessError: if a byte was lost or a process died.
        """
        program = running.program
        members = program.members()
        before = program.settledCPU(members)
        with self._load(running, kind, work) as load:
            load.line(_PATIENCE)
            if kind != "requests":
                return work.perUnit(kind, program.settledCPU(members) - before)
            before = program.settledCPU(members)
            load.go()
            load.line(_PATIENCE)
            spent = program.settledCPU(members) - before
            load.go()
            load.line(_PATIENCE)
            return work.perUnit(kind, spent)

    def warmUp(self, running: Running) -> None:
        """
        One small piece of each kind of work.
        """
        for kind in ("down", "up", "connections", "requests"):
            self.cpu(running, kind, WARM_UP)

    def held(self, peer: Peer, work: Work) -> tuple[Memory, Memory]:
        """
        What an idle connection costs a fresh process.

        @return: growth in bytes a connection: after a word, and after a burst.
        """
        with self.proxy(peer, "offload", "echo") as running:
            before = running.program.memory()
            with self._load(running, "hold", work) as load:
                load.line(_PATIENCE)
                idle = self._rest(running)
                load.go()
                load.line(_PATIENCE)
                burst = self._rest(running)
        return _each(before, idle, work.held), _each(before, burst, work.held)

    def stalled(self, peer: Peer, work: Work) -> Memory:
        """
        What a client that orders 100 MB and reads none costs a fresh process.

        @return: growth in bytes.
        """
        with self.proxy(peer, "offload") as running:
            before = running.program.memory()
            with self._load(running, "stall", work) as load:
                load.line(_PATIENCE)
                return _each(before, self._rest(running), 1)

    def _rest(self, running: Running) -> Memory:
        running.program.settledCPU(running.program.members())
        return running.program.memory()


def _each(before: Memory, after: Memory, count: int) -> Memory:
    return Memory((after.rss - before.rss) // count, (after.pss - before.pss) // count)


@contextmanager
def bench(pin: bool) -> Iterator[Bench]:
    """
    A folder, certificates and a backend; all are gone at the end.

    @param pin: whether proxies get a core of their own, if there is more than one.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        credentials = issue(folder)
        cores = sorted(os.sched_getaffinity(0))
        proxyCores = loadCores = None
        if pin and len(cores) > 1:
            proxyCores, loadCores = str(cores[0]), ",".join(map(str, cores[1:]))
            os.sched_setaffinity(0, cores[1:])
            stack.callback(os.sched_setaffinity, 0, cores)
        command = [sys.executable, str(_HERE / "backend.py"), str(credentials.chain), str(credentials.key)]
        backend = Program("backend", command, loadCores, folder / "backend.log", talks=True)
        stack.callback(backend.stop)
        yield Bench(folder, credentials, json.loads(backend.line(_START)), proxyCores, loadCores)
