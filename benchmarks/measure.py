"""
One measurement at a time: proxies that run, load that goes through them, and what it cost.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import field, frozen
from credentials import Credentials, issue
from door import SNI, Door
from jobs import FAR_TLS, NEAR_TLS, Job, Peer, Setting
from processes import Holding, ProcessError, Program
from rows import PACED
from steps import finish, leave
from traffic import HOST, ORDER_SIZE, Order, TrafficError, readExactly, speaks, speech
from work import WARM_UP, Work

_HERE = Path(__file__).parent
_START = 20.0
_PATIENCE = 300.0
_ANSWER = 5.0
_UPSTREAMS = {"offload": "plain", "encrypt": "tls", "bridge": "tls", "passthrough": "hello", "connect": "plain"}
"""The backend that takes orders, by mode."""

_STAGED = ("requests", "resumed")
"""Loads whose connections come and go outside of what is counted."""

_PEAK_CLIENTS = 32


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
    @param setting: what it does.
    @param door: the way into it.
    @param program: its processes.
    @param handshake: what was seen when it came up.
    """

    peer: Peer
    setting: Setting
    door: Door
    program: Program
    handshake: Handshake


@frozen
class Bench:
    """
    All that the measurements share.

    @param folder: for all files.
    @param credentials: the certificates, by kind of key.
    @param backend: the port of each kind of backend.
    @param proxyCores: where proxies run, as taskset(1) lists them, or C{None}.
    @param loadCores: where everything else runs.
    """

    folder: Path
    credentials: dict[str, Credentials]
    backend: dict[str, int]
    proxyCores: str | None
    loadCores: str | None
    _serial: Iterator[int] = field(factory=itertools.count, init=False)

    def newFolder(self, name: str) -> Path:
        """
        A new folder.
        """
        folder = self.folder / f"{next(self._serial)}-{name}"
        folder.mkdir()
        return folder

    def log(self, name: str) -> Path:
        """
        A new file's path.
        """
        return self.folder / f"{next(self._serial)}-{name}.log"

    @contextmanager
    def proxy(self, peer: Peer, setting: Setting, upstream: str | None = None) -> Iterator[Running]:
        """
        Start a proxy and wait until a first conversation through it succeeds.

        @param upstream: the kind of backend, if not the one that takes orders.
        @raise ProcessError: if it does not come up, or does not speak the TLS it was told to.
        """
        mode, credentials = setting.mode, self.credentials[setting.key]
        target = self.backend[upstream or _UPSTREAMS[mode]]
        folder = self.newFolder(peer.name)
        port = freePort()
        door = Door(
            port,
            ca=credentials.ca if mode in NEAR_TLS else None,
            sni=SNI if mode == "passthrough" else "",
            target=f"{HOST}:{target}" if mode == "connect" and peer.tunnels else "",
            version=setting.version,
        )
        command = peer.command(Job(setting, port, target, credentials, folder))
        program = Program(peer.name, command, self.proxyCores, self.log(peer.name))
        try:
            seen = self.firstConversation(program, door)
            if seen.near != setting.speaks:
                raise ProcessError(f"{program.name} speaks {seen.near!r} to the client")
            # The echoing backend cannot tell what it sees; it is never behind TLS.
            if seen.far not in ((speech("1.3", "P-256"),) if mode in FAR_TLS else ("plain", "")):
                raise ProcessError(f"{program.name} speaks {seen.far!r} to the upstream")
            yield Running(peer, setting, door, program, seen)
        finally:
            program.stop()

    def direct(self) -> Door:
        """
        The way to the backend that goes through no proxy.
        """
        return Door(self.backend["plain"])

    def firstConversation(self, program: Program, door: Door) -> Handshake:
        """
        Try again and again until a conversation through a proxy succeeds.

        @raise ProcessError: if none does in time.
        """
        until = time.monotonic() + _START
        while True:
            time.sleep(0.1)
            program.members()
            try:
                return self._converse(door)
            except (OSError, TrafficError) as failure:
                if time.monotonic() > until:
                    message = f"{program.name}: nothing passes ({failure!r})\n{program.said()}"
                    raise ProcessError(message) from failure

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
            connection.settimeout(_ANSWER)
            connection.sendall(Order("tell", 0).toBytes())
            far = readExactly(connection, ORDER_SIZE)
            near = speaks(connection)
        finally:
            finish(leave(connection))
        echoed = far == Order("tell", 0).toBytes()
        return Handshake(near, "" if echoed else far.rstrip(b"\0").decode("ascii"), len(tickets))

    @contextmanager
    def _load(self, door: Door, kind: str, arguments: Sequence[str]) -> Iterator[Program]:
        command = [sys.executable, str(_HERE / "load.py"), kind, *door.options(), *arguments]
        load = Program(f"load of {kind}", command, self.loadCores, self.log("load"), talks=True)
        try:
            yield load
        finally:
            load.stop()

    def cpu(self, running: Running, kind: str, work: Work, clients: int = 1) -> float:
        """
        Send one load through a proxy.

        @param kind: C{down}, C{up}, C{connections}, C{resumed} or C{requests}.
        @param clients: how many connections or requests at a time.
        @return: what it cost the proxy: seconds of CPU for each GiB, connection or request.
        @raise ProcessError: if a byte was lost or a process died.
        """
        arguments = work.arguments(kind, running.setting.mode, clients)
        if kind not in _STAGED:
            return self.costs([running.program], running.door, kind, arguments)[0] / work.amount(kind)
        program = running.program
        members = program.members()
        with self._load(running.door, kind, arguments) as load:
            load.line(_PATIENCE)
            before = program.settledCPU(members)
            load.go()
            load.line(_PATIENCE)
            spent = program.settledCPU(members) - before
            load.go()
            load.line(_PATIENCE)
            return spent / work.amount(kind)

    def costs(self, programs: Sequence[Program], door: Door, kind: str, arguments: Sequence[str]) -> list[float]:
        """
        Send one load that has no stages through one or more proxies.

        @param arguments: the load client's options.
        @return: the seconds of CPU that each of them took for all of it.
        @raise ProcessError: if a byte was lost or a process died.
        """
        members = [program.members() for program in programs]
        before = [program.settledCPU(own) for program, own in zip(programs, members, strict=True)]
        with self._load(door, kind, arguments) as load:
            load.line(_PATIENCE)
            after = [program.settledCPU(own) for program, own in zip(programs, members, strict=True)]
        return [spent - start for spent, start in zip(after, before, strict=True)]

    def warmUp(self, running: Running) -> None:
        """
        One small piece of each kind of work.
        """
        for kind in ("down", "up", "connections", "requests"):
            self.cpu(running, kind, WARM_UP)

    def peak(self, door: Door, word: str, work: Work) -> float:
        """
        How much can be done in a second if each client goes on as soon as it has its answer: as much as the slowest of
        proxy, load client and backend can do.

        @param word: one of L{rows.PACED}.
        @return: connections or requests a second.
        """
        kind, _ = PACED[word]
        with self._load(door, kind, work.arguments(kind, "offload", _PEAK_CLIENTS, math.inf)) as load:
            told: dict[str, float] = json.loads(load.line(_PATIENCE))
        return work.amount(kind) / told["seconds"]

    def latency(self, door: Door, word: str, rate: float, work: Work) -> dict[str, float]:
        """
        How long each takes where so many are due each second.

        @param word: one of L{rows.PACED}.
        @return: seconds by percentile: C{p0}, which is the least, C{p50} and C{p99}.
        """
        _, kind = PACED[word]
        with self._load(door, kind, work.arguments(kind, "offload", rate=rate)) as load:
            told: dict[str, float] = json.loads(load.line(_PATIENCE))
        return told

    def held(self, peer: Peer, setting: Setting, work: Work) -> tuple[Holding, Holding]:
        """
        What an idle connection costs a fresh process.

        @return: growth for each connection: after a word, and after a burst.
        """
        with self.proxy(peer, setting, "echo") as running:
            before = self._rest(running)
            with self._load(running.door, "hold", work.arguments("hold", setting.mode)) as load:
                load.line(_PATIENCE)
                idle = self._rest(running)
                load.go()
                load.line(_PATIENCE)
                burst = self._rest(running)
        count = work.holdable(setting.mode)
        return before.growth(idle, count), before.growth(burst, count)

    def stalled(self, peer: Peer, work: Work) -> Holding:
        """
        What a client that orders 100 MB and reads none costs a fresh process.

        @return: growth in all.
        """
        with self.proxy(peer, Setting("offload")) as running:
            before = self._rest(running)
            with self._load(running.door, "stall", work.arguments("stall", "offload")) as load:
                load.line(_PATIENCE)
                return before.growth(self._rest(running), 1)

    def _rest(self, running: Running) -> Holding:
        running.program.settledCPU(running.program.members())
        return running.program.holds()


def freePort() -> int:
    """
    A port of the loopback address that nobody has.
    """
    with socket.socket() as reserved:
        reserved.bind((HOST, 0))
        port: int = reserved.getsockname()[1]
        return port


@contextmanager
def bench(pin: bool) -> Iterator[Bench]:
    """
    A folder, certificates and a backend; all are gone at the end.

    @param pin: whether proxies get a core of their own, if there is more than one.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        credentials = issue(folder)
        own = credentials["P-256"]
        cores = sorted(os.sched_getaffinity(0))
        proxyCores = loadCores = None
        if pin and len(cores) > 1:
            proxyCores, loadCores = str(cores[0]), ",".join(map(str, cores[1:]))
            os.sched_setaffinity(0, cores[1:])
            stack.callback(os.sched_setaffinity, 0, cores)
        command = [sys.executable, str(_HERE / "backend.py"), str(own.chain), str(own.key)]
        backend = Program("backend", command, loadCores, folder / "backend.log", talks=True)
        stack.callback(backend.stop)
        yield Bench(folder, credentials, json.loads(backend.line(_START)), proxyCores, loadCores)
