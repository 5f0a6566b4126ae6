# -*- test-case-name: tests.test_handlertables -*-
"""
The tables of handlers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.configuring import ConfigurationTestCase
from tests.shouting import Needy, Quiet, Shout, Start, installed
from tlsproxy.handlertables import Told, fromWord, readHandlers, tellTLS, whyBlind
from tlsproxy.interfaces import FAR, NEAR
from tlsproxy.reading import Reader
from tlsproxy.watching import signatureOf


class ReadTests(ConfigurationTestCase):
    """
    From tables to options.
    """

    def setUp(self) -> None:
        """
        Have handlers.
        """
        super().setUp()
        self.installed = installed(self)

    def read(self, *tables: Any) -> tuple[Any, ...]:
        """
        Read what is expected to be good.
        """
        reader = Reader(self.folder)
        told = readHandlers(reader, list(tables), "handler", self.installed)
        self.assertEqual([], reader.problems)
        return tuple(one.options for one in told)

    def told(self, *tables: Any) -> dict[str, str]:
        """
        Read what is expected to be bad.

        @return: The sentence of each key.
        """
        reader = Reader(self.folder)
        readHandlers(reader, list(tables), "handler", self.installed)
        for problem in reader.problems:
            self.assertOneSentence(problem.sentence)
        return {problem.key: problem.sentence for problem in reader.problems}

    def test_read(self) -> None:
        """
        Handlers come in their order, with what is told of each, and else with its defaults; one may come twice.
        """
        full = {
            "every": 2,
            "pause": 1,
            "pitch": 220,
            "loud": False,
            "tune": "falling",
            "key": 3,
            "word": "fire",
            "others": ["a", "b"],
            "bars": [3, 4],
            "score": "notes",
            "most_bytes": "4k",
        }
        expected = Shout(
            every=2,
            pause=1.0,
            pitch=220.0,
            loud=False,
            tune="falling",
            key=3,
            word="fire",
            others=("a", "b"),
            bars=(3, 4),
            score=self.folder / "notes",
            mostBytes="4k",  # type: ignore[arg-type]
        )
        read = self.read({"name": "quiet"}, {"name": "shout", **full}, {"name": "shout"})
        self.assertEqual((Quiet(), expected, Shout()), read)
        self.assertEqual((4096, 220.0), (read[1].mostBytes, read[1].pitch))
        self.assertIsInstance(read[1].pitch, float)

    def test_files(self) -> None:
        """
        A file that is read by a handler is told to whoever reads all again when it changes; what is written is not.
        """
        reader = Reader(self.folder)
        tables = [{"name": "shout", "score": "ca.pem"}, {"name": "needy", "file": "out", "most": 1}]
        readHandlers(reader, tables, "handler", self.installed)
        file = str(self.folder / "ca.pem")
        self.assertEqual(({file: signatureOf(file)}, []), (reader.files, reader.problems))

    def test_noHandlers(self) -> None:
        """
        An empty list, or no list, is told: it could be an attempt to have a handler.
        """
        wrong: tuple[object, ...] = ([], {}, {"name": "shout"}, "shout", 5, True)
        for tables in wrong:
            reader = Reader(self.folder)
            self.assertEqual((), readHandlers(reader, tables, "route[0].handler", self.installed))
            (problem,) = reader.problems
            self.assertEqual("route[0].handler", problem.key)
            self.assertIn("each under [[route.handler]]", problem.sentence)

    def test_noTable(self) -> None:
        """
        What is no table is told, beside what is wrong with the others.
        """
        self.assertEqual(
            {"handler[0]": "give a table, not a string", "handler[2]": "give a table, not a number"},
            self.told("shout", {"name": "quiet"}, 5),
        )

    def test_names(self) -> None:
        """
        A name that is missing, is none, or is nobody's is told with what there is.
        """
        there = "installed: needy, quiet, shout, start"
        self.assertEqual(
            {
                "handler[0].name": f"say which handler; {there}",
                "handler[1].name": "give a string, not a number",
                "handler[2].name": f"there is no handler 'Shout'; do you mean shout?; {there}",
                "handler[3].name": f"say which handler; {there}",
            },
            self.told({}, {"name": 5, "x": 1}, {"name": "Shout"}, {"name": ""}),
        )

    def test_keys(self) -> None:
        """
        An option that the handler has not is told with the one that is meant, and all that it has.
        """
        sentences = self.told({"name": "shout", "evry": 1, "a b": 1, "startsTLS": [], "state": {}, "mostBytes": "4k"})
        self.assertEqual(
            [f"handler[0].{key}" for key in ("evry", '"a b"', "startsTLS", "state", "mostBytes")], list(sentences)
        )
        self.assertTrue(
            sentences["handler[0].evry"].startswith(
                "handler shout has no such option; do you mean every?; its options: "
            )
        )
        self.assertIn("do you mean most_bytes?", sentences["handler[0].mostBytes"])
        self.assertEqual(
            {"handler[0].x": "handler quiet has no such option; it has no options"},
            self.told({"name": "quiet", "x": 1}),
        )

    def test_values(self) -> None:
        """
        All that is wrong with the values is told at once, each at its key: the type, what a validator says, and what a
        converter says.
        """
        self.assertEqual(
            {
                "handler[0].every": "'every' must be >= 1: 0",
                "handler[0].loud": "give true or false, not the string 'yes'",
                "handler[0].tune": '\'risin\' is not one of "rising", "falling"; do you mean rising?',
                "handler[0].key": "4 is not one of 1, 2, 3",
                "handler[0].others": "give a string, not a number",
                "handler[0].score": "'~nobody-has-this-name/x' starts from a home that nobody has",
                "handler[0].most_bytes": "'4m' does not end in k",
            },
            self.told(
                {
                    "name": "shout",
                    "every": 0,
                    "loud": "yes",
                    "tune": "risin",
                    "key": 4,
                    "others": ["a", 1],
                    "score": "~nobody-has-this-name/x",
                    "most_bytes": "4m",
                }
            ),
        )

    def test_required(self) -> None:
        """
        Each option that has to be given and is not is told, with what it is.
        """
        self.assertEqual(
            {
                "handler[0].file": "handler needy needs it: where to write",
                "handler[0].most": "handler needy needs it: how much to write",
            },
            self.told({"name": "needy", "more": 1}),
        )
        self.assertEqual(
            {
                "handler[0].more": "give a whole number, not the string 'x'",
                "handler[0].file": "handler needy needs it: where to write",
            },
            self.told({"name": "needy", "more": "x", "most": 1}),
        )
        self.assertRegex(self.told({"name": "needy", "file": "x", "most": 3})["handler[0].most"], "^'most' must be in ")
        self.assertEqual((Needy(file=self.folder / "x", most=2),), self.read({"name": "needy", "file": "x", "most": 2}))

    def test_whole(self) -> None:
        """
        What the class itself says is told of the handler.
        """
        self.assertEqual(
            {"handler[0]": "word is hush, which cannot be shouted"}, self.told({"name": "shout", "word": "hush"})
        )

    def test_bugs(self) -> None:
        """
        Whatever goes wrong in the making of a handler is told as its own, and leaves the others to be read.
        """
        source = (
            "from attrs import field, frozen\nfrom tlsproxy.handler import HandlerOptions, option\n"
            "from tlsproxy.plugin import HandlerFactory\n"
            "@frozen(kw_only=True)\nclass Bad(HandlerOptions):\n"
            "    less: int = option(1, 'h', validator=lambda self, field, value: self.more + 1)\n"
            "    more: int = option(2, 'h')\n"
            "    how: str = option('', 'h')\n"
            "    @property\n    def startsTLS(self): return 1 / 0 if self.how == 'sides' else frozenset()\n"
            "    def __attrs_post_init__(self):\n"
            "        if self.how == 'bug': raise KeyError('what')\n"
            "        if self.how == 'file': open('/nowhere/at/all')\n"
            "bad = HandlerFactory('bad', __name__ + '.Bad', 'h')\n"
        )
        self.installed = installed(self, bad=source)
        self.assertEqual(1, len(self.read({"name": "bad", "less": 5})))
        self.assertEqual(
            {
                "handler[0]": "KeyError: what",
                "handler[1]": "ZeroDivisionError: division by zero",
                "handler[2]": "/nowhere/at/all: No such file or directory",
            },
            self.told(*({"name": "bad", "how": how} for how in ("bug", "sides", "file"))),
        )


class StartTests(SynchronousTestCase):
    """
    Handlers that start TLS.
    """

    def handlers(self, *sides: str, first: bool = False) -> tuple[Told, ...]:
        """
        Tell handlers that start TLS on these sides.
        """
        return tuple(
            Told(path=f"h[{n}]", name=f"start{n}", options=one, startsTLS=one.startsTLS, serverFirst=one.serverFirst)
            for n, one in enumerate(Start(side=side, first=first) for side in sides)
        )

    def told(self, mode: str, sides: tuple[str, ...], *starts: str) -> dict[str, str]:
        """
        Find what is wrong with handlers that start TLS.
        """
        reader = Reader(Path())
        tellTLS(reader, self.handlers(*starts), mode, sides)
        return {problem.key: problem.sentence for problem in reader.problems}

    def test_sides(self) -> None:
        """
        A handler starts TLS on a side on which the mode has it; another side that it could start it on is no matter.
        """
        for side in ("near", "far", "both"):
            self.assertEqual({}, self.told("bridge", (NEAR, FAR), side))
        self.assertEqual({}, self.told("offload", (NEAR,), "both"))
        self.assertEqual({}, self.told("encrypt", (FAR,), "both"))
        self.assertEqual({}, self.told("bridge", (NEAR, FAR), "near", "far"))
        self.assertEqual({}, self.told("passthrough", ()))
        self.assertEqual(
            {"h[0].name": "mode passthrough starts no TLS, and handler start0 wants to"},
            self.told("passthrough", (), "both"),
        )
        self.assertEqual(
            {"h[0].name": "mode offload starts no TLS with the upstream, and handler start0 wants to"},
            self.told("offload", (NEAR,), "far"),
        )
        self.assertEqual(
            {"h[0].name": "mode encrypt starts no TLS with its clients, and handler start0 wants to"},
            self.told("encrypt", (FAR,), "near"),
        )

    def test_two(self) -> None:
        """
        On one side TLS is started by one handler.
        """
        self.assertEqual(
            {"h[1].name": "handler start0 before it starts the TLS with its clients: leave one of them out"},
            self.told("bridge", (NEAR, FAR), "both", "near"),
        )
        self.assertEqual({}, self.told("offload", (NEAR,), "near"))
        self.assertEqual(["h[1].name", "h[2].name"], list(self.told("offload", (NEAR,), "near", "far", "both")))

    def test_blind(self) -> None:
        """
        Rules see no hello where the upstream is dialed before the TLS that the client's hello starts.
        """
        self.assertEqual("", whyBlind(self.handlers("near"), (NEAR,)))
        self.assertEqual("", whyBlind(self.handlers("far", first=True), (NEAR, FAR)))
        self.assertEqual("", whyBlind(self.handlers("both", first=True), (FAR,)))
        self.assertEqual("", whyBlind((), (NEAR,)))
        self.assertEqual(
            "handler start0 has the upstream dialed before there is a TLS hello",
            whyBlind(self.handlers("near", first=True), (NEAR,)),
        )
        self.assertIn("handler start0 ", whyBlind((*self.handlers("near"), *self.handlers("far", first=True)), (NEAR,)))


class WordTests(SynchronousTestCase):
    """
    Handlers on the command line.
    """

    def test_words(self) -> None:
        """
        A word is a name and its options; a backslash takes the meaning from what follows.
        """
        for word, table in (
            ("tap", {"name": "tap"}),
            ("", {"name": ""}),
            ("tap:pcap=/x", {"name": "tap", "pcap": "/x"}),
            ("tap:pcap=/x:size=5", {"name": "tap", "pcap": "/x", "size": "5"}),
            (r"tap:pcap=C\:\\x", {"name": "tap", "pcap": "C:\\x"}),
            ("tap:pcap=a=b", {"name": "tap", "pcap": "a=b"}),
            (r"tap:pcap=a\=b", {"name": "tap", "pcap": "a=b"}),
            ("tap:pcap=", {"name": "tap", "pcap": ""}),
            ("tap:word=a:word=b:word=c", {"name": "tap", "word": ["a", "b", "c"]}),
            ("tap:a=\n", {"name": "tap", "a": "\n"}),
            ("tap:a=x\\", {"name": "tap", "a": "x\\"}),
        ):
            self.assertEqual(table, fromWord(word), word)

    def test_refused(self) -> None:
        """
        What is no option is told.
        """
        for word, sentence in (
            ("tap:", "give KEY=VALUE, not ''; a colon in a value is written \\:"),
            ("tap:pcap", "give KEY=VALUE, not 'pcap'; a colon in a value is written \\:"),
            ("tap:=x", "give KEY=VALUE, not '=x'; a colon in a value is written \\:"),
            ("tap:a=1::b=2", "give KEY=VALUE, not ''; a colon in a value is written \\:"),
            ("tap:name=x", "the handler's name stands in front, as in NAME:KEY=VALUE"),
        ):
            self.assertEqual(sentence, str(self.assertRaises(ValueError, fromWord, word)))
