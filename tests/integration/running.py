# -*- test-case-name: tests.integration -*-
"""
The programs that the tests of this package start: the proxy itself, its peers, and what they are started with.

Each is a child of the test, writes to a file, and is ended by its process id at the latest when the test is over.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import requirePeer
from tlsproxy.tls.authority import Authority

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which something that should happen at once is held to be missing."""

GUARD = 60.0
"""Seconds after which a test is ended."""

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "tlsproxy")
COPYING = (
    *(sys.executable, "-c", "import os; vars(os).pop('splice', None); from twisted.scripts.twistd import run; run()"),
    *TWISTD[3:],
)
"""As on a system that has no splice(2)."""
TOOL = (sys.executable, "-c", "import sys; from tlsproxy.cli import main; sys.exit(main())")

_SESSION = re.compile(
    r"\[tlsproxy\.session#info\] (?P<route>\S+) client=(?P<client>\S+)(?: via=(?P<via>\S+))?"
    r'(?: id=(?P<uniqueId>"[^"]*"|\S+))?'
    r"(?: user=(?P<user>\S+))? sni=(?P<sni>\S+)"
    r"(?: ja4=(?P<ja4>\S+) versions=(?P<versions>\S+) groups=(?P<groups>\S+) alpn=(?P<alpn>\S+))? tls=(?P<tls>\S+)"
    r"(?: target=(?P<target>\S+))?(?: downgrade=(?P<downgrade>\S+))?"
    r" upstream=(?P<upstream>\S+) upstream_tls=(?P<upstreamTLS>\S+)"
    r" in=(?P<received>\d+) out=(?P<sent>\d+) "
    r"seconds=(?P<seconds>[\d.]+) outcome=(?P<outcome>\S+)"
    r'(?: client_cert="(?P<certificate>.*?)")?(?: phase=(?P<phase>\S+) reason="(?P<reason>.*)")?$',
    re.MULTILINE,
)


_PROXIES = ("all_proxy", "ftp_proxy", "http_proxy", "https_proxy", "no_proxy")
_HEEDED = {
    *_PROXIES,
    *map(str.upper, _PROXIES),
    *("CURL_CA_BUNDLE", "SSLKEYLOGFILE", "SSL_CERT_DIR", "SSL_CERT_FILE"),
    *("LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"),
    *("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY"),
}
"""What the proxy, or a program that it is tested with, would do otherwise for, if whoever runs the tests has set it."""


_claims: deque[socket.socket] = deque()


def _temporary() -> tempfile.TemporaryDirectory[str]:
    # What a killed browser's processes still write there is no failure.
    return tempfile.TemporaryDirectory(prefix="tlsproxy-", ignore_cleanup_errors=True)


def waitUntil(condition: Callable[[], T | None], what: str, seconds: float = PATIENCE) -> T:
    """
    Ask until the answer is true.

    @param what: What is waited for, for the message.
    @return: The answer.
    """
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come to be within {seconds:g} s")
        time.sleep(0.01)


def freePort() -> int:
    """
    Find a port of loopback that nobody has now, that no connection will be given in the meantime, and that is not found
    once more soon, not in another process of these tests either.
    """
    while True:
        port = random.choice(_lastingPorts())
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            # A name of no file, which is gone with its socket.
            claim.bind(f"\0tlsproxy-tests-{port}")
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(type=kind) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > 64:
            _claims.popleft().close()
        return port


