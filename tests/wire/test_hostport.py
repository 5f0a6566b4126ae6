"""
Tests for L{tlsproxy.wire.hostport}, by the targets of a CONNECT.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.wire.test_connect_refusals import RefusalTestCase
from tlsproxy.wire.hostport import RequestRefused, parseAuthority, quoted

TARGET = "the client's CONNECT target"


class TargetTests(RefusalTestCase):
    """
    Which targets of a CONNECT are refused.
    """

    def assertTargetRefused(self, target: str, sentence: str) -> None:
        """
        Check that a CONNECT to a target is refused at the end of its first line, for a reason that has to do with it.
        """
        self.assertRefused(f"CONNECT {target} HTTP/1.1\r\n", f"{TARGET} {sentence}")

    def test_userAndPassword(self) -> None:
        """
        A target has no user information.
        """
        for target in ("ann@a:443", "ann:secret@a:443", "@a:443", "a@[::1]:443", "a:443@b"):
            self.assertTargetRefused(target, "has an @: no user and no password belong there")

    def test_urls(self) -> None:
        """
        A target is no URL, and no path either.
        """
        self.assertTargetRefused("https://shop.example/", "is a URL, and not HOST:PORT")
        self.assertTargetRefused("/", "has the host '/', which is neither a name nor an address")
        self.assertTargetRefused("*", "has the host '*', which is neither a name nor an address")

    def test_percent(self) -> None:
        """
        Nothing is unescaped in a target.
        """
        for target in ("shop%2eexample:443", "%61:443", "a%:443"):
            self.assertTargetRefused(target, "has a percent sign: nothing is unescaped here")

    def test_zones(self) -> None:
        """
        An address is not that of one machine's interface.
        """
        for target in ("[fe80::1%25eth0]:443", "[fe80::1%eth0]:443", "[::1%]:443"):
            self.assertTargetRefused(target, "has a zone in its IPv6 address, which means nothing on another machine")

    def test_noPort(self) -> None:
        """
        A target has a port.
        """
        for target in ("shop.example", "192.0.2.1", "[::1]"):
            self.assertTargetRefused(target, "names no port: it takes HOST:PORT, as in shop.example:443")
        for target in ("shop.example:", "[::1]:"):
            self.assertTargetRefused(target, "has a colon and no port after it")

    def test_ports(self) -> None:
        """
        A port is a number from 1 to 65535, and there is one way to write it.
        """
        for host in ("a", "[::1]"):
            for port in ("0", "00", "0443", "000000000000443"):
                self.assertTargetRefused(f"{host}:{port}", "has a port that is 0 or begins with 0")
            for port in ("65536", "99999", "100000"):
                self.assertTargetRefused(f"{host}:{port}", f"has the port {port!r}, and ports end at 65535")
            for port in ("https", "+443", "-1", "4_43", "443/", "0x1bb", "443\t"):
                self.assertTargetRefused(f"{host}:{port}", f"has the port {port!r}, which is no number")
        self.assertTargetRefused("a:" + "9" * 5000, f"has the port {'9' * 37 + '...'!r}, and ports end at 65535")

    def test_noName(self) -> None:
        """
        A host name has letters, digits, hyphens, underscores and dots.
        """
        for host in ("a/b", "a,b", "a\tb", "a\\b", "a;b", "a?b", "a#b", "a*", "'a'", "a]", "a[", "a=b", "a!b", "(a)"):
            self.assertTargetRefused(
                f"{host}:443", f"has the host {ascii(host)}, which is neither a name nor an address"
            )

    def test_dots(self) -> None:
        """
        The parts of a host name are not empty, the last one included.
        """
        self.assertTargetRefused(":443", "names no host")
        for host in ("a.", "shop.example.", "192.0.2.1.", "a.."):
            self.assertTargetRefused(f"{host}:443", "has a dot at the end of the host name")
        for host in (".a", "a..b"):
            self.assertTargetRefused(f"{host}:443", "has a host name with an empty part between dots")
        self.assertTargetRefused(".:443", "has a dot at the end of the host name")

    def test_longNames(self) -> None:
        """
        A host name has at most 253 letters, and each of its parts 63.
        """
        for host in ("a" * 64, f"a.{'b' * 64}.c", "a." * 126 + "ab"):
            self.assertTargetRefused(f"{host}:443", "has a host name that is too long")

    def test_bareIPv6(self) -> None:
        """
        An IPv6 address is in brackets.
        """
        for target in ("::1", "::1:443", "2001:db8::1:443", "fe80::1%eth0:443", "a:b:443", "a::443"):
            self.assertTargetRefused(target, "has more than one colon: an IPv6 address needs brackets, as in [::1]:443")

    def test_brackets(self) -> None:
        """
        Brackets enclose the host, which is an IPv6 address.
        """
        for inside in (
            "",
            "shop.example",
            "192.0.2.1",
            "::g",
            "1:2:3",
            "::1/64",
            "[::1",
            "::ffff:127.1",
            "v1",
            "::1\t",
        ):
            self.assertTargetRefused(f"[{inside}]:443", f"has {ascii(inside)} in brackets, which is no IPv6 address")
        for target in ("[::1", "[::1:443", "[::1]443", "[::1]x:443", "[::1]]:443"):
            self.assertTargetRefused(target, "has brackets that do not enclose the host")

    def test_futureAddresses(self) -> None:
        """
        Addresses of other versions of IP are told by their name.
        """
        for inside in ("v1.fe80::a+en1", "vF.a", "V7.:"):
            self.assertTargetRefused(f"[{inside}]:443", "has an address of a future version of IP")

    def test_numbers(self) -> None:
        """
        What a resolver may take for an address is one in its usual form, or refused.
        """
        for host in (
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.0x1",
            "0x7f000001",
            "0X7F000001",
            "256.0.0.1",
            "1.2.3.4.5",
            "1.2.3",
            "0",
            "0x",
            "a.1",
            "shop.example.0x7f",
            "192.0.2.1.0",
        ):
            shown = host.lower()
            sentence = f"has the host {shown!r}, which ends in a number and is no address like 192.0.2.1"
            self.assertTargetRefused(f"{host}:443", sentence)

    def test_otherAlphabets(self) -> None:
        """
        A name in other letters than ASCII is refused with the form it has to be sent in.
        """
        for host in ("b\xfccher.example", "\uff11.example", "shop\u3002example", "\u0661"):
            for target in (f"{host}:443", f"a:{host}", f"[{host}]:443"):
                self.assertTargetRefused(
                    target, "is not all ASCII: send the name in its ASCII form, which has xn-- in it"
                )


class AuthorityTests(SynchronousTestCase):
    """
    Tests for L{parseAuthority}; its refusals are tested with the target of a CONNECT.
    """

    def test_withAndWithoutPort(self) -> None:
        """
        The port may be left out.
        """
        for text, found in (
            ("Shop.example", ("shop.example", None)),
            ("shop.example:1", ("shop.example", 1)),
            ("192.0.2.1", ("192.0.2.1", None)),
            ("[2001:db8::0:1]", ("2001:db8::1", None)),
            ("[::1]:65535", ("::1", 65535)),
        ):
            self.assertEqual(parseAuthority(text, "it"), found)

    def test_empty(self) -> None:
        """
        The sentence of a refusal begins with what it is about.
        """
        self.assertEqual(str(self.assertRaises(RequestRefused, parseAuthority, "", "it")), "it is empty")

    def test_quoted(self) -> None:
        """
        What a client sent is shown in few letters, all of them printable.
        """
        self.assertEqual(quoted("a\r\n\xfc"), "'a\\r\\n\\xfc'")
        self.assertEqual(quoted("a" * 41), "'" + "a" * 37 + "...'")
