# -*- test-case-name: tests.test_keeping -*-
"""
L{tlsproxy.keeping}: what was loaded of files, kept for as long as these stay as they are.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from attrs import field, frozen

from tests.configuring import ConfigurationTestCase
from tests.test_watching import FilesCase
from tlsproxy.config import build
from tlsproxy.errors import ConfigurationError
from tlsproxy.keeping import Kept, Sightings, filesOf
from tlsproxy.testing.certificates import NOW
from tlsproxy.tls.policy import CertificateFiles, ClientPolicy, NSSDatabase, ServerPolicy
from tlsproxy.watching import signatureOf


class Loaded:
    """
    What was loaded.
    """

    files: tuple[str, ...] = ()


class FilesOfTests(FilesCase):
    """
    What a policy names.
    """

    def test_server(self) -> None:
        """
        Certificates, keys and authorities are files; other words are none.
        """
        policy = ServerPolicy(cert=CertificateFiles("/c", "/k"), clientCa=("/a", "/b"), alpn=("/h",))
        self.assertEqual(["/a", "/b", "/c", "/k"], sorted(filesOf(policy)))
        self.assertEqual(["/c"], [*filesOf(ServerPolicy(cert=CertificateFiles("/c")))])

    def test_databases(self) -> None:
        """
        Of a folder with an NSS database, only that counts: a browser writes beside it all the time.
        """
        files = ["/p/cert9.db", "/p/key4.db", "/w"]
        self.assertEqual(files, [*filesOf(ServerPolicy(cert=NSSDatabase("/p", "N", "/w")))])

    def test_system(self) -> None:
        """
        What the system trusts is where systems have it, or where the environment says.
        """
        self.patch(os, "environ", {"SSL_CERT_FILE": "/else"})
        files = {*filesOf(ClientPolicy(ca=("system", "/a")))}
        self.assertTrue({"/a", "/else", "/etc/ssl/certs/ca-certificates.crt"} < files)
        self.assertNotIn("system", files)

    def test_inside(self) -> None:
        """
        So it is with values inside of others.
        """

        @frozen
        class Host:
            """
            A part.
            """

            ca: tuple[str, ...] = field(metadata={"kind": "files"})

        @frozen
        class Whole:
            """
            The whole.
            """

            hosts: tuple[Host, ...]
            password: str = field(metadata={"kind": "file"})

        whole = Whole((Host(("/a",)), Host(("/b",))), "")
        self.assertEqual(["/a", "/b"], sorted(filesOf(whole)))


class KeptTests(FilesCase):
    """
    Loading several times.
    """

    def setUp(self) -> None:
        """
        Have nothing.
        """
        super().setUp()
        self.kept = Kept()
        self.seen = Sightings()
        self.problem: Exception | None = None

    def load(self, *files: str, key: str = "key", more: tuple[str, ...] = ()) -> Any:
        """
        Load something.
        """

        def load() -> Loaded:
            if self.problem is not None:
                raise self.problem
            loaded = Loaded()
            loaded.files = more
            return loaded

        self.seen = Sightings()
        return self.kept.load(key, files, self.seen, load)

    def test_kept(self) -> None:
        """
        What nothing has changed of is the same, in one turn and from turn to turn; its files are seen all the same.
        """
        path = self.file("a")
        first = self.load(path)
        self.assertIs(first, self.load(path))
        for _ in range(3):
            self.kept.settle(good=True)
            self.assertIs(first, self.load(path))
            self.assertEqual({path: signatureOf(path)}, self.seen)

    def test_changed(self) -> None:
        """
        Where a file has changed, is gone or is back, it is loaded anew.
        """
        path = self.file("a")
        loaded = [self.load(path)]
        for change in (lambda: self.file("a", "x"), lambda: os.unlink(path), lambda: self.file("a", "x")):
            self.kept.settle(good=True)
            change()
            loaded.append(self.load(path))
        self.assertEqual(4, len({*loaded}))

    def test_key(self) -> None:
        """
        So it is where something else is wanted of the same files.
        """
        path = self.file("a")
        self.assertIsNot(self.load(path), self.load(path, key="other"))

    def test_found(self) -> None:
        """
        Files that are known only when it is loaded count, too.
        """
        path = self.file("a")
        first = self.load(more=(path,))
        self.assertEqual({path: signatureOf(path)}, self.seen)
        self.assertIs(first, self.load(more=(path,)))
        self.file("a", "x")
        self.assertIsNot(first, self.load(more=(path,)))

    def test_folder(self) -> None:
        """
        A folder changes with what is inside.
        """
        inside = self.file("a")
        loaded = [self.load(str(self.folder))]
        self.assertIn(inside, self.seen)
        for name in ("b", "a"):
            self.file(name, "xyz")
            loaded.append(self.load(str(self.folder)))
        self.assertIs(loaded[-1], self.load(str(self.folder)))
        self.assertEqual(3, len({*loaded}))

    def test_bad(self) -> None:
        """
        What cannot be loaded raises, and its files are seen; what was loaded before is not lost by that.
        """
        one, other = self.file("a"), self.file("b")
        first = self.load(one)
        self.kept.settle(good=True)
        self.problem = ValueError()
        self.assertRaises(ValueError, self.load, other, key="other")
        self.assertEqual({other: signatureOf(other)}, self.seen)
        self.kept.settle(good=False)
        self.assertIs(first, self.load(one))

    def test_forgotten(self) -> None:
        """
        What is not asked for any more is not kept.
        """
        path = self.file("a")
        first = self.load(path)
        self.kept.settle(good=True)
        self.kept.settle(good=True)
        self.assertIsNot(first, self.load(path))


class BuildTests(ConfigurationTestCase):
    """
    Configurations that are read again.
    """

    def read(self, document: dict[str, Any]) -> Any:
        """
        Read one.
        """
        configuration = build(document, self.folder, NOW, kept=self.kept)
        self.files = configuration.files
        return configuration.routes[0].pattern

    def test_tls(self) -> None:
        """
        The TLS of a side whose policy and files stay is kept, so that sessions can be resumed; only the other is new.
        """
        self.kept = Kept()
        document = self.document("bridge")
        first = self.read(document)
        same = self.read(document)
        self.assertEqual((True, True), (first.tls is same.tls, first.upstreamTLS is same.upstreamTLS))
        server = self.folder / "server.pem"
        server.write_text(server.read_text() + "\n")
        after = self.read(document)
        self.assertEqual((False, True), (first.tls is after.tls, first.upstreamTLS is after.upstreamTLS))
        other = self.read(self.document("bridge", upstream="other.example:443"))
        self.assertEqual((True, False), (after.tls is other.tls, after.upstreamTLS is other.upstreamTLS))

    def test_nextDay(self) -> None:
        """
        On another day it is looked at anew, since what is valid may not be so any more.
        """
        self.kept = Kept()
        first = self.read(self.document("bridge"))
        later = build(self.document("bridge"), self.folder, NOW + timedelta(days=1), kept=self.kept)
        pattern: Any = later.routes[0].pattern
        self.assertIsNot(first.tls, pattern.tls)

    def test_files(self) -> None:
        """
        A configuration tells what it was read from, and so does one that is bad.
        """
        self.kept = Kept()
        self.read(self.document("bridge", tls={"client_ca": "ca.pem", "cert": "chain.pem", "key": "key.pem"}))
        expected = {str(self.folder / name) for name in ("chain.pem", "key.pem", "ca.pem")}
        self.assertEqual(expected, {*self.files})
        self.read(self.document("connect", users="users.txt"))
        self.assertEqual([str(self.folder / "users.txt")], [*self.files])
        e = self.assertRaises(ConfigurationError, self.read, self.document("connect", users="nobody.txt"))
        self.assertEqual({str(self.folder / "nobody.txt"): None}, e.files)
        e = self.assertRaises(ConfigurationError, self.read, self.document("offload", tls={"cert": "nothing.pem"}))
        self.assertEqual({str(self.folder / "nothing.pem"): None}, e.files)
