# -*- test-case-name: tests.tls.test_authorization -*-
"""
Tests for L{tlsproxy.tls.authorization}.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tls.chains import issued, patched
from tlsproxy.testing.certificates import Holder, certify
from tlsproxy.tls.authorization import (
    Allowed,
    commonNameOf,
    isForClients,
    namesOf,
    parseDNS,
    parseEmail,
    parseName,
    parsePin,
    parseURI,
    pinOf,
    pinText,
)
from tlsproxy.tls.policy import ServerPolicy


class AllowedCase(SynchronousTestCase):
    """
    A test of what is allowed.
    """

    def allowed(self, **words: Any) -> Allowed:
        """
        Read words that are good.
        """
        told: list[tuple[str, str]] = []
        allowed = Allowed.read(ServerPolicy(**words), lambda key, sentence: told.append((key, sentence)))
        self.assertEqual([], told)
        return allowed

    def assertMatches(self, holder: Holder, **words: Any) -> None:
        """
        Assert that a certificate is let in.
        """
        self.assertTrue(self.allowed(**words).matches(holder.certificate), words)

    def assertNone(self, holder: Holder, **words: Any) -> None:
        """
        Assert that a certificate is not.
        """
        self.assertFalse(self.allowed(**words).matches(holder.certificate), words)


class NameTests(AllowedCase):
    """
    Tests for common names, organizational units and DNS names.
    """

    def test_cn(self) -> None:
        """
        A common name is compared as a whole, letter by letter.
        """
        ann = issued("Ann")
        self.assertMatches(ann, allowCn=("Bob", "Ann"))
        for other in ("ann", "An", "Anna", "Ann.", "Bob"):
            self.assertNone(ann, allowCn=other)

    def test_severalCNs(self) -> None:
        """
        A certificate with several common names is nobody's: who issued it may have looked at another one.
        """
        self.assertNone(issued(("Ann", "Bob")), allowCn=("Ann", "Bob"))
        self.assertNone(issued(("Ann", "Ann")), allowCn="Ann")

    def test_commonName(self) -> None:
        """
        What others are told is the common name that rules go by, and none where readers could find another.
        """
        self.assertEqual("J\u00e9r\u00f4me", commonNameOf(issued("J\u00e9r\u00f4me").certificate))
        odd = patched(issued("Ann.evil"), b"Ann.evil", b"Ann\0evil")
        for other in (odd, issued(("Ann", "Bob")), issued("A\u202enn"), issued("Ann\r\nBob")):
            self.assertEqual("", commonNameOf(other.certificate))

    def test_nul(self) -> None:
        """
        A NUL ends no name.
        """
        odd = patched(issued("Ann.evil"), b"Ann.evil", b"Ann\0evil")
        self.assertNone(odd, allowCn="Ann")
        odd = patched(issued("x", dns=["a.example.evil"]), b"a.example.evil", b"a.example\0evil")
        self.assertNone(odd, allowDns="a.example")

    def test_encodings(self) -> None:
        """
        Text that is not ASCII counts only where its type says that it is UTF-8, and what cannot be read not at all.
        """
        known = issued("J\u00e9r\u00f4me")
        self.assertMatches(known, allowCn="J\u00e9r\u00f4me")
        utf8 = "J\u00e9r\u00f4me".encode()
        for tag in (0x14, 0x16, 0x04):
            odd = patched(known, bytes([0x0C, len(utf8)]) + utf8, bytes([tag, len(utf8)]) + utf8)
            self.assertNone(odd, allowCn="J\u00e9r\u00f4me")
        whole = bytes([0x0C, len(utf8)]) + utf8
        bits = bytes([0x03, len(utf8)]) + bytes(len(utf8))
        for data in (whole.replace(b"\xc3", b"\xff"), bits, b"\x1e" + whole[1:]):
            odd = patched(known, whole, data)
            self.assertNone(odd, allowCn="J\u00e9r\u00f4me", allowOu="x", allowDns="x", allowUri="x:y")
            self.assertTrue(namesOf(odd.certificate).isprintable())

    def test_longName(self) -> None:
        """
        The longest name is read as well.
        """
        long = "\u00e9" * 32
        self.assertMatches(issued(long), allowCn=long)
        self.assertNone(issued(long), allowCn=long[:-1])

    def test_ou(self) -> None:
        """
        Any of a certificate's organizational units lets it in, and no other field.
        """
        ann = issued("Ann", ou=("sales", "ops"))
        self.assertMatches(ann, allowOu="ops")
        self.assertNone(ann, allowOu=("Ann", "op", "OPS"))
        self.assertNone(ann, allowCn="ops")

    def test_dns(self) -> None:
        """
        A DNS name is compared as a whole, in whatever case; a certificate's wildcard stands for nothing.
        """
        web = issued("web", dns=["Web.Example", "*.shop.example"])
        for name in ("web.example", "WEB.example.", "b\u00fccher.example"):
            self.assertEqual("b" not in name[:1], self.allowed(allowDns=name).matches(web.certificate))
        for name in ("a.web.example", "example", "a.shop.example", "shop.example", "web"):
            self.assertNone(web, allowDns=name)
        self.assertMatches(issued("x", dns=["xn--bcher-kva.example"]), allowDns="b\u00fccher.example")

    def test_kinds(self) -> None:
        """
        A name counts as what it is: none of another kind, and no common name for a DNS name.
        """
        self.assertNone(issued("web.example"), allowDns="web.example")
        self.assertNone(issued("x", uri=["https://web.example"]), allowDns="web.example")
        self.assertNone(issued("x", dns=["web.example"]), allowCn="web.example", allowUri="dns:web.example")
        self.assertNone(certify("x", names=[x509.RFC822Name("web.example")]), allowDns="web.example")

    def test_any(self) -> None:
        """
        One rule that matches is enough, whatever the others say; and where nothing is allowed nobody is.
        """
        ann = issued("Ann", ou=["ops"], dns=["ann.example"], uri=["spiffe://x/ann"])
        others = {"allowCn": "B", "allowOu": "b", "allowDns": "b.example", "allowUri": "spiffe://x/b"}
        others["pins"] = "sha256:" + "00" * 32
        self.assertNone(ann, **others)
        self.assertNone(ann)
        for one in ("allowCn", "allowOu", "allowDns", "allowUri", "pins"):
            good = {"allowCn": "Ann", "allowOu": "ops", "allowDns": "ann.example", "allowUri": "spiffe://*/ann"}
            good["pins"] = pinText(ann.certificate)
            self.assertMatches(ann, **{**others, one: good[one]})

    def test_wrong(self) -> None:
        """
        What no certificate could show, or what looks like a pattern where there are none, is told.
        """
        for parse, word, why in (
            (parseName, "", "is no name that a certificate could show"),
            (parseName, " Ann", "is no name that a certificate could show"),
            (parseName, "Ann\0", "is no name that a certificate could show"),
            (parseName, "*", "has a wildcard, which only URIs take"),
            (parseName, "web-*", "has a wildcard, which only URIs take"),
            (parseDNS, "*.example", "has a wildcard, which only URIs take"),
            (parseDNS, "", "is no host name"),
            (parseDNS, "a b", "is no host name"),
            (parseDNS, "192.0.2.1", "is an address"),
            (parseURI, "", "is no URI"),
            (parseURI, "spiffe", "is no URI"),
            (parseURI, "//x/y", "is no URI"),
            (parseURI, "*://x", "is no URI"),
            (parseURI, "a:", "is no URI"),
            (parseURI, "x:a b", "percent-encoded"),
            (parseURI, "x:\u00e9", "percent-encoded"),
            (parseURI, "spiffe://x/a*", "* and ** stand for whole segments"),
            (parseURI, "spiffe://*.x/a", "* and ** stand for whole segments"),
            (parseURI, "spiffe://x/***", "* and ** stand for whole segments"),
            (parseURI, "urn:*", "* and ** stand for whole segments"),
            (parsePin, "", "is no pin"),
            (parsePin, "sha256/", "is no pin"),
            (parsePin, "sha256/AAAA", "is no pin"),
            (parsePin, "sha256:zz", "is no pin"),
            (parsePin, "sha1/" + "A" * 43 + "=", "is no pin"),
            (parsePin, "sha256/" + "A" * 43 + "=\n", "is no pin"),
            (parsePin, "sha256/" + "\u0661" * 44, "is no pin"),
        ):
            error = self.assertRaises(ValueError, parse, word)
            self.assertIn(why, str(error))
            self.assertTrue(str(error).isprintable())

    @given(st.text(max_size=60), st.sampled_from(["", "sha256/", "sha256:", "spiffe://", "x:"]))
    def test_anything(self, text: str, before: str) -> None:
        """
        Whatever is written, it is taken or there is a sentence.
        """
        for parse in (parseName, parseDNS, parseURI, parsePin):
            try:
                parse(before + text)
            except ValueError as e:
                self.assertTrue(str(e).isprintable())

    def test_told(self) -> None:
        """
        All that is wrong is told, with its key.
        """
        told: list[str] = []
        words = ServerPolicy(allowCn=("*", ""), allowOu=("*",), allowDns=("*",), allowUri=("*",), pins=("*",))
        Allowed.read(words, lambda key, sentence: told.append(key))
        self.assertEqual(["allow_cn", "allow_cn", "allow_ou", "allow_dns", "allow_uri", "pins"], told)


class URITests(AllowedCase):
    """
    Tests for patterns of URIs.
    """

    def test_patterns(self) -> None:
        """
        C{*} is one segment, C{**} any number of them, and all else is itself.
        """
        for pattern, good, bad in (
            ("spiffe://x/a", ("spiffe://x/a",), ("spiffe://x/a/", "spiffe://x/A", "spiffe://x/a/b", "spiffe://x/aa")),
            ("spiffe://x/*", ("spiffe://x/a", "spiffe://x/a-b.c"), ("spiffe://x/", "spiffe://x", "spiffe://x/a/b")),
            ("spiffe://x/*/b", ("spiffe://x/a/b",), ("spiffe://x/b", "spiffe://x/a/c/b", "spiffe://x/a/b/")),
            ("spiffe://x/**", ("spiffe://x", "spiffe://x/a", "spiffe://x/a/b/c"), ("spiffe://xy/a", "spiffe://y/x/a")),
            ("spiffe://x/**/b", ("spiffe://x/b", "spiffe://x/a/b", "spiffe://x/b/b"), ("spiffe://x/b/c", "spiffe://x")),
            ("spiffe://x/**/a/**", ("spiffe://x/a", "spiffe://x/a/a/b"), ("spiffe://x/b", "spiffe://x/ab")),
            ("spiffe://x/**/**", ("spiffe://x", "spiffe://x/a"), ("spiffe://y",)),
            ("spiffe://*/a", ("spiffe://x/a",), ("spiffe:///a", "spiffe://x/y/a", "https://x/a")),
            ("urn:a:b", ("urn:a:b",), ("urn:a:b:c",)),
        ):
            allowed = self.allowed(allowUri=pattern)
            for uri in good:
                self.assertTrue(allowed.matches(issued("x", uri=[uri]).certificate), (pattern, uri))
            for uri in bad:
                self.assertFalse(allowed.matches(issued("x", uri=[uri]).certificate), (pattern, uri))

    def test_leadingElsewhere(self) -> None:
        """
        A wildcard stands for no segment that is empty, leads upwards, or hides what it is.
        """
        for segment in ("", ".", "..", "%2e%2e", "a%2Fb", "a?b", "a#b", "a b", "a\\b", "a\0b", "\x7f"):
            holder = issued("x", uri=[f"spiffe://x/{segment}", f"spiffe://x/a/{segment}/b"])
            self.assertNone(holder, allowUri=("spiffe://x/*", "spiffe://x/**", "spiffe://x/a/*/b", "spiffe://x/**/b"))

    def test_asItIs(self) -> None:
        """
        Without a wildcard it is compared as it is, whatever it has.
        """
        for uri in ("spiffe://x//a", "spiffe://x/../a", "x:%2e"):
            self.assertMatches(issued("x", uri=[uri]), allowUri=uri)

    def test_many(self) -> None:
        """
        Thousands of names, and one that is very long, are looked at in no time, and match nothing.
        """
        many = issued("x", uri=[f"spiffe://y/{number}" for number in range(3000)])
        self.assertNone(many, allowUri=["spiffe://x/**/**/**/b"] * 5)
        self.assertNone(issued("x", uri=["spiffe://x" + "/a" * 30000]), allowUri="spiffe://x/**/**/**/b")
        self.assertNone(issued("x", uri=["spiffe://x/" + "a" * 2048]), allowUri="spiffe://x/*")

    @settings(deadline=None)
    @given(
        st.lists(st.sampled_from(["a", "b", "*", "**"]), max_size=6),
        st.lists(st.sampled_from(["a", "b", "c", "", "..", "%61"]), max_size=7),
    )
    def test_asExpected(self, pattern: list[str], segments: list[str]) -> None:
        """
        Any pattern matches what an expression of the same meaning does.
        """
        parts = {"*": "/[abc]", "**": "(/[abc])*"}
        expression = "x:" + "".join(parts.get(one, f"/{one}") for one in pattern)
        allowed = Allowed(uri=(parseURI("/".join(["x:", *pattern]) if pattern else "x:/"),) if pattern else ())
        uri = "/".join(["x:", *segments])
        holder = _named(uri)
        expected = bool(pattern) and re.fullmatch(expression, uri) is not None
        if "*" not in "".join(pattern):
            expected = bool(pattern) and uri == "/".join(["x:", *pattern])
        self.assertEqual(expected, allowed.matches(holder.certificate), (pattern, uri))


_KEY = ec.generate_private_key(ec.SECP256R1())


def _named(uri: str) -> Holder:
    return issued("x", uri=[uri], key=_KEY)


class EmailTests(SynchronousTestCase):
    """
    Tests for e-mail addresses, and for what a certificate is for.
    """

    def holder(self, *addresses: str) -> x509.Certificate:
        """
        Make a certificate of addresses.
        """
        names = [x509.RFC822Name._init_without_validation(each) for each in addresses]
        return certify("x", names=names, key=_KEY).certificate

    def matches(self, certificate: x509.Certificate, *words: str) -> bool:
        """
        Tell whether it is let in.
        """
        return Allowed(email=frozenset(map(parseEmail, words))).matches(certificate)

    def test_whole(self) -> None:
        """
        An address is compared as a whole, its domain in any case; any of several is enough.
        """
        ann = self.holder("other@x.example", "Ann@Bank.example")
        self.assertTrue(self.matches(ann, "Ann@bank.EXAMPLE"))
        for other in ("ann@bank.example", "Ann@a.bank.example", "Ann@example", "nn@bank.example"):
            self.assertFalse(self.matches(ann, other), other)

    def test_domain(self) -> None:
        """
        A star is all of a domain, and nothing below it.
        """
        self.assertTrue(self.matches(self.holder("Ann@bank.example"), "*@bank.example"))
        for other in ("Ann@a.bank.example", "Ann@xbank.example", "bank.example", "@bank.example"):
            self.assertFalse(self.matches(self.holder(other), "*@bank.example"), other)

    def test_doubtful(self) -> None:
        """
        What could be read in two ways is nobody's, and a star in a certificate is no wildcard.
        """
        for odd in ('"a@evil.example"@bank.example', "a@evil.example@bank.example", "a\0@bank.example"):
            self.assertFalse(self.matches(self.holder(odd), "*@bank.example", "*@evil.example"), odd)
        self.assertFalse(self.matches(self.holder("*@bank.example"), "Ann@bank.example"))
        self.assertFalse(self.matches(certify("Ann@bank.example", key=_KEY).certificate, "Ann@bank.example"))

    def test_words(self) -> None:
        """
        What is no address is refused.
        """
        self.assertEqual(("Ann", "xn--bcher-kva.example"), parseEmail("Ann@Bücher.example"))
        for word in ("", "ann", "@x.example", "ann@", "a*@x.example", "a@*.example", "a@b@c.example", "a@192.0.2.1"):
            error = self.assertRaises(ValueError, parseEmail, word)
            self.assertTrue(str(error).isprintable())

    def test_within(self) -> None:
        """
        Fewer addresses are within more.
        """
        one, two = (Allowed(email=frozenset(map(parseEmail, each))) for each in (("a@x.example",), ("*@y.example",)))
        both = Allowed(email=one.email | two.email)
        self.assertEqual([True, False, True], [one.within(both), both.within(one), one.within(one)])

    def test_named(self) -> None:
        """
        People are told of them.
        """
        self.assertIn("e-mail a@x.example", namesOf(self.holder("a@x.example")))

    def test_forClients(self) -> None:
        """
        Only a certificate that says so is for clients.
        """
        for usages, expected in (
            ([], False),
            ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])], False),
            ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])], False),
            ([x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])], True),
        ):
            self.assertEqual(expected, isForClients(issued("x", key=_KEY, extensions=usages).certificate))


class PinTests(AllowedCase):
    """
    Tests for hashes of keys.
    """

    def test_pin(self) -> None:
        """
        It is the hash of the key's C{SubjectPublicKeyInfo}, whatever kind of key, and is the same for each certificate
        of that key.
        """
        for key in (_KEY, ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)):
            one, other = certify("a", key=key), certify("b", key=key)
            encoded = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            self.assertEqual(hashlib.sha256(encoded).digest(), pinOf(one.certificate))
            self.assertEqual(pinOf(one.certificate), pinOf(other.certificate))
            self.assertMatches(one, pins=pinText(other.certificate))
            self.assertMatches(one, pins=f"sha256:{pinOf(one.certificate).hex()}")
            self.assertMatches(one, pins=f"sha256:{pinOf(one.certificate).hex(':').upper()}")
            self.assertNone(issued("a"), pins=pinText(one.certificate))


class StrangeTests(AllowedCase):
    """
    Whatever a certificate says, nothing is raised, and nothing matches by accident.
    """

    EVERYTHING = {
        "allowCn": "Ann",
        "allowOu": "ops",
        "allowDns": "ann.example",
        "allowUri": ("spiffe://x/ann", "spiffe://x/y/*"),
        "pins": "sha256:" + "00" * 32,
    }

    def test_doubledExtension(self) -> None:
        """
        A certificate with two lists of names has none.
        """
        odd = issued(
            "x",
            dns=["ann.example"],
            extensions=[x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), bytes(2))],
        )
        odd = patched(odd, b"\x55\x1d\x12", b"\x55\x1d\x11")
        self.assertNone(odd, **self.EVERYTHING)
        self.assertEqual("", namesOf(odd.certificate))

    @settings(deadline=None, max_examples=300)
    @given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000), st.integers(0, 255))
    def test_anyByte(self, place: int, value: int, other: int, second: int) -> None:
        """
        Whatever bytes of a certificate are changed.
        """
        data = bytearray(_STRANGER)
        data[place % len(data)] = value
        data[other % len(data)] = second
        try:
            certificate = x509.load_der_x509_certificate(bytes(data))
        except (ValueError, x509.InvalidVersion):
            return
        self.assertFalse(self.allowed(**self.EVERYTHING).matches(certificate))
        self.assertTrue(namesOf(certificate).isprintable())

    def test_named(self) -> None:
        """
        What a certificate could have been let in by is told, so that it can be printed.
        """
        holder = issued("x", ou=["ops"], dns=["a.example"], uri=["spiffe://x/\x1b[1m"])
        self.assertEqual(r"OU ops, DNS a.example, URI spiffe://x/\x1b[1m", namesOf(holder.certificate))
        self.assertEqual("", namesOf(issued("x").certificate))

    def test_nothing(self) -> None:
        """
        A certificate of nobody is let in by nothing.
        """
        self.assertNone(certify(""), **self.EVERYTHING)


_STRANGER = issued(
    "Bob", ou=["sales"], dns=["bob.example"], uri=["spiffe://x/bob", "spiffe://z/y/a"]
).certificate.public_bytes(Encoding.DER)
