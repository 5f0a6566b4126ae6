# -*- test-case-name: tests.commands.test_enroll -*-
"""
L{tlsproxy.commands.enroll}: C{tlsproxy enroll}, but for the network.
"""

from __future__ import annotations

import io
import os
import sys
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.commands.tool import ToolTestCase
from tests.enrolling.enrolled import mappingOf
from tlsproxy.commands import enroll
from tlsproxy.enrolling.asking import AskingFailed
from tlsproxy.enrolling.joining import Joined
from tlsproxy.enrolling.possession import certified, newKey
from tlsproxy.signedmapping import readFacts
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.issuing import Issuer
from tlsproxy.wire.enrolltoken import Token

URL = "https://enroll.dmz.example:8443/"
TOKEN = Token.new(bytes(32), bytes(32))


class EnrollTests(ToolTestCase):
    """
    What is asked for, and what is printed.
    """

    def setUp(self) -> None:
        """
        Have it come to an end at once.
        """
        super().setUp()
        self.patch(enroll, "_run", lambda work: self.end(work))
        self.patch(enroll, "join", self._join)
        self.joins: list[tuple[Any, ...]] = []
        self.raises: BaseException | None = None
        self.configured = True
        (self.folder / "token").write_text(str(TOKEN) + "\n")
        (self.folder / "token").chmod(0o600)

    def end(self, work: Any) -> Any:
        """
        Do it without a reactor.
        """
        done: list[Any] = []
        Deferred.fromCoroutine(work(Clock())).addBoth(done.append)
        if isinstance(self.raises, (KeyboardInterrupt, EOFError)):
            raise self.raises
        if self.raises is not None:
            done[0].raiseException()
        return done[0]

    async def _join(self, folder: Any, token: Token, asking: Any, **how: Any) -> Joined:
        self.joins.append((folder, token, asking, how))
        if self.raises is not None and isinstance(self.raises, Exception):
            raise self.raises
        key = newKey()
        issuer, _ = Issuer.create("proxies.example", timedelta(days=10), NOW)
        pem = issuer.issue("laptop", key.public_key(), NOW + timedelta(days=7), NOW).public_bytes(Encoding.PEM)
        return Joined(certified(pem, key, NOW), readFacts(mappingOf(7)), (), self.configured)

    def enroll(self, *words: str, file: str = "token", status: int = 0) -> tuple[str, str]:
        """
        Enroll.
        """
        return self.run_("enroll", URL, "--token-file", file, "--directory", "mine", *words, status=status)

    def test_printed(self) -> None:
        """
        What is printed says what was checked, what was written, and what to do next, in few lines.
        """
        printed, told = self.enroll()
        mine = self.folder / "mine"
        self.assertEqual("", told)
        self.assertEqual(
            [
                "Enrolled as laptop, spiffe://proxies.example/laptop.",
                "",
                "Checked:",
                "  the reverse proxy's certificate, by the CA that the token names",
                "  the certificate for the key that was made here: until 2026-11-27 12:00 UTC",
                "  the mapping, by the key that the token names: version 7, until 2026-12-29 00:00 UTC",
                "",
                f"Written into {mine}:",
                "  client.pem, reverse-proxy-ca.pem, mapping.signed, enrollment.json, client-proxy.toml",
                "",
                "The token is used up: rm token",
                "",
                "Start the client proxy, which renews all this by itself:",
                f"  twistd -n tlsproxy --config {mine}/client-proxy.toml",
                "and have the browser use it:",
                f"  tlsproxy browser --config {mine}/client-proxy.toml",
            ],
            printed.splitlines(),
        )
        self.configured = False
        self.assertIn("(client-proxy.toml was there, and has been left as it is)", self.enroll()[0])

    def test_defaults(self) -> None:
        """
        Without further words, all lies in the state folder, and the configuration listens on the usual port.
        """
        self.patch(enroll, "stateDirectory", lambda given: self.folder / "state")
        self.run_("enroll", URL, "--token-file", "token")
        ((folder, token, asking, how),) = self.joins
        self.assertEqual((self.folder / "state" / "client-proxy", TOKEN), (folder.path, token))
        self.assertEqual((URL, ""), (how["url"], how["connect"]))
        (route,) = tomllib.loads(how["configuration"].decode())["route"]
        expected = {"name": "client-proxy", "mode": "sequential-client", "listen": "127.0.0.1:3128", "enrollment": "."}
        self.assertEqual(expected, route)
        self.assertEqual("enroll.dmz.example:8443", str(asking._where))

    def test_home(self) -> None:
        """
        A home is found, and nobody's is a name like any other.
        """
        for given, path in (
            ("~/x", os.path.expanduser("~/x")),
            ("~nobody at all/x", str(self.folder / "~nobody at all/x")),
        ):
            self.enroll("--directory", given)
            self.assertEqual(path, str(self.joins[-1][0]))

    def test_words(self) -> None:
        """
        What is said otherwise holds, for the enrollment and for the configuration.
        """
        (self.folder / "password").write_text("secret\n")
        (self.folder / "password").chmod(0o600)
        words = "--connect", "192.0.2.1", "--listen", "[::1]:9", "--upstream-proxy", "http://ann@proxy.example:3128"
        self.enroll(*words, "--upstream-proxy-password-file", "password")
        ((_, _, asking, how),) = self.joins
        self.assertEqual("192.0.2.1:8443", how["connect"])
        self.assertEqual(("192.0.2.1:8443", "ann"), (str(asking._where), asking._proxy.user))
        self.assertEqual("secret", asking._proxy.password)
        (route,) = tomllib.loads(how["configuration"].decode())["route"]
        self.assertEqual("[::1]:9", route["listen"])
        self.assertEqual("http://ann@proxy.example:3128", route["upstream_proxy"])
        self.assertEqual(str(self.folder / "password"), route["upstream_proxy_password_file"])
        self.assertNotIn(b"secret", how["configuration"])

    def test_token(self) -> None:
        """
        A token is read from a file or from the standard input, with whatever ends its line, and a file that others can
        read is told of.
        """
        for text in (f"{TOKEN}", f"{TOKEN}\r\n", f"  {TOKEN}\n\n"):
            (self.folder / "token").write_bytes(text.encode())
            self.assertEqual("", self.enroll()[1])
            self.patch(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
            self.assertNotIn("rm ", self.enroll(file="-")[0])
        self.assertEqual({TOKEN}, {join[1] for join in self.joins})
        (self.folder / "token").chmod(0o644)
        self.assertIn("warning: token holds a token and is open to others than its owner", self.enroll()[1])

    def test_noToken(self) -> None:
        """
        What is no token is told of, and not shown.
        """
        text = str(TOKEN)
        for bad in (
            b"",
            b"secret",
            text[:-5].encode(),
            f"{text}\n{text}\n".encode(),
            b"\xff" * 9,
            text.encode() + b"x",
        ):
            (self.folder / "token").write_bytes(bad)
            told = self.refused("enroll", URL, "--token-file", "token")
            self.assertIn("token does not hold a token: ", told)
            self.assertNotIn("secret", told)
            self.assertNotIn(text[20:60], told)
        self.assertIn("does not exist", self.refused("enroll", URL, "--token-file", "none"))
        told = self.refused("enroll", URL, "--token-file", text)
        self.assertIn("that is the token itself", told)
        self.assertNotIn(text[20:60], told)
        self.assertEqual([], self.joins)

    def test_usage(self) -> None:
        """
        Words that cannot be meant are wrong usage.
        """
        for words in (
            ("http://enroll.dmz.example", "--token-file", "token"),
            ("https://ann:secret@dmz.example", "--token-file", "token"),
            ("https://192.0.2.1", "--token-file", "token"),
            (URL,),
            ("--token-file", "token"),
            (URL, "--token-file", "token", "--listen", "0.0.0.0:3128"),
            (URL, "--token-file", "token", "--listen", "x:y"),
            (URL, "--token-file", "token", "--connect", "a:b:c"),
        ):
            self.assertNotIn("secret", self.refused("enroll", *words, status=2))
        proxy = ("--upstream-proxy", "http://ann@proxy.example:1")
        password = ("--upstream-proxy-password-file", "token")
        for words in (proxy, password, ("--upstream-proxy", "x")):
            self.refused("enroll", URL, "--token-file", "token", *words)
        self.assertEqual([], self.joins)

    def test_proxyNamed(self) -> None:
        """
        What is wrong with the proxy on the way is told by the names of the options.
        """
        for url, words in (("x", "--upstream-proxy: 'x'"), ("http://a:b@c:1", "give --upstream-proxy-password-file")):
            told = self.refused("enroll", URL, "--token-file", "token", "--upstream-proxy", url)
            self.assertIn(words, told)
            self.assertNotIn("upstream_proxy", told)
        self.raises = AskingFailed("give USER@ before its host in upstream_proxy, and upstream_proxy_password_file")
        told = self.enroll(status=1)[1]
        self.assertIn("in --upstream-proxy, and --upstream-proxy-password-file", told)

    def test_fails(self) -> None:
        """
        What goes wrong is one sentence.
        """
        self.raises = AskingFailed("the reverse proxy refuses connections")
        self.assertEqual(("", "tlsproxy: the reverse proxy refuses connections\n"), self.enroll(status=1))
        unknown = "the reverse proxy enroll.dmz.example:8443 has a name that does not resolve"
        self.raises = AskingFailed(unknown)
        told = self.enroll(status=1)[1]
        self.assertEqual(f"tlsproxy: {unknown}: say where it is by --connect HOST:PORT\n", told)
        self.assertEqual(f"tlsproxy: {unknown}\n", self.enroll("--connect", "dmz.example:8443", status=1)[1])
        self.raises = KeyboardInterrupt()
        self.assertIn("run the same again to go on", self.enroll(status=1)[1])


class ConfigurationTests(ToolTestCase):
    """
    What is written.
    """

    def test_strange(self) -> None:
        """
        Whatever a path is called, it is read as it was meant.
        """
        name = 'a "b\\c'
        (route,) = tomllib.loads(enroll.configurationFor("unix:x y", "", name).decode())["route"]
        self.assertEqual("unix:x y", route["listen"])
        self.assertEqual(str(Path(name).absolute()), route["upstream_proxy_password_file"])
