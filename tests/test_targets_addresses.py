"""
Tests for which addresses L{tlsproxy.targets} permits.
"""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_targets import LISTS, Refusals, notOwn
from tlsproxy.targets import Target, TargetRefused, Targets, parseTarget
from tlsproxy.wire.network import embedded, plainAddress, special

# All that leads to this machine or its cloud's inside, with what it is.
INSIDE = {
    "127.0.0.1": "loopback",
    "::1": "loopback",
    "169.254.169.254": "a cloud metadata address",
    "0.0.0.0": "unspecified, which Linux connects to itself",
    "::": "unspecified, which Linux connects to itself",
    "64:ff9b::7f00:1": "a NAT64 address of 127.0.0.1, which is loopback",
    "::7f00:1": "an IPv4-compatible address of 127.0.0.1, which is loopback",
    "2002:a9fe:a9fe::1": "a 6to4 address of 169.254.169.254, which is a cloud metadata address",
}

addresses = st.one_of(
    st.sampled_from(
        ["10.0.9.1", "10.1.2.3", "93.184.216.34", "2001:db8::1", "::ffff:10.1.2.3", "64:ff9b::a00:901", *INSIDE]
    ),
    st.ip_addresses().map(str),
)
LITERALS = ("10.1.2.3", "127.0.0.1", "::1")
hosts = st.sampled_from(["shop.example", "a.shop.example", "db.internal", *LITERALS])
ports = st.sampled_from([80, 443, 8443])
entries = st.builds(
    "{}:{}".format,
    st.sampled_from(
        [
            *("*", "shop.example", "*.example", "**.example", "db.internal", "10.0.0.0/8", "10.0.9.0/24", "127.0.0.1"),
            *("0.0.0.0/0", "93.184.216.34", "[::1]", "[2001:db8::/32]", "[64:ff9b::/96]", "[::/0]"),
        ]
    ),
    st.sampled_from(["*", "443", "80-443", "8443"]),
).map(lambda text: parseTarget(text, True))


