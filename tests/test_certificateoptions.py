# -*- test-case-name: tests.test_certificateoptions -*-
"""
Tests for L{tlsproxy.certificateoptions}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_tap import FULL, CommandLineTestCase
from tlsproxy.certificateoptions import pairCertificates
from tlsproxy.testing.certificates import write
from tlsproxy.tls.policy import CertificateFiles, PKCS12File


class PairTests(CommandLineTestCase):
    """
    Several certificates on a command line.
    """

    def pairs(self, *words: str, prefix: str = "") -> list[Any]:
        """
        Pair options, which are written without their dashes.
        """
        return list(
            pairCertificates([(name, value) for name, _, value in (word.partition("=") for word in words)], prefix)
        )

    def test_pairs(self) -> None:
        """
        A key belongs to the certificate before it, and a certificate without one holds it itself.
        """
        for words, pairs in (
            (("cert=a", "cert=b"), ["a", "b"]),
            (("cert=a", "key=k", "cert=b"), [{"chain": "a", "key": "k"}, "b"]),
            (("cert=a", "cert=b", "key=k"), ["a", {"chain": "b", "key": "k"}]),
            (("cert=a", "key=k", "cert=b", "key=l"), [{"chain": "a", "key": "k"}, {"chain": "b", "key": "l"}]),
            (("key=k", "cert=a", "key=l", "cert=b"), [{"chain": "a", "key": "k"}, {"chain": "b", "key": "l"}]),
            (("key=k", "cert=a", "cert=b"), [{"chain": "a", "key": "k"}, "b"]),
            (
                ("cert=a", "key=k", "cert=b", "cert-password-file=p", "upstream-key=u", "alpn=h2"),
                [{"chain": "a", "key": "k"}, {"pkcs12": "b", "password_file": "p"}],
            ),
            (("cert=nss:a", "cert-password-file=p"), [{"nss": "a", "password_file": "p"}]),
        ):
            self.assertEqual(pairs, self.pairs(*words), words)
        words = ("cert=x", "upstream-cert=a", "upstream-key=k", "upstream-cert=b")
        self.assertEqual([{"chain": "a", "key": "k"}, "b"], self.pairs(*words, prefix="upstream-"))

    def test_wrong(self) -> None:
        """
        What belongs to no certificate is told, and what does not go together.
        """
        for words, sentence in (
            (("cert=a", "key=k", "cert=b", "key=l", "key=m"), "--key m: it belongs to no certificate: give that, too"),
            (("key=k", "key=l", "cert=a", "cert=b"), "--key l: it belongs to no certificate, as another stands beside"),
            (("cert=a", "key=k", "cert-password-file=p", "cert=b"), "--cert a: it has a key and a password: a PKCS#12"),
        ):
            self.assertIn(sentence, str(self.assertRaises(ValueError, self.pairs, *words)))

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(["cert", "key", "cert-password-file"]), max_size=8))
    def test_nothingIsLost(self, names: list[str]) -> None:
        """
        Whatever is given in whatever order comes into the result, each once, or is an error.
        """
        order = [(name, str(position)) for position, name in enumerate(names)]
        try:
            pairs = pairCertificates(order, "")
        except ValueError:
            return
        found = [value for one in pairs for value in (one.values() if isinstance(one, dict) else [one])]
        self.assertEqual(sorted(value for _, value in order), sorted(found))

    def test_command(self) -> None:
        """
        On the command line all that belongs to one certificate may stand in any order, and several come in pairs.
        """
        write(str(self.folder / "server.p12"), self.server.pkcs12(b"secret"))
        write(str(self.folder / "password.txt"), b"secret\n")
        base = FULL["offload"][:-2]
        store = ("--cert", "server.p12", "--cert-password-file", "password.txt")
        pair = ("--cert", "chain.pem", "--key", "key.pem")
        folder = str(self.folder)
        files = CertificateFiles(f"{folder}/chain.pem", f"{folder}/key.pem")
        locked = PKCS12File(f"{folder}/server.p12", f"{folder}/password.txt")
        whole = CertificateFiles(f"{folder}/server.pem")
        for words, expected in (
            (pair, [files]),
            (("--key", "key.pem", "--cert", "chain.pem"), [files]),
            (store, [locked]),
            (("--cert", "server.pem", *pair, *store), [whole, files, locked]),
            ((*store, *pair, "--cert", "server.pem"), [locked, files, whole]),
        ):
            pattern: Any = self.configuration("--mode=offload", *base, *words).routes[0].pattern
            self.assertEqual(tuple(expected), pattern.tls.policy.cert)

    def test_commandWrong(self) -> None:
        """
        What is wrong is told with the option.
        """
        words = ("--mode=offload", *FULL["offload"], "--cert", "chain.pem", "--key", "key.pem", "--key", "other.pem")
        self.assertEqual(["--key other.pem: it belongs to no certificate: give that, too"], self.refused(2, *words))
        words = ("--mode=offload", *FULL["offload"], "--cert", "nope.pem")
        [told] = self.refused(1, *words)
        self.assertIn("--cert: ", told)
        self.assertIn("nope.pem does not exist", told)

    def test_commandSeveral(self) -> None:
        """
        Toward an upstream there may be several, too, of which it gets the one that it accepts.
        """
        folder = str(self.folder)
        words = ("--upstream-cert", "server.pem", "--upstream-cert", "chain.pem", "--upstream-key", "key.pem")
        pattern: Any = self.configuration("--mode=encrypt", *FULL["encrypt"], *words).routes[0].pattern
        expected = (
            CertificateFiles(f"{folder}/server.pem"),
            CertificateFiles(f"{folder}/chain.pem", f"{folder}/key.pem"),
        )
        self.assertEqual(expected, pattern.upstreamTLS.policy.cert)
