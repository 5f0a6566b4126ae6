"""
Tests for L{tlsproxy.tls.identities}.
"""

from __future__ import annotations

import gc
import os
import time
import weakref
from pathlib import Path

from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import Holder, certify, write
from tlsproxy.tls.identities import Found, findIdentities, identitiesIn
from tlsproxy.tls.sources import CertificateFiles, CertificateSource, PKCS12File

CA = certify("CA")
INTERMEDIATE = certify("Intermediate", CA)


def holder(name: str) -> Holder:
    """
    Make a certificate for a name.
    """
    return certify(name, INTERMEDIATE, names=[x509.DNSName(name)])


SHOP, FORUM = holder("shop.example"), holder("forum.example")


class FolderCase(SynchronousTestCase):
    """
    A test with a folder for files.

    @ivar folder: the folder.
    """

    def setUp(self) -> None:
        """
        Make the folder.
        """
        self.folder = self.mktemp()
        os.mkdir(self.folder)

    def path(self, name: str) -> str:
        """
        Tell the path of a file of the folder.
        """
        return os.path.join(self.folder, name)

    def write(self, name: str, *parts: bytes, mode: int = 0o600) -> str:
        """
        Write a file of the folder.
        """
        return write(self.path(name), *parts, mode=mode)

    def find(self, *sources: CertificateSource) -> Found:
        """
        Load what is expected to be good.
        """
        found = findIdentities(sources)
        self.assertEqual([], found.problems)
        return found

    def names(self, *sources: CertificateSource) -> list[str]:
        """
        Tell the names of the certificates that are found.
        """
        return [identity.names[0] for identity in self.find(*sources).identities]

    def told(self, *sources: CertificateSource) -> list[tuple[str, str]]:
        """
        Tell what is wrong, with the folder left out.
        """
        return [(place, words.replace(self.folder, "F")) for place, words in findIdentities(sources).problems]


class SourceTests(FolderCase):
    """
    All that can be named.
    """

    def test_forms(self) -> None:
        """
        Bundles, pairs and PKCS#12 files come in the order in which they are named, each with its chain and its files.
        """
        bundle = CertificateFiles(self.write("a.pem", SHOP.pem(), INTERMEDIATE.pem(), SHOP.keyPEM()))
        pair = CertificateFiles(self.write("b.crt", FORUM.pem()), self.write("b.key", FORUM.keyPEM()))
        plain = PKCS12File(self.write("c.p12", SHOP.pkcs12(b"", CA, INTERMEDIATE)))
        locked = PKCS12File(self.write("d.bin", FORUM.pkcs12(b"x")), self.write("d.txt", b"x\n"))
        found = self.find(pair, locked, bundle, plain)
        chains = [[each.subject.rfc4514_string() for each in one.chain] for one in found.identities]
        shop, forum, above = "CN=shop.example", "CN=forum.example", "CN=Intermediate"
        self.assertEqual([[forum], [forum], [shop, above], [shop, above]], chains)
        self.assertEqual(
            [["b.crt", "b.key"], ["d.bin", "d.txt"], ["a.pem"], ["c.p12"]],
            [[os.path.basename(file) for file in one.files] for one in found.identities],
        )
        self.assertEqual([file for one in found.identities for file in one.files], found.files)
        self.assertEqual([()] * 4, [one.warnings for one in found.identities])

    def test_problems(self) -> None:
        """
        Everything that is wrong is told at once, with its place where there are several; what is good is found.
        """
        good = CertificateFiles(self.write("a.pem", SHOP.pem(), SHOP.keyPEM()))
        bad = CertificateFiles(self.write("b.pem", SHOP.pem(), FORUM.keyPEM()))
        worse = PKCS12File(self.path("c.p12"))
        found = findIdentities([bad, good, worse])
        self.assertEqual(["[0]", "[2]"], [place for place, _ in found.problems])
        self.assertIn("does not match", found.problems[0][1])
        self.assertIn("c.p12 does not exist", found.problems[1][1])
        self.assertEqual([bad.chain, good.chain, worse.path], found.files)
        self.assertEqual(1, len(found.identities))
        self.assertEqual([""], [place for place, _ in findIdentities([bad]).problems])

    def test_sharedIssuers(self) -> None:
        """
        One that issued many certificates is kept once.
        """
        for number in range(3):
            one = holder(f"{number}.example")
            self.write(f"{number}.pem", one.pem(), INTERMEDIATE.pem(), one.keyPEM())
        found = self.find(CertificateFiles(self.folder))
        self.assertEqual(1, len({id(one.chain[1]) for one in found.identities}))


