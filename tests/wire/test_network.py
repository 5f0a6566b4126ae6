"""
Tests for L{tlsproxy.wire.network}.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.network import (
    embedded,
    isName,
    matchesName,
    parseNamePattern,
    parseNetwork,
    plainAddress,
    special,
)

written = st.one_of(
    st.text(),
    st.text("0123456789abcdefx.:/%*[]-_ ", max_size=30),
    st.ip_addresses().map(str),
    st.builds("{}/{}".format, st.ip_addresses(), st.integers(0, 140)),
)
labels = st.from_regex(r"[a-z]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)


def after(prefix: str, shift: int = 0, mask: int = 0) -> Callable[[IPv4Address], IPv6Address]:
    """
    Make what embeds an IPv4 address in an IPv6 address.

    @param prefix: The rest of the IPv6 address.
    @param shift: How many bits are to the right of the IPv4 address.
    @param mask: What it is xored with.
    """
    return lambda inner: IPv6Address(int(IPv6Address(prefix)) | (int(inner) ^ mask) << shift)


def around(prefix: str, before: int) -> Callable[[IPv4Address], IPv6Address]:
    """
    The same around the zero bits 64 to 71 of RFC 6052, section 2.2.

    @param before: How many bits of the IPv4 address come before those.
    """

    def embed(inner: IPv4Address) -> IPv6Address:
        rest = 32 - before
        left, right = int(inner) >> rest, int(inner) & (1 << rest) - 1
        return IPv6Address(int(IPv6Address(prefix)) | left << 64 | right << 56 - rest)

    return embed


FORMS = {
    "an IPv4-mapped address": [after("::ffff:0:0")],
    "an IPv4-compatible address": [after("::")],
    "an IPv4-translated address": [after("::ffff:0:0:0")],
    "a NAT64 address": [
        after("64:ff9b::"),
        around("64:ff9b:1::", 16),
        around("64:ff9b:1:ab00::", 8),
        around("64:ff9b:1:abcd::", 0),
        after("64:ff9b:1::"),
        after("64:ff9b:1:abcd:0:1::"),
    ],
    "a 6to4 address": [after("2002::1", 80)],
    "a Teredo address": [after("2001::f7f7:f7f7", 64), after("2001:0:4136:e378:8000:63bf::", 0, 0xFFFFFFFF)],
    "an ISATAP address": [after("2001:db8::5efe:0:0"), after("2001:db8::200:5efe:0:0")],
}


class NetworkTests(SynchronousTestCase):
    """
    Tests for L{parseNetwork} and L{plainAddress}.
    """

    def test_networks(self) -> None:
        """
        Networks and single addresses of both families are read; IPv4-mapped ones are IPv4 ones.
        """
        for text, expected in {
            "10.0.0.0/8": "10.0.0.0/8",
            "0.0.0.0/0": "0.0.0.0/0",
            "10.1.2.3": "10.1.2.3/32",
            "10.1.2.3/32": "10.1.2.3/32",
            "2001:DB8::/32": "2001:db8::/32",
            "::1": "::1/128",
            "::/0": "::/0",
            "::ffff:10.1.2.3": "10.1.2.3/32",
            "::ffff:10.0.0.0/104": "10.0.0.0/8",
            "::ffff:0:0/96": "0.0.0.0/0",
        }.items():
            self.assertEqual(ip_network(expected), parseNetwork(text), text)

    def test_wrongNetworks(self) -> None:
        """
        What is wrong with a network is told in a sentence.
        """
        for text, sentence in {
            "10.0.9.1/24": "'10.0.9.1/24' has bits after its length: "
            "write 10.0.9.0/24, or 10.0.9.1 for that one address",
            "2001:db8::1/32": "'2001:db8::1/32' has bits after its length: "
            "write 2001:db8::/32, or 2001:db8::1 for that one address",
            "10.0.0.0/33": "'10.0.0.0/33': '33' is no length of a network; lengths go from 0 to 32",
            "10.0.0.0/": "'10.0.0.0/': '' is no length of a network; lengths go from 0 to 32",
            "10.0.0.0/08": "'10.0.0.0/08': '08' is no length of a network; lengths go from 0 to 32",
            "10.0.0.0/255.0.0.0": "'10.0.0.0/255.0.0.0': '255.0.0.0' is no length of a network; "
            "lengths go from 0 to 32",
            "::/129": "'::/129': '129' is no length of a network; lengths go from 0 to 128",
            "fe80::1%eth0": "'fe80::1%eth0' names a zone: only addresses without one can be told apart",
            "010.0.0.1": "'010.0.0.1' is no IP address",
            "10.0/16": "'10.0' is no IP address",
            "": "'' is no IP address",
        }.items():
            self.assertEqual(sentence, str(self.assertRaises(ValueError, parseNetwork, text)))

    def test_plainAddress(self) -> None:
        """
        An IPv4-mapped address is the IPv4 one; all others stay what they are.
        """
        self.assertEqual(IPv4Address("10.1.2.3"), plainAddress("::ffff:a01:203"))
        self.assertEqual(IPv4Address("10.1.2.3"), plainAddress("10.1.2.3"))
        self.assertEqual(IPv6Address("::10.1.2.3"), plainAddress("::10.1.2.3"))

    def test_wrongAddresses(self) -> None:
        """
        Old forms of IPv4 addresses, names, networks and zones are no addresses.
        """
        for text in ("127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "localhost", "::1/128", "::1%lo", "[::1]", ""):
            self.assertRaises(ValueError, plainAddress, text)

    @settings(deadline=None)
    @given(written)
    def test_anyText(self, text: str) -> None:
        """
        Any text is read, or refused with a sentence, and what is read is in its plain form.
        """
        for read in (parseNetwork, plainAddress):
            try:
                found = read(text)
            except ValueError as e:
                self.assertNotIn("\n", str(e))
            else:
                self.assertEqual(found, read(str(found)))


class SpecialTests(SynchronousTestCase):
    """
    Tests for L{special} and L{embedded}.
    """

    def test_special(self) -> None:
        """
        Each kind of address that is no ordinary host's is told.
        """
        for words, addresses in {
            "loopback": ["127.0.0.1", "127.255.255.255", "::1"],
            "unspecified, which Linux connects to itself": ["0.0.0.0", "0.255.255.255", "::"],
            "link-local": ["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1"],
            "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
            "the broadcast address": ["255.255.255.255"],
            "reserved": ["240.0.0.0", "255.255.255.254"],
            "site-local": ["fec0::1", "feff::1"],
            "a cloud metadata address": [
                "169.254.169.254",
                "169.254.170.2",
                "fd00:ec2::254",
                "fd20:ce::254",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
            ],
        }.items():
            for address in addresses:
                self.assertEqual(words, special(ip_address(address)), address)

    def test_ordinary(self) -> None:
        """
        Hosts of the Internet and of private networks are ordinary, and what is next to a special network as well.
        """
        for address in (
            "1.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.16.0.1",
            "192.168.0.1",
            "223.255.255.255",
            "2001:db8::1",
            "2606:4700::1111",
            "fc00::1",
            "fd00::1",
            "fe7f::1",
        ):
            self.assertEqual("", special(ip_address(address)), address)

    def test_embeddedWords(self) -> None:
        """
        An IPv6 address that leads to a special IPv4 one is told as such, whatever the form.
        """
        for form, embeds in FORMS.items():
            for embed in embeds:
                outer = embed(IPv4Address("127.0.0.1"))
                self.assertEqual(f"{form} of 127.0.0.1, which is loopback", special(outer), outer)
                outer = embed(IPv4Address("169.254.169.254"))
                self.assertIn("169.254.169.254, which is a cloud metadata address", special(outer), outer)

    def test_embeddedOrdinary(self) -> None:
        """
        An IPv6 address that leads to an ordinary IPv4 one is ordinary.
        """
        for embeds in FORMS.values():
            for embed in embeds:
                outer = embed(IPv4Address("93.184.216.34"))
                self.assertEqual("", special(outer), outer)

    def test_localTranslatorOfNothing(self) -> None:
        """
        In the network of local translators, an address that leads to nothing else than 0.0.0.0 is special.
        """
        self.assertEqual(
            "a NAT64 address of 0.0.0.0, which is unspecified, which Linux connects to itself",
            special(IPv6Address("64:ff9b:1::")),
        )

    def test_embedsNothing(self) -> None:
        """
        Loopback and other addresses of their own embed none.
        """
        for address in ("127.0.0.1", "::1", "::", "2001:db8::1", "2003::7f00:1"):
            self.assertEqual([], embedded(ip_address(address)), address)

    @settings(deadline=None)
    @given(st.sampled_from([embed for embeds in FORMS.values() for embed in embeds]), st.ip_addresses(v=4))
    @example(FORMS["a NAT64 address"][1], IPv4Address("127.0.0.1"))
    def test_embedded(self, embed: Callable[[IPv4Address], IPv6Address], inner: IPv4Address) -> None:
        """
        Any IPv4 address is found in any form, and makes the whole special if it is special itself.
        """
        outer = embed(inner)
        if outer in (IPv6Address("::"), IPv6Address("::1")):
            return
        if inner not in IPv4Network("0.0.0.0/8"):
            self.assertIn(inner, [one for one, _ in embedded(outer)])
            if special(inner):
                self.assertNotEqual("", special(outer))

    @settings(deadline=None)
    @given(st.ip_addresses(v=6))
    def test_mapped(self, address: IPv6Address) -> None:
        """
        The plain form of an address is exactly as special as the address.
        """
        self.assertEqual(bool(special(address)), bool(special(plainAddress(str(address)))))


class NameTests(SynchronousTestCase):
    """
    Tests for L{matchesName}, L{parseNamePattern} and L{isName}.
    """

    def assertMatches(self, pattern: str, names: list[str], others: list[str]) -> None:
        """
        Hold a pattern against names that it matches, and against others.
        """
        parsed = parseNamePattern(pattern)
        self.assertEqual(names, [name for name in names + others if matchesName(parsed, name)], pattern)

    def test_exact(self) -> None:
        """
        A name matches itself, in upper and lower case, with a dot at the end and without.
        """
        self.assertMatches(
            "Shop.Example",
            ["shop.example", "SHOP.example", "shop.example."],
            ["a.shop.example", "shop.example..", "ashop.example", "example", "", "."],
        )

    def test_oneLabel(self) -> None:
        """
        One star is exactly one label.
        """
        self.assertMatches(
            "*.example.com", ["a.example.com", "A.Example.COM."], ["example.com", "a.b.example.com", ".example.com"]
        )

    def test_anyLabels(self) -> None:
        """
        Two stars are one label or more.
        """
        self.assertMatches(
            "**.example.com",
            ["a.example.com", "a.b.example.com", "A.B.C.example.com."],
            ["example.com", ".example.com", "aexample.com", "a..example.com"],
        )

    def test_anyHost(self) -> None:
        """
        A star alone is any host, addresses included.
        """
        self.assertMatches("*", ["localhost", "a.b.c", "10.0.0.1", "::1"], [""])

    def test_addressesAreNoNames(self) -> None:
        """
        IP addresses, also in old forms, and doubtful names are no names.
        """
        for name in (
            "10.0.0.1",
            "::1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "a.0X",
            "a b",
            "a..b",
            "-a",
            "a-",
            "\u212a",
        ):
            self.assertFalse(isName(name), name)
        for name in ("a", "a.b.", "_srv.a-b.example", "xn--bcher-kva.example", "1.example", "0xa.example"):
            self.assertTrue(isName(name), name)
        self.assertFalse(isName("a" * 64))
        self.assertTrue(isName(".".join(["a" * 63] * 3 + ["a" * 61])))
        self.assertFalse(isName(".".join(["a" * 63] * 3 + ["a" * 62])))

    def test_wrongPatterns(self) -> None:
        """
        What is wrong with a pattern is told in a sentence.
        """
        stars = "a star stands for whole labels, and before a name: *.example.com, **.example.com"
        for text, sentence in {
            "": "a host name is missing; for any host, write *",
            "**": "'**' stands before a name, as in **.example.com; for any host, write *",
            "a*.example": f"'a*.example': {stars}",
            "a.*.example": f"'a.*.example': {stars}",
            "example.*": f"'example.*': {stars}",
            "*.*": f"'*.*': {stars}",
            "***.example": f"'***.example': {stars}",
            "shop.example.": "'shop.example.': leave the dot at the end out",
            "b\u00fccher.example": "'b\u00fccher.example': write a name with other letters in its ASCII form, "
            "which starts with xn--",
            "10.0.0.1": "'10.0.0.1': 10.0.0.1 is an IP address, not a host name",
            "*.10.0.0.1": "'*.10.0.0.1': 10.0.0.1 is an IP address, not a host name",
            "::1": "'::1': ::1 is an IP address, not a host name",
            "127.1": "'127.1' ends in a number, as no host name does, and is no whole IP address",
            "a b": "'a b' is no host name",
            ".example": "'.example' is no host name",
        }.items():
            self.assertEqual(sentence, str(self.assertRaises(ValueError, parseNamePattern, text)))

    @settings(deadline=None)
    @given(written)
    def test_anyText(self, text: str) -> None:
        """
        Any text is a pattern, or refused with a sentence; any text can be held against a pattern.
        """
        try:
            pattern = parseNamePattern(text)
        except ValueError:
            pattern = "**.example"
        self.assertEqual(pattern, parseNamePattern(pattern))
        matchesName(pattern, text)
        if matchesName("**.example", text):
            self.assertTrue(isName(text))

    @settings(deadline=None)
    @given(st.lists(labels, min_size=1, max_size=4), st.lists(labels, max_size=3))
    def test_stars(self, base: list[str], more: list[str]) -> None:
        """
        The stars count labels.
        """
        rest, name = ".".join(base), ".".join(more + base)
        self.assertEqual(not more, matchesName(rest, name))
        self.assertEqual(len(more) == 1, matchesName(f"*.{rest}", name))
        self.assertEqual(len(more) >= 1, matchesName(f"**.{rest}", name))