class PermittedTests(Refusals):
    """
    Tests for L{Targets.permitted}.
    """

    def test_order(self) -> None:
        """
        What may be dialed keeps its order and comes once, in its plain form.
        """
        given = ["93.184.216.34", "2001:db8::1", "::ffff:93.184.216.34", "10.1.2.3", "2001:DB8:0::1", "::ffff:10.1.2.4"]
        self.assertEqual(
            ["93.184.216.34", "2001:db8::1", "10.1.2.3", "10.1.2.4"], LISTS.permitted("db.internal", 443, given, notOwn)
        )

    def test_someRefused(self) -> None:
        """
        Addresses that may not be dialed are left out, wherever they stand.
        """
        given = ["127.0.0.1", "93.184.216.34", "10.0.9.1", "fe80::1%eth0", "2001:db8::1", "2001:db8:9::1", "nonsense"]
        self.assertEqual(["93.184.216.34", "2001:db8::1"], LISTS.permitted("db.internal", 443, given, notOwn))

    def test_byNetwork(self) -> None:
        """
        A network allows all names that lead into it, and no others.
        """
        given = ["93.184.216.34", "10.1.2.3"]
        self.assertEqual(["10.1.2.3"], LISTS.permitted("any.example", 8443, given, notOwn))
        self.assertRefused(
            LISTS,
            "any.example",
            8443,
            ["93.184.216.34"],
            "any.example:8443 is refused: its address 93.184.216.34 is not in [route.targets] allow",
        )

    def test_literal(self) -> None:
        """
        A host that is an address is permitted by a network or by the star.
        """
        self.assertEqual(["10.1.2.3"], LISTS.permitted("10.1.2.3", 8443, ["10.1.2.3"], notOwn))
        self.assertEqual(["10.1.2.3"], Targets(allow="*:1").permitted("::ffff:10.1.2.3", 1, ["::ffff:a01:203"], notOwn))
        self.assertRefused(LISTS, "10.1.2.3", 443, ["10.1.2.3"], "10.1.2.3:443 is not in [route.targets] allow")
        self.assertRefused(
            Targets(allow="*:443"),
            "::1",
            443,
            ["::1"],
            "[::1]:443 is loopback, and no address or network in [route.targets] allow covers it",
        )

    def test_rebinding(self) -> None:
        """
        An allowed name that leads to the inside is refused, however its DNS writes that.
        """
        for lists in (LISTS, Targets(allow=["*:443", "10.0.0.0/8:443", "127.0.0.1:444"])):
            for address, words in {**INSIDE, "::ffff:127.0.0.1": "loopback"}.items():
                self.assertRefused(
                    lists,
                    "db.internal",
                    443,
                    [address],
                    f"db.internal:443 is refused: its address {plainAddress(address)} is {words}, "
                    "and no address or network in [route.targets] allow covers it",
                )

    def test_insideOnRequest(self) -> None:
        """
        An address or a network in allow opens the inside; the name of it does not.
        """
        lists = Targets(allow=["localhost:8000", "127.0.0.0/8:8001", "[::1]:8001"])
        for address in ("127.0.0.1", "::1"):
            self.assertRaises(TargetRefused, lists.permitted, "localhost", 8000, [address], notOwn)
            self.assertEqual([address], lists.permitted("localhost", 8001, [address], notOwn))
        # The network is one of IPv4, and what embeds its addresses is another place.
        self.assertRaises(TargetRefused, lists.permitted, "localhost", 8001, ["64:ff9b::7f00:1"], notOwn)

    def test_denied(self) -> None:
        """
        A denied name is refused whatever its addresses; a denied network whatever the name, also by way of IPv6.
        """
        self.assertRefused(
            LISTS,
            "secret.internal",
            443,
            ["93.184.216.34"],
            "secret.internal:443 is denied by 'secret.internal' of [route.targets] deny",
        )
        self.assertRefused(
            LISTS,
            "db.internal",
            443,
            ["::ffff:10.0.9.1", "127.0.0.1"],
            "db.internal:443 is refused: its address 10.0.9.1 is denied by '10.0.9.0/24' of [route.targets] deny",
        )
        self.assertRefused(
            LISTS, "10.0.9.1", 8443, ["10.0.9.1"], "10.0.9.1:8443 is denied by '10.0.9.0/24' of [route.targets] deny"
        )
        self.assertRefused(
            LISTS,
            "db.internal",
            443,
            ["64:ff9b::a00:901"],
            "db.internal:443 is refused: its address 64:ff9b::a00:901 is a NAT64 address of 10.0.9.1, "
            "which is denied by '10.0.9.0/24' of [route.targets] deny",
        )

    def test_deniedPorts(self) -> None:
        """
        A denied network with a port is denied at that port alone.
        """
        lists = Targets(allow="db.internal:*", deny=["[2001:db8:9::/48]:443"])
        self.assertRaises(TargetRefused, lists.permitted, "db.internal", 443, ["2001:db8:9::1"], notOwn)
        self.assertEqual(["2001:db8:9::1"], lists.permitted("db.internal", 444, ["2001:db8:9::1"], notOwn))

    def test_own(self) -> None:
        """
        This proxy's own listeners are refused, also by way of IPv6, but where a network in allow covers them.
        """
        asked = []

        def own(address: str, port: int) -> bool:
            asked.append((address, port))
            return address == "10.1.2.3"

        for address in ("10.1.2.3", "64:ff9b::a01:203"):
            refused = self.assertRaises(TargetRefused, LISTS.permitted, "db.internal", 443, [address], own)
            self.check(
                refused,
                f"db.internal:443 is refused: its address {address} is a listener of this proxy, "
                "and no address or network in [route.targets] allow covers it",
            )
        self.assertEqual([("10.1.2.3", 443), ("64:ff9b::a01:203", 443), ("10.1.2.3", 443)], asked)
        self.assertEqual(["10.1.2.3"], LISTS.permitted("db.internal", 8443, ["10.1.2.3"], own))

    def test_ownIsAskedLast(self) -> None:
        """
        Nothing is asked about addresses that are refused anyway, or permitted by a network.
        """

        def own(address: str, port: int) -> bool:
            raise AssertionError("asked")

        for host, port, address in (
            ("db.internal", 443, "127.0.0.1"),
            ("db.internal", 443, "10.0.9.1"),
            ("any.example", 8443, "93.184.216.34"),
        ):
            self.assertRaises(TargetRefused, LISTS.permitted, host, port, [address], own)
        self.assertEqual(["10.1.2.3"], LISTS.permitted("db.internal", 8443, ["10.1.2.3"], own))

    def test_noAddress(self) -> None:
        """
        A name without addresses, or with none that is one, is refused.
        """
        self.assertRefused(LISTS, "db.internal", 443, [], "db.internal:443 is refused: it has no address")
        self.assertRefused(
            LISTS,
            "db.internal",
            443,
            ["fe80::1%eth0"],
            "db.internal:443 is refused: 'fe80::1%eth0' names a zone: only addresses without one can be told apart",
        )

    def test_nothing(self) -> None:
        """
        Without any entry, everything is refused.
        """
        self.assertRefused(
            Targets(),
            "shop.example",
            443,
            ["93.184.216.34"],
            "shop.example:443 is refused: its address 93.184.216.34 is not in [route.targets] allow",
        )

    def test_beside(self) -> None:
        """
        What another list covers by its address is meant, although it leads back to this machine: but it has to be
        allowed here, too, and nothing else is made of that.
        """
        here, own = Targets(allow=["shop.example:443"]), lambda address, port: address == "192.0.2.1"
        beside = Targets(allow=["127.0.0.0/8:443", "192.0.2.0/24:443", "198.51.100.1:22"])
        for address in ("127.0.0.1", "192.0.2.1"):
            permitted = here.permitted("shop.example", 443, [address], own, beside=beside)
            self.assertEqual([address], permitted)
            for other in (None, Targets(allow=["*:443"]), Targets(allow=[f"{address}:22"])):
                self.assertRaises(TargetRefused, here.permitted, "shop.example", 443, [address], own, beside=other)
        self.assertRaises(
            TargetRefused, Targets(allow=["10.0.0.0/8:443"]).permitted, "x.example", 443, ["127.0.0.1"], own, beside
        )

    def test_origin(self) -> None:
        """
        Where the list is from is told.
        """
        error = self.assertRaises(TargetRefused, Targets(origin="the list").admit, "shop.example", 443)
        self.assertEqual("shop.example:443 is not in the list", str(error))


