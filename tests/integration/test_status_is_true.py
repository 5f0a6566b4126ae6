# -*- test-case-name: tests.integration.test_status_is_true -*-
"""
What the status tells is true, and only those hear it who may.
"""

from __future__ import annotations

import json
import re
import signal
import socket
from collections import Counter
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.running import PATIENCE, waitUntil
from tests.integration.talking import Server, clientContext, connect, echo, serverContext
from tests.integration.watched import WatchedProxyCase


class StatusTests(WatchedProxyCase):
    """
    The status pages.
    """

    def metrics(self, proxy: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """
        Read the metrics with Prometheus's own parser.
        """
        code, text = self.ask(proxy, "/metrics")
        self.assertEqual(200, code)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def test_counters(self) -> None:
        """
        Counters say what the log says, session by session, and bytes are those that were sent.
        """
        server = Server(self, echo, serverContext(self.pem))
        proxy = self.watched(self.bridge(server.port))
        port = proxy.port("bridge")
        good = clientContext(self.certificates.ca)
        for number in range(1, 6):
            client = connect(self, port, good)
            client.send(b"x" * 1000 * number)
            client.endWrite()
            self.assertEqual(1000 * number, len(client.readAll()))
            client.close()
        connect(self, port).close()
        connect(self, port).send(b"GET / HTTP/1.0\r\n\r\n")
        self.run_(["curl", "-s", f"https://127.0.0.1:{port}/"], status=60)
        self.run_(
            ["curl", "-s", "-k", "--tlsv1.2", "--tls-max", "1.2", "-m", "1", f"https://127.0.0.1:{port}/"], status=None
        )
        waitUntil(lambda: len(proxy.sessions()) == 9, "the ends of all sessions")
        route = self.state(proxy)["routes"][0]
        lines = proxy.sessions()
        # The line of one that came to its end has no phase.
        told = Counter(line["outcome"] for line in lines)
        ended = {outcome: sum(phases.values()) for outcome, phases in route["ended"].items()}
        self.assertEqual(dict(told), ended)
        self.assertEqual((9, 0), (route["started"], route["sessions"]))
        self.assertEqual(sum(int(line["received"]) for line in lines), route["received_bytes"])
        self.assertEqual(sum(int(line["sent"]) for line in lines), route["sent_bytes"])
        self.assertEqual((6, 5), (route["handshakes"]["full"], route["handshakes"]["versions"]["TLSv1.3"]))
        self.assertEqual({"received unknown_ca": 1}, route["handshakes"]["failed"])
        self.assertEqual(6, route["upstream_handshakes"]["full"])
        self.assertEqual([6, 0], [route["upstreams"][0][key] for key in ("reached", "failed")])
        metrics = self.metrics(proxy)
        over = dict.fromkeys(("tlsproxy_sessions_started_total", "tlsproxy_sessions_ended_total"), 0.0)
        for (name, _), value in metrics.items():
            if name in over:
                over[name] += value
        self.assertEqual([9.0, 9.0], list(over.values()))
        labels = frozenset({("route", "bridge")})
        self.assertEqual(route["received_bytes"], metrics["tlsproxy_received_bytes_total", labels])

    def test_live(self) -> None:
        """
        What passes is counted while it passes, also where the kernel moves it.
        """
        server = Server(self, echo)
        proxy = self.watched(self.passthrough(server.port, require_tls=False))
        client = connect(self, proxy.port("passthrough"))
        client.send(b"x" * 100_000)
        client.read(100_000)
        (route,) = self.state(proxy)["routes"]
        self.assertEqual((100_000, 100_000, 1), (route["received_bytes"], route["sent_bytes"], route["sessions"]))
        client.close()
        waitUntil(lambda: self.state(proxy)["routes"][0]["sessions"] == 0, "the session's end")
        (route,) = self.state(proxy)["routes"]
        self.assertEqual((100_000, 100_000), (route["received_bytes"], route["sent_bytes"]))

    def test_pages(self) -> None:
        """
        All pages are there, for curl and for a browser, and for nobody who asks by another name.
        """
        proxy = self.watched(self.offload(1))
        for path, text in (
            ("/healthz", "alive"),
            ("/readyz", "ready"),
            ("/", "<h1>tlsproxy"),
            ("/metrics", "tlsproxy_ready 1.0"),
            ("/status.json", '"ready": true'),
        ):
            code, body = self.ask(proxy, path)
            self.assertEqual(200, code)
            self.assertIn(text, body)
            code, body = self.ask(proxy, path, "-H", "Host: evil.example")
            self.assertEqual((403, False), (code, text in body))
        code, _ = self.ask(proxy, "/status.json", "-d", "x=1")
        self.assertEqual(413, code)
        code, _ = self.ask(proxy, "/status.json", "-X", "DELETE")
        self.assertEqual(405, code)

    def test_draining(self) -> None:
        """
        While the proxy waits for its last session, it says so, and goes on telling all; then it is gone.
        """
        server = Server(self, echo)
        proxy = self.watched(self.passthrough(server.port, require_tls=False), drain=40)
        client = connect(self, proxy.port("passthrough"))
        client.send(b"x")
        client.read(1)
        proxy.process.send_signal(signal.SIGTERM)
        waitUntil(lambda: self.ask(proxy, "/readyz") == (503, "draining: 1 session is still open\n"), "a drain")
        self.assertEqual((200, "alive\n"), self.ask(proxy, "/healthz"))
        state = self.state(proxy)
        self.assertEqual((True, False, 1), (state["draining"], state["ready"], state["process"]["sessions"]))
        self.assertEqual(1, self.metrics(proxy)["tlsproxy_draining", frozenset()])
        client.send(b"y")
        self.assertEqual(b"y", client.read(1))
        client.close()
        self.assertEqual(0, proxy.process.wait(PATIENCE))

    def test_reload(self) -> None:
        """
        A reload does not touch it: it stays where it is, tells of the new routes, and says of a bad one what is wrong.
        """
        server = Server(self, echo)
        route = self.passthrough(server.port, require_tls=False)
        proxy = self.watched(route)
        client = connect(self, proxy.port("passthrough"))
        client.send(b"x")
        client.read(1)
        config = self.folder / "watched.toml"
        good = config.read_text()
        config.write_text(
            good + '[[route]]\nname = "new"\nmode = "passthrough"\nlisten = "127.0.0.1:0"\nupstream = "x:1"\n'
        )
        proxy.process.send_signal(signal.SIGHUP)
        waitUntil(lambda: len(self.state(proxy)["routes"]) == 2, "the new route")
        state = self.state(proxy)
        self.assertEqual(
            (["passthrough", "new"], 2),
            ([one["name"] for one in state["routes"]], state["configuration"]["generation"]),
        )
        self.assertEqual((1, 1), (state["routes"][0]["started"], state["routes"][0]["sessions"]))
        proxy.expected = "#error] not reloaded"
        config.write_text(good + "x = 1\n")
        proxy.process.send_signal(signal.SIGHUP)
        (problem,) = waitUntil(lambda: self.state(proxy)["configuration"]["problems"], "a reload that fails")
        self.assertIn("there is no such key", problem)
        self.assertEqual(2, len(self.state(proxy)["routes"]))
        config.write_text(good)
        proxy.process.send_signal(signal.SIGHUP)
        waitUntil(lambda: not self.state(proxy)["configuration"]["problems"], "a good reload")

    def test_certificates(self) -> None:
        """
        The certificates are told with the days that they have left, and no key is.
        """
        proxy = self.watched(self.offload(1))
        state = self.state(proxy)
        (told,) = state["certificates"]
        self.assertEqual(["localhost", "127.0.0.1"], told["names"])
        self.assertTrue(39 < told["days_left"] <= 40, told)
        for path in ("/", "/metrics", "/status.json"):
            self.assertNotIn("PRIVATE", self.ask(proxy, path)[1])

    def test_loopback(self) -> None:
        """
        A port alone is one of loopback.
        """
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        proxy = self.watched(self.passthrough(1), status=str(port))
        self.assertEqual(f"http://127.0.0.1:{port}", self.at(proxy))

    def test_taken(self) -> None:
        """
        Where the address is taken nothing starts, and a sentence says so.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            config = self.folder / "taken.toml"
            config.write_text(
                f"[proxy]\nstatus = '{port}'\n[[route]]\nmode = 'passthrough'\n"
                "listen = '127.0.0.1:0'\nupstream = '127.0.0.1:1'\n"
            )
            done = self.run_([*self.program, "--config", str(config)], status=1)
        self.assertIn(f"cannot listen on 127.0.0.1:{port}: Address already in use", done.stderr.decode())

    def test_unwatched(self) -> None:
        """
        A proxy that is not asked to tell its status has nothing of it.
        """
        proxy = self.proxy(self.passthrough(1))
        text = json.dumps(re.findall(r"status", proxy.text()))
        self.assertEqual("[]", text)
