# -*- test-case-name: tests.tls.test_revocation -*-
"""
Tests for L{tlsproxy.tls.revocation}.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.chains import authority, issued, patched
from tlsproxy.testing.certificates import NOW, Holder, revoking, write
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.revocation import loadRevocations, uncovered

ROOT = authority("Root")


class LoadTests(SynchronousTestCase):
    """
    Tests for L{loadRevocations}.
    """

    def setUp(self) -> None:
        """
        Make a place for files.
        """
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def file(self, *parts: bytes) -> str:
        """
        Write a file.
        """
        return write(str(self.folder / "a.crl"), *parts)

    def load(
        self, *parts: bytes, authorities: tuple[Holder, ...] = (ROOT,)
    ) -> tuple[list[x509.CertificateRevocationList], list[str]]:
        """
        Load what a file holds.
        """
        return loadRevocations([self.file(*parts)], [each.certificate for each in authorities], now=NOW)

    def wrong(self, *parts: bytes) -> str:
        """
        Load what cannot be used.

        @return: what is told of it, without the file's name.
        """
        told = str(self.assertRaises(CertificateProblem, self.load, *parts))
        self.assertTrue(told.startswith(f"{self.folder}/a.crl "), told)
        self.assertTrue(told.isprintable())
        return told.removeprefix(f"{self.folder}/a.crl ")

    def warning(self, *parts: bytes) -> str:
        """
        Load what is doubtful.
        """
        _, (told,) = self.load(*parts)
        return told.removeprefix(f"{self.folder}/a.crl ")

    def test_forms(self) -> None:
        """
        PEM and DER are taken, and several in a file, with whatever else there is.
        """
        pem = revoking(ROOT)
        one = x509.load_pem_x509_crl(pem)
        other = authority("Other")
        self.assertEqual(([one], []), self.load(pem))
        self.assertEqual(([one], []), self.load(one.public_bytes(Encoding.DER)))
        found, warnings = self.load(b"a comment\n", pem, other.pem(), revoking(other))
        self.assertEqual((2, []), (len(found), warnings))

    def test_none(self) -> None:
        """
        What is no list is told to be none.
        """
        for data, words in ((b"", "holds no CRL: give"), (b"\0" * 9, "holds no CRL: give"), (b"words", "holds no CRL")):
            self.assertIn(words, self.wrong(data))
        self.assertIn("holds no CRL, only CERTIFICATE: give", self.wrong(ROOT.pem()))
        error = self.assertRaises(CertificateProblem, loadRevocations, [str(self.folder / "none")], [], now=NOW)
        self.assertIn("does not exist", str(error))

    def test_broken(self) -> None:
        """
        A list that cannot be decoded is told to be broken.
        """
        pem = revoking(ROOT)
        self.assertIn("broken", self.wrong(pem.replace(b"\nMI", b"\nAA", 1)))
        self.assertIn("broken", self.wrong(pem[:-20]))
        self.assertIn("broken", self.wrong(pem, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"))

    def test_endless(self) -> None:
        """
        A list that does not say until when it is good would be good for ever.
        """
        data = bytearray(x509.load_pem_x509_crl(revoking(ROOT)).public_bytes(Encoding.DER))
        self.assertEqual((0x30, 0x81, 0x30), (data[0], data[1], data[3]))  # Both elements have it; short lengths.
        place = data.rindex(b"\x17\x0d")
        del data[place : place + 15]
        data[2] -= 15
        data[5 if data[4] == 0x81 else 4] -= 15
        self.assertIn("does not say until when it is good", self.wrong(bytes(data)))

    def test_delta(self) -> None:
        """
        A list of what has changed tells nothing by itself.
        """
        builder = x509.CertificateRevocationListBuilder().issuer_name(ROOT.certificate.subject).last_update(NOW)
        builder = builder.next_update(NOW + timedelta(days=9)).add_extension(x509.DeltaCRLIndicator(1), critical=True)
        pem = builder.sign(ROOT.key, hashes.SHA256()).public_bytes(Encoding.PEM)
        self.assertIn("a delta CRL", self.wrong(pem))

    def test_forged(self) -> None:
        """
        A list in the name of one that we trust has to be signed by it, or by another of that name.
        """
        impostor = authority("Root")
        told = self.wrong(revoking(impostor))
        self.assertEqual("is in the name of CN=Root, but not signed by it: get it from that CA again", told)
        found, _ = self.load(revoking(impostor), authorities=(ROOT, impostor))
        self.assertEqual(1, len(found))

    def test_unknown(self) -> None:
        """
        A list of one that we do not know may be of one that clients bring along.
        """
        found, warnings = self.load(revoking(authority("Other")))
        self.assertEqual((1, []), (len(found), warnings))

    def test_age(self) -> None:
        """
        A list that is out of date, or soon will be, or is not good yet, is told.
        """
        self.assertIn("HAS EXPIRED, so all certificates of CN=Root are refused", self.warning(revoking(ROOT, days=0)))
        soon = revoking(ROOT, begins=NOW - timedelta(days=1, hours=-3), days=1)
        self.assertIn("expires on 2026-11-20 15:00 UTC", self.warning(soon))
        self.assertIn("is not good before", self.warning(revoking(ROOT, begins=NOW + timedelta(days=1))))

    @settings(deadline=None, max_examples=200)
    @given(st.binary(max_size=60), st.integers(0, 10_000), st.integers(0, 255), st.booleans())
    def test_anything(self, data: bytes, place: int, value: int, whole: bool) -> None:
        """
        Whatever a file holds, it is a list or there is a sentence.
        """
        changed = bytearray(_DER)
        changed[place % len(changed)] = value
        try:
            self.load(bytes(changed) if whole else data)
        except CertificateProblem as e:
            self.assertTrue(str(e).isprintable())


class UncoveredTests(SynchronousTestCase):
    """
    Tests for L{uncovered}.
    """

    def test_uncovered(self) -> None:
        """
        The CAs without a list are found; what is no CA needs none.
        """
        other, leaf = authority("Other"), issued("leaf")
        trusted = [ROOT.certificate, other.certificate, leaf.certificate]
        lists = [x509.load_pem_x509_crl(revoking(ROOT))]
        self.assertEqual([other.certificate], uncovered(lists, trusted))

    def test_unreadable(self) -> None:
        """
        What cannot be told to be none counts as a CA.
        """
        odd = issued(
            "x", extensions=[x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), b"\x30\x03\x02\x01\x05")]
        )
        odd = patched(odd, b"\x55\x1d\x12", b"\x55\x1d\x13")
        self.assertEqual([odd.certificate], uncovered([], [odd.certificate]))


_DER = x509.load_pem_x509_crl(revoking(ROOT, issued("x", ROOT).certificate)).public_bytes(Encoding.DER)
