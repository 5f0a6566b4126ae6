"""
Tests for L{tlsproxy.targets}.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.errors import AdmissionRefused
from tlsproxy.targets import Target, TargetRefused, Targets, ownListener, parseTarget

NAME = r"\A[ab](\.[ab]){0,3}\Z"
PATTERN = r"\*|((\*\*?\.)?[ab](\.[ab]){0,2})"
LISTS = Targets(
    allow=["*.internal:443", "10.0.0.0/8:8443", "shop.example:8000-8099"],
    deny=["10.0.9.0/24", "secret.internal", "*.example:8080", "[2001:db8:9::/48]:443"],
)


def notOwn(address: str, port: int) -> bool:
    """
    Say that nothing is a listener of this proxy.
    """
    return False


class ParseTests(SynchronousTestCase):
    """
    Tests for L{parseTarget}.
    """

    def test_forms(self) -> None:
        """
        Host patterns, addresses and networks are read with a port, a range of ports, or all ports.
        """
        v4, v6 = IPv4Network, IPv6Network
        for text, pattern, network, ports in (
            ("shop.example:443", "shop.example", None, (443, 443)),
            ("*.Internal:8000-8099", "*.internal", None, (8000, 8099)),
            ("**.example.com:*", "**.example.com", None, (1, 65535)),
            ("*:443", "*", None, (443, 443)),
            ("10.1.2.3:1", "", v4("10.1.2.3/32"), (1, 1)),
            ("10.0.0.0/8:8443", "", v4("10.0.0.0/8"), (8443, 8443)),
            ("[2001:db8::1]:443", "", v6("2001:db8::1/128"), (443, 443)),
            ("[2001:db8::/32]:*", "", v6("2001:db8::/32"), (1, 65535)),
            ("[::ffff:10.0.0.0/104]:65535", "", v4("10.0.0.0/8"), (65535, 65535)),
        ):
            found = parseTarget(text, True)
            self.assertEqual(Target(text, pattern, network, ports), found)
            self.assertEqual(found, parseTarget(text, False))
            self.assertEqual(text, str(found))

    def test_withoutPort(self) -> None:
        """
        Where no port is needed, an entry without one is for all.
        """
        for text in ("shop.example", "*", "10.0.9.0/24", "10.1.2.3", "[2001:db8::1]", "[2001:db8::/32]"):
            found = parseTarget(text, False)
            self.assertEqual((text, (1, 65535)), (str(found), found.ports))

    def test_portNeeded(self) -> None:
        """
        Where a port is needed, the sentence shows how to give one; a colon without a port is wrong anywhere.
        """
        for text, shown in {
            "shop.example": "shop.example",
            "10.0.0.0/8": "10.0.0.0/8",
            "[2001:db8::/32]": "[2001:db8::/32]",
            "*.example:": "*.example",
            "[::1]:": "[::1]",
        }.items():
            sentence = f"{text!r}: say which port, as in {shown}:443, or {shown}:* for all"
            self.assertEqual(sentence, str(self.assertRaises(ValueError, parseTarget, text, True)))
            if text.endswith(":"):
                self.assertEqual(sentence, str(self.assertRaises(ValueError, parseTarget, text, False)))

    def test_wrong(self) -> None:
        """
        What is wrong with an entry is told in a sentence.
        """
        brackets = "brackets hold an IPv6 address or network, as in [2001:db8::/32]:443"
        colons = (
            "put an IPv6 address in brackets, as in [2001:db8::1]:443; otherwise one colon at most, before the port"
        )
        for text, sentence in {
            "": "'' is no target: give HOST:PORT, ADDRESS:PORT or NETWORK:PORT",
            "shop.example: 443": "'shop.example: 443' is no target: give HOST:PORT, ADDRESS:PORT or NETWORK:PORT",
            "a:443\n": "'a:443\\n' is no target: give HOST:PORT, ADDRESS:PORT or NETWORK:PORT",
            "https://shop.example/": "'https://shop.example/' is a URL: give HOST:PORT",
            "me@shop.example:443": "'me@shop.example:443': leave out the user: give HOST:PORT",
            "443": "'443' names no host: for any host, write *:443",
            ":443": "':443' names no host: for any host, write *:443",
            "[10.0.0.1]:443": f"'[10.0.0.1]:443': {brackets}",
            "[::1:443": f"'[::1:443': {brackets}",
            "[::1]443": "'[::1]443': after the brackets only a port may follow, as in [::1]:443",
            "[2001:db8::]/32:443": "'[2001:db8::]/32:443': the length of a network belongs into the brackets, "
            "as in [2001:db8::/32]:443",
            "2001:db8::/32": "'2001:db8::/32': put an IPv6 address or network in brackets: "
            "[2001:db8::/32], or with a port [2001:db8::/32]:443",
            "2001:db8::/32:443": f"'2001:db8::/32:443': {colons}",
            "a:b:443": f"'a:b:443': {colons}",
            "[fe80::1%eth0]:443": "'fe80::1%eth0' names a zone: only addresses without one can be told apart",
            "10.0.9.1/24:443": "'10.0.9.1/24' has bits after its length: "
            "write 10.0.9.0/24, or 10.0.9.1 for that one address",
            "shop.example/24:443": "'shop.example/24:443': only an address may have a slash, as in 10.0.0.0/8",
            "10.0.0:443": "'10.0.0' ends in a number, as no host name does, and is no whole IP address",
            "a*.example:443": "'a*.example': a star stands for whole labels, and before a name: "
            "*.example.com, **.example.com",
            "a:443,8443": "'a:443,8443': give each port an entry of its own, or a range, as in a:8000-8099",
            "a:9-8": "'a:9-8': the range is backward: write a:8-9",
            "a:0": "'a:0': '0' is no port; ports go from 1 to 65535",
            "a:1-65536": "'a:1-65536': '1-65536' is no port; ports go from 1 to 65535",
            "a:443/": "'a:443/': '443/' is no port; ports go from 1 to 65535",
            "a:https": "'a:https': 'https' is no port; ports go from 1 to 65535",
            "a:\u0661": "'a:\u0661': '\u0661' is no port; ports go from 1 to 65535",
        }.items():
            self.assertEqual(sentence, str(self.assertRaises(ValueError, parseTarget, text, False)))
            self.assertRaises(ValueError, parseTarget, text, True)

    def test_within(self) -> None:
        """
        It can be told whether one entry has all that another has.
        """
        for one, other in (
            ("shop.example:443", "shop.example:*"),
            ("shop.example:443", "*.example:400-500"),
            ("a.shop.example:443", "**.example:443"),
            ("*.example:443", "*.example:443"),
            ("*.example:443", "**.example:443"),
            ("*.shop.example:443", "**.example:443"),
            ("**.shop.example:443", "**.example:443"),
            ("10.1.0.0/16:443", "10.0.0.0/8:443"),
            ("10.1.2.3:443", "*:443"),
            ("[2001:db8::1]:443", "[2001:db8::/32]:443"),
            ("**.example:443", "*:443"),
        ):
            self.assertTrue(parseTarget(one, True).isWithin(parseTarget(other, True)), (one, other))
        for one, other in (
            ("shop.example:*", "shop.example:443"),
            ("a.shop.example:443", "*.example:443"),
            ("example:443", "**.example:443"),
            ("*.example:443", "shop.example:443"),
            ("*.shop.example:443", "*.example:443"),
            ("**.example:443", "*.example:443"),
            ("*.myexample:443", "**.example:443"),
            ("*:443", "**.example:443"),
            ("*:443", "0.0.0.0/0:443"),
            ("10.0.0.0/8:443", "10.1.0.0/16:443"),
            ("10.0.0.1:443", "[::/0]:443"),
            ("10.0.0.1:443", "**.example:443"),
            ("shop.example:443", "0.0.0.0/0:443"),
        ):
            self.assertFalse(parseTarget(one, True).isWithin(parseTarget(other, True)), (one, other))

    @given(st.from_regex(PATTERN, fullmatch=True), st.from_regex(PATTERN, fullmatch=True), st.from_regex(NAME))
    def test_withinAny(self, one: str, other: str, name: str) -> None:
        """
        What is within another has no host that this has not.
        """
        first, second = parseTarget(f"{one}:443", True), parseTarget(f"{other}:443", True)
        if first.isWithin(second) and first.names(name):
            self.assertTrue(second.names(name))

    def test_lists(self) -> None:
        """
        The lists take strings and entries, one string alone as well; in allow, a port is needed.
        """
        entry = parseTarget("a:1", True)
        self.assertEqual((entry, parseTarget("b:2", True)), Targets(allow=[entry, "b:2"]).allow)
        self.assertEqual((parseTarget("b", False),), Targets(deny="b").deny)
        self.assertRaises(ValueError, Targets, allow=["b"])


class Refusals(SynchronousTestCase):
    """
    What refusals are checked with.
    """

    def assertUnwelcome(self, lists: Targets, host: str, port: int, sentence: str) -> None:
        """
        Check that a target is refused before its name is resolved.
        """
        self.check(self.assertRaises(TargetRefused, lists.admit, host, port), sentence)

    def assertRefused(self, lists: Targets, host: str, port: int, addresses: Sequence[str], sentence: str) -> None:
        """
        Check that a target is refused for its addresses, if not before.
        """
        self.check(self.assertRaises(TargetRefused, lists.permitted, host, port, addresses, notOwn), sentence)

    def check(self, refused: TargetRefused, sentence: str) -> None:
        """
        Check what the log is told, and that the client is told the same for whatever reason.
        """
        self.assertEqual(sentence, str(refused))
        self.assertEqual(f"this proxy does not allow a tunnel to {sentence.split()[0]}", refused.public)


class AdmitTests(Refusals):
    """
    Tests for L{Targets.admit}.
    """

    def test_allowed(self) -> None:
        """
        What an entry names is admitted, and so is any name for whose port there is a network.
        """
        for host, port in (
            ("db.internal", 443),
            ("db.internal.", 443),
            ("shop.example", 8000),
            ("shop.example", 8099),
            ("10.1.2.3", 8443),
            ("::ffff:10.1.2.3", 8443),
            ("anywhere.example", 8443),
        ):
            LISTS.admit(host, port)

    def test_unlisted(self) -> None:
        """
        What no entry names is refused.
        """
        for target, host, port in (
            ("internal:443", "internal", 443),
            ("a.b.internal:443", "a.b.internal", 443),
            ("db.internal:444", "db.internal", 444),
            ("db.internal:0", "db.internal", 0),
            ("11.1.2.3:8443", "11.1.2.3", 8443),
            ("10.1.2.3:443", "10.1.2.3", 443),
            ("[2001:db8::1]:443", "2001:db8::1", 443),
        ):
            self.assertUnwelcome(LISTS, host, port, f"{target} is not in [route.targets] allow")

    def test_denied(self) -> None:
        """
        What an entry of deny names is refused by name.
        """
        for host, port, entry in (
            ("secret.internal", 443, "secret.internal"),
            ("SECRET.internal.", 443, "secret.internal"),
            ("shop.example", 8080, "*.example:8080"),
            ("10.0.9.7", 8443, "10.0.9.0/24"),
        ):
            sentence = f"{host}:{port} is denied by '{entry}' of [route.targets] deny"
            self.assertUnwelcome(LISTS, host, port, sentence)

    def test_nothing(self) -> None:
        """
        Without any entry, everything is refused.
        """
        self.assertUnwelcome(Targets(), "shop.example", 443, "shop.example:443 is not in [route.targets] allow")
        self.assertUnwelcome(Targets(), "10.1.2.3", 443, "10.1.2.3:443 is not in [route.targets] allow")

    def test_anyHost(self) -> None:
        """
        A star stands for names and addresses alike.
        """
        lists = Targets(allow=["*:443"], deny=["*:25"])
        lists.admit("shop.example", 443)
        lists.admit("10.1.2.3", 443)
        lists.admit("2001:db8::1", 443)
        self.assertUnwelcome(lists, "10.1.2.3", 25, "10.1.2.3:25 is denied by '*:25' of [route.targets] deny")

    def test_doubtful(self) -> None:
        """
        What is neither a name nor an address is refused even where anything is allowed, and not repeated to the client.
        """
        lists = Targets(allow=["*:443", "0.0.0.0/0:443", "[::/0]:443"])
        for host in ("", "127.1", "0x7f000001", "fe80::1%eth0", "a b", "a..b", "a\nb", "\u212a.example", "[::1]"):
            for refused in (
                self.assertRaises(TargetRefused, lists.admit, host, 443),
                self.assertRaises(TargetRefused, lists.permitted, host, 443, ["10.1.2.3"], notOwn),
            ):
                self.assertEqual(f"{host!r}, port 443, is neither a host name nor a plain IP address", str(refused))
                self.assertEqual("this proxy does not allow a tunnel to such a host", refused.public)

    def test_isARefusal(self) -> None:
        """
        Sessions know such a refusal as one.
        """
        self.assertTrue(issubclass(TargetRefused, AdmissionRefused))


class OwnTests(SynchronousTestCase):
    """
    Tests for L{ownListener}.
    """

    def setUp(self) -> None:
        """
        Have some listeners, on a machine with two addresses.
        """
        self.asked: list[str] = []
        self.listeners = [
            ("10.1.2.3", 8443),
            ("0.0.0.0", 443),
            ("::", 80),
            ("2001:db8::1", 443),
            ("fe80::1%eth0", 99),
        ]
        self.own = ownListener(self.listeners, self.isLocal)

    def isLocal(self, address: str) -> bool:
        """
        Tell the addresses of this machine.
        """
        self.asked.append(address)
        return address in ("10.1.2.3", "2001:db8::1")

    def test_specific(self) -> None:
        """
        A listener on one address is that address and port; nothing else is asked for it.
        """
        for address, port, expected in (
            ("10.1.2.3", 8443, True),
            ("::ffff:10.1.2.3", 8443, True),
            ("10.1.2.4", 8443, False),
            ("10.1.2.3", 8444, False),
            ("2001:db8:0::1", 443, True),
            ("fe80::1", 99, True),
        ):
            self.assertEqual(expected, self.own(address, port), (address, port))
        self.assertEqual([], self.asked)

    def test_everywhere(self) -> None:
        """
        A listener on all addresses is every address of this machine, of its own family or, with IPv6, of both.
        """
        for address, port, expected in (
            ("10.1.2.3", 443, True),
            ("10.1.2.4", 443, False),
            ("10.1.2.3", 80, True),
            ("2001:db8::1", 80, True),
            ("2001:db8::2", 80, False),
        ):
            self.assertEqual(expected, self.own(address, port), (address, port))
        self.assertEqual(["10.1.2.3", "10.1.2.4", "10.1.2.3", "2001:db8::1", "2001:db8::2"], self.asked)
        self.listeners.remove(("2001:db8::1", 443))
        self.assertFalse(self.own("2001:db8::1", 443))

    def test_changing(self) -> None:
        """
        Listeners that come and go later are known.
        """
        self.assertFalse(self.own("10.1.2.3", 8000))
        self.listeners.append(("0.0.0.0", 8000))
        self.assertTrue(self.own("10.1.2.3", 8000))
        self.listeners.clear()
        self.assertFalse(self.own("10.1.2.3", 8000))