class PropertyTests(Refusals):
    """
    What holds for any lists.
    """

    @settings(deadline=None)
    @given(
        st.one_of(
            st.text(),
            st.text("0123456789abcdefx.:/%*[]-_@ ,", max_size=30),
            st.builds("{}{}:{}".format, st.ip_addresses(), st.sampled_from(["", "/8", "/128"]), st.text(max_size=6)),
            st.builds("[{}{}]:{}".format, st.ip_addresses(), st.sampled_from(["", "/8", "/128"]), st.integers()),
        ),
        st.booleans(),
    )
    def test_anyText(self, text: str, needsPort: bool) -> None:
        """
        Any text is an entry, or refused with a sentence.
        """
        try:
            found = parseTarget(text, needsPort)
        except ValueError as e:
            self.assertNotIn("\n", str(e))
        else:
            self.assertEqual(text, str(found))
            self.assertNotEqual(bool(found.pattern), found.network is not None)
            self.assertTrue(1 <= found.ports[0] <= found.ports[1] <= 65535)

    @settings(deadline=None)
    @given(
        st.lists(entries, max_size=4),
        st.lists(entries, max_size=3),
        hosts,
        ports,
        st.lists(addresses, max_size=5),
        st.sets(addresses.map(lambda text: str(plainAddress(text))), max_size=3),
    )
    def test_permitted(
        self, allow: list[Target], deny: list[Target], host: str, port: int, given: list[str], own: set[str]
    ) -> None:
        """
        Whatever is permitted was given, is denied by nothing, and is special or own only where a network covers it;
        and it was not refused before its addresses were known.
        """
        lists = Targets(allow=allow, deny=deny)
        if host in LITERALS:
            given = [host]
        try:
            found = lists.permitted(host, port, given, lambda address, _: address in own)
        except TargetRefused as e:
            shown = f"[{host}]" if ":" in host else host
            self.assertEqual(f"this proxy does not allow a tunnel to {shown}:{port}", e.public)
            return
        lists.admit(host, port)
        self.assertTrue(found)
        self.assertEqual(len(found), len(set(found)))
        plain = [str(plainAddress(text)) for text in given]
        self.assertEqual(found, [text for text in dict.fromkeys(plain) if text in found])
        self.assertFalse(any(one.opens(port) and one.names(host) for one in deny))
        for text in found:
            address = ip_address(text)
            embeds = [inner for inner, _ in embedded(address)]
            self.assertFalse(any(one.opens(port) and one.covers(each) for one in deny for each in [address, *embeds]))
            if not any(one.opens(port) and one.covers(address) for one in allow):
                self.assertEqual("", special(address))
                self.assertFalse(own.intersection(map(str, [address, *embeds])))
                self.assertTrue(any(one.opens(port) and one.names(host) for one in allow))

    @settings(deadline=None)
    @given(st.lists(entries, max_size=4), entries, hosts, ports, addresses)
    def test_denyBeatsAllow(self, allow: list[Target], denied: Target, host: str, port: int, address: str) -> None:
        """
        What an entry of deny hits is refused, whatever is allowed.
        """
        hit = denied.opens(port) and (denied.names(host) or denied.covers(plainAddress(address)))
        if hit:
            lists = Targets(allow=[*allow, denied], deny=[denied])
            self.assertRaises(TargetRefused, lists.permitted, host, port, [address], notOwn)

    @settings(deadline=None)
    @given(st.lists(entries, max_size=4), st.lists(entries, max_size=3), hosts, ports, addresses)
    def test_admit(self, allow: list[Target], deny: list[Target], host: str, port: int, address: str) -> None:
        """
        What is refused before its addresses are known would be refused for each of them.
        """
        lists = Targets(allow=allow, deny=deny)
        try:
            lists.admit(host, port)
        except TargetRefused:
            self.assertRaises(
                TargetRefused, lists.permitted, host, port, [host if host in LITERALS else address], notOwn
            )
