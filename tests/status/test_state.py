# -*- test-case-name: tests.status.test_state -*-
"""
L{tlsproxy.status.state}
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from tests.status.watching import WatchedCase
from tlsproxy.status.process import Lag
from tlsproxy.status.state import State


class Reloaded:
    """
    Two reloads that were good, and perhaps one that was not.
    """

    generation = 3
    at = 9.0
    problems = ("x.toml:1: it is wrong",)
    last: Any = None


class StateTests(WatchedCase):
    """
    The state of a proxy.
    """

    def route(self, name: str) -> dict[str, Any]:
        """
        What is told of a route.
        """
        (told,) = (one for one in self.state.tell()["routes"] if one["name"] == name)
        return told  # type: ignore[no-any-return]

    def test_quiet(self) -> None:
        """
        A proxy that nobody has used tells its routes, and zeros.
        """
        told = self.state.tell()
        self.assertEqual((True, "", False), (told["ready"], told["reason"], told["draining"]))
        shop = self.route("shop")
        keys = ("started", "sessions", "phases", "ended", "upstreams")
        self.assertEqual(("offload", ["127.0.0.1:8443"]), (shop["mode"], shop["listen"]))
        self.assertEqual((0, 0, {}, {}, []), tuple(shop[key] for key in keys))
        self.assertEqual(["shop", "mail"], [route["name"] for route in told["routes"]])
        self.assertEqual(told, json.loads(json.dumps(told)))

    def test_live(self) -> None:
        """
        What is open is told by phase and upstream, and its bytes count as they move, and once.
        """
        client = self.browse()
        waiting = self.visit("shop")
        self.talk(client, b"question", b"the answer")
        shop = self.route("shop")
        self.assertEqual((2, 2, {"idle": 1, "hello": 1}), (shop["started"], shop["sessions"], shop["phases"]))
        self.assertEqual((8, 10), (shop["received_bytes"], shop["sent_bytes"]))
        self.assertEqual(
            [{"address": "upstream.example:80", "sessions": 1, "reached": 1, "failed": 0}], shop["upstreams"]
        )
        self.assertEqual(2, self.state.tell()["process"]["sessions"])
        self.leave(client)
        waiting.close()
        self.network.settle()
        shop = self.route("shop")
        self.assertEqual((2, 0, {}), (shop["started"], shop["sessions"], shop["phases"]))
        self.assertEqual({"closed": {"half_closed": 1}, "ended": {"hello": 1}}, shop["ended"])
        self.assertEqual((8, 10), (shop["received_bytes"], shop["sent_bytes"]))
        self.assertEqual((1, {"TLSv1.3": 1}), (shop["handshakes"]["full"], shop["handshakes"]["versions"]))

    def test_nothingOfClients(self) -> None:
        """
        Neither who a client is nor what it says is told.
        """
        client = self.browse(serverName="secret.example")
        told = json.dumps(self.state.tell())
        self.assertNotIn("secret.example", told)
        self.assertNotIn("203.0.113.77", told)
        client.close()

    def test_limits(self) -> None:
        """
        Limits are told, and how often each was reached.
        """
        self.service.factories[0].reached["max_connections"] = 3
        self.service.gate.reached["descriptors"] = 4
        self.assertEqual({"max_connections": 3}, self.route("shop")["limits_reached"])
        process = self.state.tell()["process"]
        self.assertEqual({"max_connections": 0, "descriptors": 4}, process["limits_reached"])
        self.assertEqual((0, 0), (process["max_connections"], process["ports_paused"]))

    def test_process(self) -> None:
        """
        The process is told of.
        """
        self.network.advance(1)
        process = self.state.tell()["process"]
        self.assertEqual(1.0, process["uptime_seconds"])
        self.assertIn("OpenSSL", process["libssl"])
        self.assertTrue(process["descriptors"] and process["resident_bytes"])
        age = datetime.now(UTC) - datetime.fromisoformat(process["started"])
        self.assertTrue(-1 < age.total_seconds() < 600, age)

    def test_draining(self) -> None:
        """
        A service that drains is not ready, and says what it waits for; all else is told as before.
        """
        client = self.browse()
        draining = self.service.drain()
        told = self.state.tell()
        self.assertEqual((False, True), (told["ready"], told["draining"]))
        self.assertEqual("draining: 1 session is still open", told["reason"])
        self.assertEqual((1, []), (told["routes"][0]["sessions"], told["routes"][0]["listen"]))
        self.leave(client)
        self.successResultOf(draining)
        told = self.state.tell()
        self.assertEqual((False, False, "not listening"), (told["ready"], told["draining"], told["reason"]))

    def test_reload(self) -> None:
        """
        New routes are told of at once, one that keeps its name goes on counting, and one that is gone is told of for as
        long as it has sessions.
        """
        client = self.visit("mail")
        self.leave(self.browse())
        self.successResultOf(self.service.reload([self.shop(maxConnections=5), evolve(self.mail(), name="post")]))
        told = self.state.tell()["routes"]
        self.assertEqual(["shop", "post", "mail"], [route["name"] for route in told])
        self.assertEqual((1, 5), (told[0]["started"], told[0]["max_connections"]))
        self.assertEqual(("passthrough", [], 1), tuple(told[2][key] for key in ("mode", "listen", "sessions")))
        client.end()
        self.upstream.peers[0].end()
        self.network.settle()
        self.assertEqual(["shop", "post"], [route["name"] for route in self.state.tell()["routes"]])
        self.assertNotIn("mail", self.tally.routes)

    def test_reloads(self) -> None:
        """
        How the last reload went is told, with what was wrong.
        """
        quiet: dict[str, Any] = {"generation": 1, "reloaded": None, "problems": []}
        self.assertEqual(quiet, self.state.tell()["configuration"])
        clock = self.network.reactor
        reloads = Reloaded()
        self.state = State(self.service, self.tally, Lag(clock), clock, reloads)
        self.assertEqual(quiet | {"generation": 3}, self.state.tell()["configuration"])
        reloads.last = reloads
        told = {"generation": 3, "reloaded": "1970-01-01T00:00:09+00:00", "problems": ["x.toml:1: it is wrong"]}
        self.assertEqual(told, self.state.tell()["configuration"])
