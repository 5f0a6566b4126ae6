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
from door import SNI, Door
from peers import FAR_TLS, NEAR_TLS, Job, Peer
from processes import Holding, ProcessError, Program
from traffic import HOST, ORDER_SIZE, SUITE, Order, TrafficError, close, readExactly, speaks

_HERE = Path(__file__).parent
_START = 20.0
_PATIENCE = 300.0
_STALLED = 100 * 1000 * 1000
_GIB = 1 << 30
_UPSTREAMS = {"offload": "plain", "encrypt": "tls", "bridge": "tls", "passthrough": "hello", "connect": "plain"}
"""The backend that takes orders, by mode."""


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
    @param tunnels: idle tunnels whose memory and descriptors are read.
    """

    bulk: int = _GIB
    connections: int = 2000
    clients: int = 4
    requests: int = 50_000
    keptAlive: int = 32
    held: int = 2000
    tunnels: int = 8000

    def holdable(self, mode: str) -> int:
        """
        How many connections are held in a mode.
        """
        return self.tunnels if mode == "connect" else self.held

    def arguments(self, kind: str, mode: str) -> list[str]:
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
            return ["--count", str(self.holdable(mode))]
        return ["--size", str(_STALLED)]

    def amount(self, kind: str) -> float:
        """
        How much one load of a kind is: GiB, connections or requests.
        """
        return {"connections": self.connections, "requests": self.requests}.get(kind, self.bulk / _GIB)


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
    @param door: the way into it.
    @param program: its processes.
    @param handshake: what was seen when it came up.
    """

    peer: Peer
    mode: str
    door: Door
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
        target = self.backend[upstream or _UPSTREAMS[mode]]
        folder = self.folder / f"{next(self._serial)}-{peer.name}"
        folder.mkdir()
        with socket.socket() as reserved:
            reserved.bind((HOST, 0))
            port = reserved.getsockname()[1]
        door = Door(
            port,
            ca=self.credentials.ca if mode in NEAR_TLS else None,
            sni=SNI if mode == "passthrough" else "",
            target=f"{HOST}:{target}" if mode == "connect" and peer.tunnels else "",
        )
        command = peer.command(Job(mode, port, target, self.credentials, folder))
        program = Program(peer.name, command, self.proxyCores, self._log(peer.name))
        try:
            yield Running(peer, mode, door, program, self._firstConversation(program, door, mode))
        finally:
            program.stop()

    def _firstConversation(self, program: Program, door: Door, mode: str) -> Handshake:
        until = time.monotonic() + _START
        while True:
            time.sleep(0.1)
            program.members()
            try:
                seen = self._converse(door)
                break
            except (OSError, TrafficError) as failure:
                if time.monotonic() > until:
                    message = f"{program.name}: nothing passes ({failure!r})\n{program.said()}"
                    raise ProcessError(message) from failure
        due = f"TLSv1.3 {SUITE}"
        for side, said, modes in (("client", seen.near, NEAR_TLS), ("upstream", seen.far, FAR_TLS)):
            # The echoing backend cannot tell what it sees; it is never behind TLS.
            if said not in ((due,) if mode in modes else ("plain", "")):
                raise ProcessError(f"{program.name} speaks {said!r} to the {side}")
        return seen

    def _converse(self, door: Door) -> Handshake:
        tickets: list[object] = []

        def message(connection: object, direction: str, version: object, kind: object, type: object, _: bytes) -> None:
            if direction == "read" and getattr(type, "name", "") == "NEWSESSION_TICKET":
                tickets.append(type)

        if door.context is not None:
            # Tickets come after the handshake and nothing public counts them.
            door.context._msg_callback = message  # type: ignore[attr-defined]
        connection = door.open()
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
        command = [sys.executable, str(_HERE / "load.py"), kind, *running.door.options()]
        command += work.arguments(kind, running.mode)
        load = Program(f"{kind} through {running.peer.name}", command, self.loadCores, self._log("load"), talks=True)
        try:
            yield load
        finally:
            load.stop()

    def cpu(self, running: Running, kind: str, work: Work) -> float:
        """
        Send one load through a proxy.

        @param kind: C{down}, C{up}, C{connections} or C{requests}.
        @return: what it cost the proxy: seconds of CPU for each GiB, connection or request.
        @raise ProcessError: if a byte was lost or a process died.
        """
        program = running.program
        members = program.members()
        before = program.settledCPU(members)
        with self._load(running, kind, work) as load:
            load.line(_PATIENCE)
            if kind != "requests":
                return (program.settledCPU(members) - before) / work.amount(kind)
            before = program.settledCPU(members)
            load.go()
            load.line(_PATIENCE)
            spent = program.settledCPU(members) - before
            load.go()
            load.line(_PATIENCE)
            return spent / work.amount(kind)

    def warmUp(self, running: Running) -> None:
        """
        One small piece of each kind of work.
        """
        for kind in ("down", "up", "connections", "requests"):
            self.cpu(running, kind, WARM_UP)

    def held(self, peer: Peer, mode: str, work: Work) -> tuple[Holding, Holding]:
        """
        What an idle connection costs a fresh process.

        @return: growth for each connection: after a word, and after a burst.
        """
        with self.proxy(peer, mode, "echo") as running:
            before = self._rest(running)
            with self._load(running, "hold", work) as load:
                load.line(_PATIENCE)
                idle = self._rest(running)
                load.go()
                load.line(_PATIENCE)
                burst = self._rest(running)
        count = work.holdable(mode)
        return before.growth(idle, count), before.growth(burst, count)

    def stalled(self, peer: Peer, work: Work) -> Holding:
        """
        What a client that orders 100 MB and reads none costs a fresh process.

        @return: growth in all.
        """
        with self.proxy(peer, "offload") as running:
            before = self._rest(running)
            with self._load(running, "stall", work) as load:
                load.line(_PATIENCE)
                return before.growth(self._rest(running), 1)

    def _rest(self, running: Running) -> Holding:
        running.program.settledCPU(running.program.members())
        return running.program.holds()


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