class DirectoryTests(FolderCase):
    """
    Directories of certificates.
    """

    def test_forms(self) -> None:
        """
        Every file with a certificate is found, in the order of their names, each with the key beside it or in it.
        """
        self.write("b.pem", SHOP.pem(), SHOP.keyPEM())
        self.write("a.crt", SHOP.pem())
        self.write("a.key", SHOP.keyPEM())
        self.write("c.pem", SHOP.pem())
        self.write("c-key.pem", SHOP.keyPEM())
        self.write("d.p12", SHOP.pkcs12())
        self.write("e.pfx", SHOP.pkcs12())
        self.write("f.crt", SHOP.pem(), SHOP.keyPEM())
        self.write("g-key.pem", SHOP.pem(), SHOP.keyPEM())
        self.write("h.pem", SHOP.pem())
        self.write("h.key", SHOP.keyPEM())
        found = self.find(CertificateFiles(self.folder))
        self.assertEqual(
            [["a.crt", "a.key"], ["b.pem"], ["c.pem", "c-key.pem"], ["d.p12"], ["e.pfx"], ["f.crt"], ["g-key.pem"]]
            + [["h.pem", "h.key"]],
            [[os.path.basename(file) for file in one.files] for one in found.identities],
        )
        self.assertEqual(self.folder, found.files[0])

    def test_others(self) -> None:
        """
        What is called otherwise, or hidden, or a link to elsewhere is no trouble, as where Kubernetes mounts a secret.
        """
        data = self.path("..2026_11_20")
        os.mkdir(data)
        os.symlink("..2026_11_20", self.path("..data"))
        write(f"{data}/tls.crt", SHOP.pem())
        write(f"{data}/tls.key", SHOP.keyPEM())
        os.symlink("..data/tls.crt", self.path("tls.crt"))
        os.symlink("..data/tls.key", self.path("tls.key"))
        self.write("README", b"Hello")
        self.write("shop.csr", b"Hello")
        self.write(".pem", b"Hello")
        os.mkdir(self.path("old"))
        self.assertEqual(["shop.example"], self.names(CertificateFiles(self.folder)))

    def test_unusable(self) -> None:
        """
        Each file that should be a certificate and cannot be used is told by its name.
        """
        self.write("a.pem", SHOP.pem())
        self.write("b.key", SHOP.keyPEM())
        self.write("c.crt", SHOP.pem())
        self.write("c.key", SHOP.keyPEM())
        self.write("c-key.pem", SHOP.keyPEM())
        self.write("d-key.pem", SHOP.keyPEM())
        os.mkdir(self.path("e.pem"))
        os.symlink("nowhere", self.path("f.p12"))
        self.write("g.pem", SHOP.pem(), SHOP.keyPEM())
        told = dict(self.told(CertificateFiles("nope.pem"), CertificateFiles(self.folder)))
        self.assertIn("nope.pem does not exist", told.pop("[0]"))
        self.assertEqual([f"[1][{number}]" for number in range(6)], list(told))
        for words, sentence in zip(
            (
                "F/e.pem is no file: remove it",
                "F/f.p12 is no file: remove it",
                "F/b.key has no certificate beside it: put that into b.crt",
                "F/c.crt has two keys beside it, c.key and c-key.pem: remove one",
                "F/a.pem holds no private key, only CERTIFICATE: name the file that has it by key, or in a folder "
                "call that file a.key",
                "F/d-key.pem holds no certificate, only PRIVATE KEY: ",
            ),
            told.values(),
            strict=True,
        ):
            self.assertTrue(sentence.startswith(words), sentence)

    def test_empty(self) -> None:
        """
        A directory without any certificate is no certificate.
        """
        self.write("README", b"Hello")
        self.assertEqual(
            [("[0]", "F holds no certificate: put files into it, each called NAME.pem with its key in it")],
            self.told(CertificateFiles(self.folder)),
        )

    def test_many(self) -> None:
        """
        However many files are bad, what is told of them is bounded.
        """
        for number in range(50):
            self.write(f"{number:02}.pem", SHOP.pem())
        told = self.told(CertificateFiles(self.folder))
        self.assertEqual(21, len(told))
        self.assertEqual(("[20]", "F holds 30 more such files"), told[-1])

    def test_unreadable(self) -> None:
        """
        A directory that may not be read is told.
        """

        def scandir(path: str) -> None:
            raise PermissionError(13, "Permission denied", path)

        self.patch(os, "scandir", scandir)
        [(_, told)] = self.told(CertificateFiles(self.folder))
        self.assertEqual("F cannot be read (Permission denied): change its owner or its permissions", told)

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sets(st.from_regex(r"\A(a|b|a-key|a-key-key|\n)?\.(pem|crt|key|p12|pfx|txt)\Z")))
    def test_anyNames(self, names: set[str]) -> None:
        """
        Whatever is in a directory, each file with such a name is used, or is the key of one that is, or is told.
        """
        folder = self.mktemp()
        os.mkdir(folder)
        for name in names:
            write(os.path.join(folder, name))
        found, wrong = identitiesIn(folder)
        used = [source.path if isinstance(source, PKCS12File) else source.chain for source in found]
        keys = [source.key for source in found if isinstance(source, CertificateFiles) and source.key]
        self.assertEqual(len(used), len(set(used)))
        ours = [name for name in names if name[0] != "." and not name.endswith(".txt")]
        for name in ours:
            path = os.path.join(folder, name)
            told = any(name.replace("\n", "\\n") in sentence for sentence in wrong)
            self.assertTrue(path in used or path in keys or told, name)
        self.assertEqual(not ours, "holds no certificate" in " ".join(wrong))


