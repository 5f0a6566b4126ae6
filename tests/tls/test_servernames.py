"""
Tests for L{tlsproxy.tls.servernames}.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import NOW, certify
from tlsproxy.tls.certificates import Identity
from tlsproxy.tls.servernames import ServerNames

KEYS: dict[str, Any] = {
    "RSA": rsa.generate_private_key(65537, 2048),
    "EC": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def identity(file: str, *names: str, key: str = "EC", ends: timedelta = timedelta(days=100)) -> Identity:
    """
    Make an identity for names.
    """
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    holder = certify(file, key=KEYS[key], names=found, begins=NOW - timedelta(days=200), ends=NOW + ends)
    return Identity((holder.certificate,), KEYS[key], (), (file,))


class FindTests(SynchronousTestCase):
    """
    Tests for L{ServerNames.find}.
    """

    def found(self, names: ServerNames, name: str) -> list[str]:
        """
        Tell which files a name leads to.
        """
        choice = names.find(name)
        return [] if choice is None else [one.files[0] for one in choice.identities]

    def assertFound(self, identities: list[Identity], **expected: str) -> None:
        """
        Assert what names lead to; they are written with C{_} for a dot, and files with spaces between.
        """
        names = ServerNames(identities, NOW)
        for name, files in expected.items():
            self.assertEqual(files.split(), self.found(names, name.replace("_", ".")), name)

    def test_exact(self) -> None:
        """
        Each of a certificate's names leads to it, and nothing else does.
        """
        self.assertFound(
            [identity("one", "a.example", "b.example"), identity("two", "c.example")],
            a_example="one",
            b_example="one",
            c_example="two",
            d_example="",
            example="",
            x_a_example="",
        )

    def test_wildcard(self) -> None:
        """
        A star stands for one label, and the name itself comes before it.
        """
        self.assertFound(
            [identity("all", "*.example"), identity("one", "a.example"), identity("deep", "*.b.example")],
            a_example="one",
            b_example="all",
            c_example="all",
            x_a_example="",
            x_b_example="deep",
            x_y_b_example="",
            example="",
            _example="",
        )

    def test_noOtherStars(self) -> None:
        """
        A star that is a part of a label, or not the first, stands for nothing.
        """
        names = ServerNames([identity("odd", "f*.example", "*.*.example", "a.*.example", "*", "*x.example")], NOW)
        for name in ("foo.example", "a.b.example", "a.x.example", "com", "xx.example", "*.example", "f*.example", "*"):
            self.assertEqual([], self.found(names, name), name)
        self.assertEqual(1, len(names.warnings))

    def test_spelling(self) -> None:
        """
        Neither letter case nor a dot at the end means anything, on either side; other letters come in their ASCII form.
        """
        names = ServerNames([identity("one", "Shop.Example"), identity("two", "xn--bcher-kva.example")], NOW)
        for name in ("shop.example", "SHOP.EXAMPLE", "shop.example."):
            self.assertEqual(["one"], self.found(names, name))
        self.assertEqual(["two"], self.found(names, "XN--BCHER-KVA.example"))
        self.assertEqual([], self.found(names, "shop.example.."))

    def test_address(self) -> None:
        """
        A client that puts an address where a name belongs finds the certificate for that, and no wildcard.
        """
        self.assertFound([identity("one", "192.0.2.1", "*.2.2")], **{"192_0_2_1": "one", "192_0_2_2": "", "1_2_2": ""})

    @settings(deadline=None)
    @given(st.text(st.characters(max_codepoint=255), max_size=40))
    def test_anyName(self, name: str) -> None:
        """
        Whatever a client asks for, it is found or not, and a wildcard is found only for what a host can be called.
        """
        names = ServerNames([identity("all", "*.example"), identity("one", "a.example")], NOW)
        if self.found(names, f"{name}.example") == ["all"]:
            self.assertRegex(name, r"\A[A-Za-z0-9_-]+\Z")


class SideBySideTests(SynchronousTestCase):
    """
    Several certificates for one name.
    """

    def choice(self, *identities: Identity) -> tuple[list[str], list[str]]:
        """
        Tell what C{a.example} leads to, and what is warned of.
        """
        names = ServerNames(identities, NOW)
        choice = names.find("a.example")
        assert choice is not None
        return [one.files[0] for one in choice.identities], names.warnings

    def test_kinds(self) -> None:
        """
        One with each kind of key stands beside the others, in the order in which they were given.
        """
        identities = [identity(key, "a.example", key=key) for key in ("RSA", "EC", "Ed25519")]
        self.assertEqual((["RSA", "EC", "Ed25519"], []), self.choice(*identities))
        self.assertEqual((["Ed25519", "EC", "RSA"], []), self.choice(*reversed(identities)))

    def test_sameKind(self) -> None:
        """
        Of two with the same kind of key, the first is shown, and there is a warning that names the other.
        """
        files, warnings = self.choice(identity("one", "a.example", "x.example"), identity("two", "a.example"))
        self.assertEqual(["one"], files)
        self.assertEqual(["two is not shown for a.example, as one has a key of the same kind: remove one"], warnings)

    def test_renewed(self) -> None:
        """
        One that is valid comes before one that no longer is, wherever it stands.
        """
        old = identity("old", "a.example", ends=timedelta(days=-1))
        new = identity("renewed", "a.example")
        for order in ((old, new), (new, old)):
            files, [warning] = self.choice(*order)
            self.assertEqual(["renewed"], files)
            self.assertIn("old is not shown for a.example", warning)

    def test_sameTwice(self) -> None:
        """
        The same certificate from two places is no trouble.
        """
        one = identity("one", "a.example")
        self.assertEqual((["one"], []), self.choice(one, one))
        again = Identity(one.chain, one.key, (), ("two",))
        self.assertEqual((["one"], []), self.choice(one, again))

    def test_oneWarning(self) -> None:
        """
        However many names two certificates share, there is one warning, which stays short.
        """
        shared = [f"{number}.example" for number in range(100)]
        _, [warning] = self.choice(identity("one", "a.example", *shared), identity("two", *shared))
        self.assertIn("0.example, 1.example, 2.example, 3.example and 96 more", warning)

    def test_ownChoices(self) -> None:
        """
        All names of one certificate lead to one choice, so that there is one context for them.
        """
        names = ServerNames([identity("one", "a.example", "b.example", "*.c.example")], NOW)
        self.assertEqual(1, len({names.default, *map(names.find, ("a.example", "b.example", "x.c.example"))}))


class DefaultTests(SynchronousTestCase):
    """
    What is shown to those who ask for no name.
    """

    def files(self, *identities: Identity) -> list[str]:
        """
        Tell what is shown.
        """
        return [one.files[0] for one in ServerNames(identities, NOW).default.identities]

    def test_first(self) -> None:
        """
        It is the first certificate.
        """
        self.assertEqual(["one"], self.files(identity("one", "a.example"), identity("two", "b.example")))

    def test_beside(self) -> None:
        """
        Others for the same names, with other kinds of keys, stand beside it; others do not.
        """
        first = identity("RSA", "a.example", "b.example", key="RSA")
        beside = identity("EC", "b.example", "a.example")
        self.assertEqual(["RSA", "EC"], self.files(first, beside))
        self.assertEqual(["RSA", "EC"], self.files(first, identity("x", "a.example"), beside, beside))
        self.assertEqual(["RSA"], self.files(first, identity("EC", "a.example")))

    def test_renewed(self) -> None:
        """
        In the place of one that is no longer valid stands one for the same names that is.
        """
        old = identity("old", "a.example", ends=timedelta(days=-1))
        self.assertEqual(["new"], self.files(old, identity("x", "b.example"), identity("new", "a.example")))
        self.assertEqual(["old"], self.files(old, identity("x", "b.example")))

    def test_nameless(self) -> None:
        """
        A certificate without a name of a host serves only as the first, and is warned of.
        """
        names = ServerNames([identity("one"), identity("two", key="RSA")], NOW)
        self.assertEqual(["one"], [one.files[0] for one in names.default.identities])
        self.assertEqual(2, len(names.warnings))
        self.assertEqual(
            "one holds a certificate with no name of a host among its alternative names: "
            "clients that check names refuse it",
            names.warnings[0],
        )