@cache
def _lastingPorts() -> Sequence[int]:
    """
    Find the ports that the kernel gives to no connection by itself.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split())
    return [port for port in range(20000, 65536) if not low <= port <= high] or range(20000, 32000)


class Certificates:
    """
    A throw-away authority, and what it issues.

    @ivar authority: The authority.
    @ivar ca: The file with its certificate.
    """

    def __init__(self, folder: Path, stem: str = "ca") -> None:
        self._folder = folder
        self.authority = Authority.create(f"test {stem}", lifetime=timedelta(days=90), now=datetime.now(UTC))
        self.ca = folder / f"{stem}.pem"
        self.ca.write_bytes(self.authority.pem())

    def issue(
        self,
        stem: str,
        names: Sequence[str] = ("localhost", "127.0.0.1"),
        *,
        commonName: str = "test endpoint",
        age: timedelta = timedelta(),
    ) -> Path:
        """
        Issue a certificate for either role.

        @param age: How long ago it was issued, for 40 days.
        @return: A file with chain and key.
        """
        issued = self.authority.issue(
            commonName=commonName,
            names=names,
            server=True,
            client=True,
            lifetime=timedelta(days=40),
            now=datetime.now(UTC) - age,
        )
        file = self._folder / f"{stem}.pem"
        file.touch(0o600)
        file.write_bytes(
            b"".join(certificate.public_bytes(Encoding.PEM) for certificate in issued.chain)
            + issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return file


class Child:
    """
    A running program.

    @ivar process: Its process.
    """

    def __init__(
        self, case: SynchronousTestCase, folder: Path, name: str, command: Sequence[str], spoken: bool = False
    ) -> None:
        """
        @param folder: Where it runs and its output is kept.
        @param name: What its output is called.
        @param spoken: Whether the test says something to it; else it finds the end of its input.
        """
        self._output = folder / f"{name}.log"
        with self._output.open("wb") as output:
            given = subprocess.PIPE if spoken else subprocess.DEVNULL
            self.process = subprocess.Popen(command, cwd=folder, stdin=given, stdout=output, stderr=subprocess.STDOUT)
        if self.process.stdin is not None:
            case.addCleanup(self.process.stdin.close)
        case.addCleanup(self.kill)

    def text(self) -> str:
        """
        What it has printed so far.
        """
        return self._output.read_text("utf-8", "backslashreplace")

    def waitFor(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """
        Wait until it has printed something.

        @param pattern: A regular expression.
        """

        def printed() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            found = re.search(pattern, self.text(), re.MULTILINE)
            if ended and not found:
                raise AssertionError(f"it ended before it printed {pattern!r}:\n{self.text()}")
            return found

        try:
            return waitUntil(printed, pattern, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.text()}") from None

    def end(self) -> int:
        """
        Ask it to end.

        @return: Its exit status.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """
        End it by force, if it still runs.
        """
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Proxy(Child):
    """
    C{twistd tlsproxy} with a configuration file.

    It listens on ports that the kernel chooses where the routes do not say which.

    At the end of the test, what the test has left open is cut.

    @ivar expected: What of its log says of something that it is wrong, and is expected to, as a regular expression.
    """

    expected = "$^"

    def __init__(
        self,
        case: SynchronousTestCase,
        folder: Path,
        config: Path,
        count: int = 1,
        prefix: Sequence[str] = (),
        program: Sequence[str] = TWISTD,
    ) -> None:
        """
        @param config: The configuration file.
        @param count: How many addresses it will listen on.
        @param prefix: The start of the command line, such as what puts it into a network of its own.
        @param program: What runs it: L{TWISTD} or L{COPYING}.
        """
        super().__init__(case, folder, f"{config.stem}.proxy", [*prefix, *program, "--config", str(config)])
        case.addCleanup(self._finish)
        self.waitFor(rf"(?s)(?:.*? listens on ){{{count}}}[^\n]*$")
        # It listens before its reactor runs, which has two descriptors more and heeds signals.
        waitUntil(self._runs, "its reactor")

    def _runs(self) -> bool:
        """
        Tell whether its reactor runs: until then it holds signals back.
        """
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii", "replace")
        held = re.search(r"^SigBlk:\s+(\w+)$", status, re.MULTILINE)
        return held is None or not int(held[1], 16) >> signal.SIGTERM - 1 & 1

    def _finish(self) -> None:
        """
        It ends cleanly, and no bug of its own was met.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            # What is asked twice in one turn of the reactor is asked once.
            waitUntil(lambda: self.process.poll() is not None or "stopping: " in self.text(), "its end")
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE)
        text = re.sub(self.expected, "", self.text())
        if status not in (0, 1) or re.search(r"Traceback|Unhandled|#critical|#error|Warning:", text):
            raise AssertionError(f"the proxy ended with status {status}:\n{text}")

    def port(self, route: str) -> int:
        """
        The port that a route listens on.
        """
        return int(self.waitFor(rf"\] {route} \([\w-]+\) listens on .*:(\d+)$")[1])

    def sessions(self) -> list[dict[str, str]]:
        """
        What the log tells of the sessions that are over.
        """
        return [
            {key: value or "" for key, value in line.groupdict().items()} for line in _SESSION.finditer(self.text())
        ]

    def session(self, number: int = 0) -> dict[str, str]:
        """
        Wait until the log tells of a session.

        @param number: How many are told of before it.
        """

        def told() -> dict[str, str] | None:
            lines = self.sessions()
            return lines[number] if len(lines) > number else None

        try:
            return waitUntil(told, f"session {number} in the log")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.text()}") from None

    def resident(self) -> int:
        """
        How much memory it has, in bytes.
        """
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii", "replace")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def busy(self) -> float:
        """
        How much of a processor's time it has used, in seconds.
        """
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """
        How many descriptors it has open.
        """
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def toml(routes: Sequence[Mapping[str, Any]]) -> str:
    """
    Write a configuration.

    @param routes: The keys of each route; a mapping is a table, and C{rule}, C{handler}, C{grant} and C{host} of C{tls}
        are lists of tables.
    """
    lines = []
    for route in routes:
        lines.append("[[route]]")
        tables = [("[route.{}]", name, keys) for name, keys in route.items() if isinstance(keys, Mapping)]
        lists = ("rule", "handler", "grant")
        tables += [("[[route.{}]]", name, keys) for name in lists for keys in route.get(name, ())]
        inner = {name for _, name, _ in tables}
        lines += [f"{key} = {json.dumps(value)}" for key, value in route.items() if key not in inner]
        hosts = [("[[route.tls.{}]]", "host", keys) for keys in route.get("tls", {}).get("host", ())]
        tables = [(head, name, {key: one for key, one in keys.items() if key != "host"}) for head, name, keys in tables]
        for head, name, keys in [*tables, *hosts]:
            lines += [head.format(name), *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return "\n".join([*lines, ""])


class IntegrationTestCase(SynchronousTestCase):
    """
    A test with real programs, which has a folder of its own and is ended when it takes too long.

    @ivar folder: The folder.
    @ivar certificates: An authority, which both sides of the proxy trust.
    @ivar pem: A certificate of its making for C{localhost} and C{127.0.0.1}.
    @cvar guard: The seconds after which it is ended.
    @cvar program: What runs the proxy: L{TWISTD} or L{COPYING}.
    """

    guard = GUARD
    program: Sequence[str] = TWISTD

    def setUp(self) -> None:
        """
        Make the folder and the certificates, and set the guard.
        """
        before = signal.signal(signal.SIGALRM, self._tooLong)
        signal.setitimer(signal.ITIMER_REAL, self.guard)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        for name in _HEEDED & set(os.environ):
            self.addCleanup(os.environ.__setitem__, name, os.environ.pop(name))
        # Not below the checkout: Unix sockets, and what is written for other programs, do not bear every path.
        self.folder = Path(self.enterContext(_temporary())).resolve()
        self.certificates = Certificates(self.folder)
        self.pem = self.certificates.issue("server")

    def _tooLong(self, number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"the test took longer than {self.guard:g} s")

    def proxy(self, *routes: Mapping[str, Any], prefix: Sequence[str] = ()) -> Proxy:
        """
        Start the proxy.

        @param routes: The keys of each route.  C{name} is the mode and C{listen} any port, where they do not say.
        @param prefix: The start of the command line.
        """
        whole = [{"name": route["mode"], "listen": "127.0.0.1:0", **route} for route in routes]
        # One that runs already would follow its file.
        count = len(list(self.folder.glob("config*.toml")))
        config = self.folder / f"config{count or ''}.toml"
        # A line for each session, however many fail.
        config.write_text(f"[proxy]\nlog_repeats = 0\n{toml(whole)}", "utf-8")
        return Proxy(self, self.folder, config, len(whole), prefix, self.program)

    def offload(self, upstream: int, **more: Any) -> dict[str, Any]:
        """
        A route of mode C{offload}.

        @param upstream: The port of the upstream.
        @param more: Further keys; those of C{tls} are added.
        """
        tls = {"cert": str(self.pem), **more.pop("tls", {})}
        return {"mode": "offload", "upstream": f"127.0.0.1:{upstream}", "tls": tls, **more}

    def encrypt(self, upstream: int, **more: Any) -> dict[str, Any]:
        """
        A route of mode C{encrypt}.
        """
        tls = {"ca": str(self.certificates.ca), "name": "localhost", **more.pop("upstream_tls", {})}
        return {"mode": "encrypt", "upstream": f"127.0.0.1:{upstream}", "upstream_tls": tls, **more}

    def bridge(self, upstream: int, **more: Any) -> dict[str, Any]:
        """
        A route of mode C{bridge}.
        """
        far = self.encrypt(upstream, upstream_tls=more.pop("upstream_tls", {}))
        return {**far, **self.offload(upstream, **more), "mode": "bridge"}

    def passthrough(self, upstream: int, **more: Any) -> dict[str, Any]:
        """
        A route of mode C{passthrough}.
        """
        return {"mode": "passthrough", "upstream": f"127.0.0.1:{upstream}", **more}

    def connect(self, upstream: int, **more: Any) -> dict[str, Any]:
        """
        A route of mode C{connect}.

        @param upstream: The one port of loopback that clients may ask for.
        """
        return {"mode": "connect", "targets": {"allow": [f"127.0.0.1:{upstream}"]}, **more}

    def run_(
        self, command: Sequence[str], input: bytes = b"", status: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """
        Run a program to its end.

        @param input: What it reads.
        @param status: How it has to end; L{None} for any way.
        @return: What it printed.
        """
        program = requirePeer(command[0])
        done = subprocess.run(
            [program, *command[1:]], input=input, capture_output=True, cwd=self.folder, timeout=PATIENCE
        )
        if status is not None:
            self.assertEqual(status, done.returncode, (command, done.stdout[-2000:], done.stderr[-2000:]))
        return done

    def nginx(self, servers: str, prefix: Sequence[str] = ()) -> Child:
        """
        Start nginx.

        @param servers: Its C{server} blocks.
        @param prefix: The start of the command line.
        """
        config = self.folder / "nginx.conf"
        paths = "".join(
            f"{kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off; master_process off; pid {self.folder}/nginx.pid; error_log stderr notice;\n"
            f"events {{ }}\nhttp {{ access_log off; {paths} root {self.folder}/www; {servers} }}\n"
        )
        (self.folder / "www").mkdir(exist_ok=True)
        child = Child(self, self.folder, "nginx", [*prefix, requirePeer("nginx"), "-c", str(config), "-e", "stderr"])
        # It says so after it has bound its ports.
        child.waitFor("using the .* event method")
        return child


def raiseDescriptors(count: int) -> None:
    """
    Let this process, and those that it starts, have many descriptors.

    @param count: How many at least.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
