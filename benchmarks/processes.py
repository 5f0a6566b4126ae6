"""
Programs that are started, watched and ended by process id, with all their children.

CPU time is read from each process's own CPU clock, the one behind user and system time in C{/proc/PID/stat}: user and
system together, threads that have ended included, in nanoseconds instead of the hundredths of a second shown there.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

_CPUCLOCK_SCHED = 2
_GRACE = 3.0


class ProcessError(Exception):
    """
    A program did not start, died, or did not end in time.
    """


@frozen
class Holding:
    """
    What a program and its children hold, or by how much that grew for each connection.

    @param rss: resident bytes, shared pages counted in each process.
    @param pss: resident bytes, shared pages divided among those who share them.
    @param descriptors: open files, sockets and pipes.
    """

    rss: float
    pss: float
    descriptors: float

    def growth(self, after: Holding, count: int) -> Holding:
        """
        What each of C{count} things that came since has added.
        """
        return Holding(
            (after.rss - self.rss) / count,
            (after.pss - self.pss) / count,
            (after.descriptors - self.descriptors) / count,
        )


def _parents() -> dict[int, int]:
    """
    Every process and its parent.
    """
    parents = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            parents[int(entry.name)] = int(parent)
    return parents


def family(pid: int) -> frozenset[int]:
    """
    A process and all that descend from it.
    """
    parents = _parents()
    found = {pid} & parents.keys()
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return frozenset(found)
        found |= more


def _cpu(pid: int) -> float:
    """
    Seconds of CPU of one process. The clock's number is made as clock_getcpuclockid(3) makes it.
    """
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


class Program:
    """
    One running program.

    @param name: for messages.
    @param command: the program and its arguments.
    @param cores: the cores it may use, as taskset(1) lists them, or C{None} for all.
    @param log: where its output goes; what it said is told when it dies.
    @param talks: whether its standard output is read by L{line} instead.
    """

    def __init__(self, name: str, command: Sequence[str], cores: str | None, log: Path, talks: bool = False) -> None:
        self.name = name
        self._log = log
        pinned = list(command) if cores is None else ["taskset", "-c", cores, *command]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                pinned,
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else output,
                stderr=output,
            )

    def cpu(self, members: frozenset[int]) -> float:
        """
        Seconds of CPU that the program has used.

        @param members: the family as it was when the measurement began.
        @raise ProcessError: if a process has come or gone since: its time would be lost.
        """
        if self.members() != members:
            raise ProcessError(f"{self.name}: a process started or ended during a measurement\n{self.said()}")
        return sum(map(_cpu, members))

    def settledCPU(self, members: frozenset[int]) -> float:
        """
        Seconds of CPU, read once the program has come to rest, at the latest after two seconds.
        """
        spent = self.cpu(members)
        for _ in range(20):
            time.sleep(0.1)
            before, spent = spent, self.cpu(members)
            if spent - before < 0.0005:
                break
        return spent

    def holds(self) -> Holding:
        """
        What the program holds now.
        """
        rss = pss = descriptors = 0
        for pid in self.members():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Rss:"):
                    rss += int(line.split()[1]) * 1024
                elif line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        return Holding(rss, pss, descriptors)

    def members(self) -> frozenset[int]:
        """
        The processes of the program.

        @raise ProcessError: if it has ended.
        """
        if self._process.poll() is not None:
            raise ProcessError(f"{self.name} ended with status {self._process.returncode}\n{self.said()}")
        return family(self._process.pid)

    def said(self) -> str:
        """
        The last of what the program wrote.
        """
        return self._log.read_text(errors="replace")[-2000:]

    def line(self, seconds: float) -> str:
        """
        The next line of its standard output.

        @param seconds: how long to wait for it.
        @raise ProcessError: if there is none.
        """
        output = self._process.stdout
        assert output is not None
        # One line is under way at a time, so none hides in the buffer.
        ready, _, _ = select.select([output], [], [], seconds)
        if not ready:
            raise ProcessError(f"{self.name} said nothing for {seconds:.0f} s")
        text = output.readline()
        if not text:
            raise ProcessError(f"{self.name} failed\n{self.said()}")
        return text.decode().strip()

    def go(self) -> None:
        """
        Tell it to go on, by a line on its standard input.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """
        End the program and its children, gently first, and wait until they are gone.
        """
        pids = family(self._process.pid)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in pids & _parents().keys():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