class KnownTests(FolderCase):
    """
    What has been read is not read again, unless it may have changed.
    """

    def setUp(self) -> None:
        """
        Write two certificates, and let them settle.
        """
        super().setUp()
        self.write("a.pem", SHOP.pem(), SHOP.keyPEM())
        self.write("b.pem", FORUM.pem())
        self.write("b.key", FORUM.keyPEM())
        self.sources = CertificateFiles(self.path("a.pem")), CertificateFiles(self.path("b.pem"), self.path("b.key"))
        self.later()

    def later(self) -> None:
        """
        Let time pass, as far as can be seen from here: the kernel's clock for files may still stand where it stood.
        """
        for name in os.listdir(self.folder):
            os.utime(self.path(name), (1e9, 1e9))
        now = time.time_ns()
        self.patch(time, "time_ns", lambda: now + 10 * 10**9)

    def test_again(self) -> None:
        """
        While somebody holds what was read, it is found again; a directory finds it, too.
        """
        first = self.find(*self.sources).identities
        for again in (self.find(*self.sources), self.find(CertificateFiles(self.folder))):
            self.assertEqual([id(one) for one in first], [id(one) for one in again.identities])
            self.assertTrue(set(self.find(*self.sources).files) <= set(again.files))

    def test_forgotten(self) -> None:
        """
        What nobody holds is not kept.
        """
        first = [weakref.ref(one) for one in self.find(*self.sources).identities]
        gc.collect()
        self.assertEqual([None, None], [one() for one in first])

    def test_changed(self) -> None:
        """
        Whichever file is changed, the new one is read, and the others are not.
        """
        first = self.find(*self.sources).identities
        other = holder("other.example")
        self.write("a.pem", other.pem(), other.keyPEM())
        again = self.find(*self.sources).identities
        self.assertEqual(("other.example",), again[0].names)
        self.assertIs(first[1], again[1])

    def test_changedKey(self) -> None:
        """
        A key that no longer belongs to its certificate is noticed.
        """
        first = self.find(*self.sources).identities
        self.write("b.key", SHOP.keyPEM())
        [(place, told)] = self.told(*self.sources)
        self.assertEqual("[1]", place)
        self.assertIn("does not match", told)
        self.assertEqual(2, len(first))

    def test_opened(self) -> None:
        """
        So is a key that others can read now.
        """
        first = self.find(*self.sources).identities
        os.chmod(self.path("b.key"), 0o644)
        again = self.find(*self.sources).identities
        self.assertEqual([(), ()], [one.warnings for one in first])
        self.assertIn("open to others", again[1].warnings[0])

    def test_unreadable(self) -> None:
        """
        What may no longer be read is not taken from memory.
        """
        first = self.find(*self.sources).identities
        os.remove(self.path("a.pem"))
        [(place, told)] = self.told(*self.sources)
        self.assertIn("F/a.pem does not exist", told)
        self.assertEqual(2, len(first))

    def test_secondWrite(self) -> None:
        """
        A file that was written just before it was read, and is written again in the same moment, is read again.
        """
        self.write("a.pem", SHOP.pem(), SHOP.keyPEM())
        self.patch(time, "time_ns", lambda: Path(self.path("a.pem")).stat().st_ctime_ns)
        first = self.find(*self.sources).identities
        again = self.find(*self.sources).identities
        self.assertIsNot(first[0], again[0])
        self.assertEqual(first[0].names, again[0].names)

    def test_password(self) -> None:
        """
        A PKCS#12 file is read again when its password changes.
        """
        source = PKCS12File(self.write("c.p12", SHOP.pkcs12(b"x")), self.write("c.txt", b"x"))
        self.later()
        first = self.find(source).identities
        self.assertIs(first[0], self.find(source).identities[0])
        self.write("c.txt", b"y")
        [(_, told)] = self.told(source)
        self.assertIn("its password is another one", told)
