# -*- test-case-name: tests.test_mapping -*-
"""
L{tlsproxy.mapping}: which hosts are reached in which way.
"""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.address import TCP
from tlsproxy.mapping import Entry, Mapping, ReverseProxy, canonical
from tlsproxy.testing.certificates import clientTLS

DMZ = ReverseProxy(name="dmz", address=TCP("dmz.example", 443), tls=clientTLS("dmz.example"))


class MappingTests(SynchronousTestCase):
    """
    A mapping with one entry of each kind.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.secret = Entry(hosts="secret.bank.example:*")
        self.bank = Entry(hosts=("*.bank.example:443", "10.0.0.0/8:8000-8099", "[2001:db8::/32]:443"), via=DMZ)
        self.rest = Entry(hosts=["*.example:443", "192.0.2.1:443"], direct=True)
        self.mapping = Mapping(entries=[self.secret, self.bank, self.rest])

    def test_first(self) -> None:
        """
        The first entry that holds a host and its port counts; what none holds is nowhere.
        """
        for host, port, entry in (
            ("secret.bank.example", 443, self.secret),
            ("shop.bank.example", 443, self.bank),
            ("shop.bank.example", 444, None),
            ("a.shop.bank.example", 443, None),
            ("bank.example", 443, self.rest),
            ("10.1.2.3", 8099, self.bank),
            ("10.1.2.3", 443, None),
            ("2001:db8::5", 443, self.bank),
            ("192.0.2.1", 443, self.rest),
            ("192.0.2.2", 443, None),
        ):
            self.assertIs(entry, self.mapping.find(host, port), (host, port))

    def test_spelling(self) -> None:
        """
        A host is the same in whatever way it is written: no other spelling leads around its entry.
        """
        for host in ("SECRET.Bank.Example", "secret.bank.example.", "Secret.bank.example."):
            self.assertIs(self.secret, self.mapping.find(host, 443))
        for host in ("::ffff:10.1.2.3", "::ffff:0a01:0203"):
            self.assertIs(self.bank, self.mapping.find(host, 8000))
        self.assertIs(self.bank, self.mapping.find("2001:DB8:0:0::5", 443))
        self.assertEqual(("a.example", "10.0.0.1"), (canonical("A.example."), canonical("::ffff:10.0.0.1")))

    def test_noHost(self) -> None:
        """
        What is neither a name nor a plain address is nowhere, and nothing is made of it.
        """
        for host in ("", "a b", "127.1", "0x7f000001", "fe80::1%eth0", "-"):
            self.assertRaises(ValueError, self.mapping.find, host, 443)

    def test_everything(self) -> None:
        """
        A star alone holds names and addresses.
        """
        mapping = Mapping(entries=[Entry(hosts="*:443", via=DMZ)])
        for host in ("x", "192.0.2.1", "::1"):
            self.assertIsNotNone(mapping.find(host, 443))

    def test_proxies(self) -> None:
        """
        Each reverse proxy that it leads to is told once, and what may be dialed from here.
        """
        self.assertEqual((DMZ,), Mapping(entries=[self.bank, self.bank, self.rest]).reverseProxies)
        self.assertEqual((), Mapping(entries=[]).reverseProxies)
        self.assertEqual(self.rest.hosts, self.rest.targets.allow)

    def test_slips(self) -> None:
        """
        A host goes one way; hosts name their ports.
        """
        self.assertRaises(ValueError, Entry, hosts="a:1", via=DMZ, direct=True)
        self.assertRaises(ValueError, Entry, hosts="a")
        self.assertRaises(TypeError, Entry, hosts="a:1", via="dmz")
        self.assertRaises(TypeError, Mapping, entries=[], expires="2026-12-28T23:00:00Z")
        self.assertRaises(ValueError, Mapping, entries=[], expires=datetime(2026, 12, 28))
        self.assertIsNotNone(Mapping(entries=[], expires=datetime(2026, 12, 28, tzinfo=UTC)).expires)
        self.assertRaises(TypeError, ReverseProxy, name="dmz", address="dmz.example:443", tls=DMZ.tls)

    def test_shown(self) -> None:
        """
        An entry is shown in one line.
        """
        self.assertEqual("secret.bank.example:*: refuse", str(self.secret))
        self.assertEqual("*.example:443, 192.0.2.1:443: direct", str(self.rest))
        self.assertTrue(str(self.bank).endswith(": via dmz (dmz.example:443)"))
