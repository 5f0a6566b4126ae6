# -*- test-case-name: tests.test_routes -*-
"""
Handlers of routes.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import ROUTES, ConfigurationTestCase
from tests.shouting import Quiet, Shout, installed
from tlsproxy import installed as looking
from tlsproxy import modekeys
from tlsproxy.config import Configuration, build, loadFile
from tlsproxy.errors import ConfigurationError
from tlsproxy.testing.certificates import NOW

START = {"name": "start"}
FIRST = {"name": "start", "first": True}


class HandledTests(ConfigurationTestCase):
    """
    Handlers of routes.
    """

    def setUp(self) -> None:
        """
        Have handlers.
        """
        super().setUp()
        self.installed = installed(self)

    def build(self, document: dict[str, Any]) -> Configuration:
        """
        Build what is expected to be good.
        """
        return build(document, self.folder, NOW, self.installed)

    def handled(self, mode: str, /, *handlers: Any, **more: Any) -> dict[str, str]:
        """
        Build a route with handlers that is expected to be bad.

        @return: The sentence of each key.
        """
        document = self.document(mode, handler=list(handlers), **more)
        error = self.assertRaises(ConfigurationError, self.build, document)
        for problem in error.problems:
            self.assertOneSentence(problem.sentence)
        return {problem.key.removeprefix("route[0]."): problem.sentence for problem in error.problems}

    def test_everyMode(self) -> None:
        """
        A route of any mode has its handlers, in their order; without any it has none.
        """
        for mode in ROUTES:
            document = self.document(mode, handler=[{"name": "shout", "score": "notes"}, {"name": "quiet"}])
            (route,) = self.build(document).routes
            self.assertEqual((Shout(score=self.folder / "notes"), Quiet()), route.handlers)
            self.assertEqual((), self.build(self.document(mode)).routes[0].handlers)

    def test_unasked(self) -> None:
        """
        Where no handler is configured, none is looked for.
        """

        def never(package: object) -> None:
            raise AssertionError("looked")

        self.patch(looking, "getCache", never)
        for mode in ROUTES:
            build(self.document(mode), self.folder, NOW)

    def test_eachRoute(self) -> None:
        """
        Each route has its own, and what is wrong with one is told at its key.
        """
        document = self.document("offload", handler=[{"name": "quiet"}])
        document["route"] += self.document("encrypt", handler=[{"name": "shout"}, {"name": "shout", "every": "x"}])[
            "route"
        ]
        error = self.assertRaises(ConfigurationError, self.build, document)
        self.assertEqual(["route[1].handler[1].every"], [problem.key for problem in error.problems])
        del document["route"][1]["handler"][1]["every"]
        one, other = self.build(document).routes
        self.assertEqual(((Quiet(),), (Shout(), Shout())), (one.handlers, other.handlers))

    def test_allAtOnce(self) -> None:
        """
        What is wrong with handlers is told beside all else, and without a mode, too.
        """
        expected = ["listen", "handler[0].every", "handler[1].name"]
        wrong = ({"name": "shout", "every": "x"}, {"name": "x"})
        self.assertEqual(sorted(expected), sorted(self.handled("bridge", *wrong, listen="99999")))
        self.assertEqual(sorted([*expected, "mode"]), sorted(self.handled("bridge", *wrong, listen="99999", mode=None)))

    def test_notThere(self) -> None:
        """
        A handler that starts TLS needs a mode that has it there.
        """
        for mode in ("passthrough", "connect"):
            sentence = f"mode {mode} starts no TLS, and handler start wants to"
            self.assertEqual({"handler[0].name": sentence}, self.handled(mode, START))
        for mode, side in (("offload", "far"), ("encrypt", "near")):
            self.assertIn(
                f"mode {mode} starts no TLS with", self.handled(mode, START | {"side": side})["handler[0].name"]
            )
        for mode in ("offload", "encrypt", "bridge"):
            self.build(self.document(mode, handler=[START]))
            self.assertEqual(["handler[1].name"], list(self.handled(mode, START, START)))
        self.build(self.document("bridge", handler=[START | {"side": "near"}, START | {"side": "far"}]))

    def test_blindRules(self) -> None:
        """
        Rules cannot go by a hello that comes after the upstream has been dialed.
        """
        rules = [
            {"sni": "a.example", "upstream": "a.example:1"},
            {"alpn": "h2", "client": "192.0.2.1", "upstream": "b.example:1"},
            {"client": "192.0.2.2", "refuse": "alert"},
            {"client": "192.0.2.3", "refuse": "close"},
        ]
        why = "handler start has the upstream dialed before there is a TLS hello"
        for mode in ("offload", "bridge"):
            self.assertEqual(
                {
                    "rule[0].sni": f"{why}, so its rules can go by client only",
                    "rule[1].alpn": f"{why}, so its rules can go by client only",
                    "rule[2].refuse": f'{why} to answer with an alert: write "close"',
                },
                self.handled(mode, FIRST, rule=rules),
            )
            self.build(self.document(mode, handler=[FIRST], rule=rules[3:]))
            self.build(self.document(mode, handler=[START], rule=rules))
        self.build(self.document("bridge", handler=[FIRST | {"side": "far"}], rule=rules))

    def test_blindProtocols(self) -> None:
        """
        A bridge cannot offer its upstream what is negotiated with the client only after the upstream's handshake.
        """
        near = FIRST | {"side": "near"}
        alpn = {"alpn": ["h2"]}
        self.assertEqual(
            {
                "tls.alpn": "handler start has the upstream dialed before there is a TLS hello, "
                "so what is chosen with it cannot be offered: leave this out"
            },
            self.handled("bridge", near, tls=alpn),
        )
        self.build(self.document("bridge", handler=[near]))
        self.build(self.document("bridge", handler=[FIRST], tls=alpn))
        self.build(self.document("bridge", handler=[START | {"side": "near"}], tls=alpn))
        self.build(self.document("offload", handler=[near], tls=alpn))

    def test_modesTogether(self) -> None:
        """
        The sides on which a mode has TLS are those of its tables.
        """
        for mode, sides in modekeys.SIDES.items():
            self.assertEqual(
                {"tls": "near", "upstream_tls": "far"}.keys() & modekeys.TAKES[mode],
                {{"near": "tls", "far": "upstream_tls"}[side] for side in sides},
            )

    def test_lines(self) -> None:
        """
        In a file each problem has its line; what is missing has the line of the handler.
        """
        text = (
            '[[route]]\nmode = "passthrough"\nlisten = "127.0.0.1:8443"\nupstream = "a.example:443"\n'
            '[[route.handler]]\nname = "shout"\nevery = 0\nothers = [\n  "a",\n  5,\n]\n'
            '[[route.handler]]\nname = "needy"\nmoar = 1\n'
            '[[route.handler]]\nname = "shot"\n'
            '[[route.handler]]\nword = "hush"\nname = "shout"\n'
            '[[route.handler]]\n# start\nname = "start"\n'
        )
        file = self.file(text)
        error = self.assertRaises(ConfigurationError, loadFile, file, NOW, self.installed)
        told = [str(problem).removeprefix(f"{file}:") for problem in error.problems]
        self.assertEqual(
            [
                "7: route.handler.every: 'every' must be >= 1: 0",
                "8: route.handler.others: give a string, not a number",
                "14: route.handler.moar: handler needy has no such option; do you mean more?; "
                "its options: file, most, more",
                "12: route.handler.file: handler needy needs it: where to write",
                "12: route.handler.most: handler needy needs it: how much to write",
                "16: route.handler.name: there is no handler 'shot'; do you mean shout?; "
                "installed: needy, quiet, shout, start",
                "17: route.handler: word is hush, which cannot be shouted",
                "22: route.handler.name: mode passthrough starts no TLS, and handler start wants to",
            ],
            told,
        )

    def test_inline(self) -> None:
        """
        Handlers may be told on one line.
        """
        text = ROUTES["passthrough"]
        lines = ["[[route]]", *(f'{key} = "{value}"' for key, value in text.items())]
        file = self.file("\n".join([*lines, 'handler = [{name = "quiet"}, {name = "shout", every = 2}]']))
        (route,) = loadFile(file, NOW, self.installed).routes
        self.assertEqual((Quiet(), Shout(every=2)), route.handlers)
        self.file("\n".join([*lines, 'handler = [{name = "quiet"},\n {name = "shout", every = "2"}]']))
        error = self.assertRaises(ConfigurationError, loadFile, file, NOW, self.installed)
        self.assertEqual(
            [f"{file}:6: route.handler.every: give a whole number, not the string '2'"], list(map(str, error.problems))
        )
