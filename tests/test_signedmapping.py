# -*- test-case-name: tests.test_signedmapping -*-
"""
L{tlsproxy.signedmapping}: which signed mappings are taken.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mappingsigning import AUDIENCE, BODY, NEW_KEY, NOW, OLD_KEY, STRANGER, facts, public, signed
from tlsproxy.signedmapping import MappingProblem, Trust, accept, readFacts, recognize, textOf
from tlsproxy.tls.signatures import sign

FIRST = Trust(keys=(public(OLD_KEY),), audience=AUDIENCE)


class AcceptTests(SynchronousTestCase):
    """
    What a client proxy takes.
    """

    def refused(self, data: bytes, words: str, trust: Trust = FIRST, now: datetime = NOW) -> None:
        """
        It is not taken, and one sentence says why.
        """
        problem = str(self.assertRaises(MappingProblem, accept, data, trust, now))
        self.assertIn(words, problem)
        self.assertRegex(problem, "^its? ")
        self.assertNotIn("\n", problem)

    def test_first(self) -> None:
        """
        The first is taken by the key alone, and tells all about itself.
        """
        data = signed()
        found, trust = accept(data, FIRST, NOW)
        self.assertEqual(found, readFacts(data))
        self.assertEqual(
            (AUDIENCE, 7, None, public(OLD_KEY)), (found.audience, found.version, found.nextKey, found.signer)
        )
        self.assertEqual(datetime(2026, 11, 28, 23, tzinfo=UTC), found.issued)
        self.assertEqual(datetime(2026, 12, 28, 23, tzinfo=UTC), found.expires)
        self.assertEqual(hashlib.sha256(data).digest(), found.digest)
        self.assertEqual(Trust((public(OLD_KEY),), AUDIENCE, 7, found.digest), trust)
        self.assertEqual(facts() + BODY, textOf(data))

    def test_again(self) -> None:
        """
        The same one is taken again, and a later one after it.
        """
        data = signed()
        trust = accept(data, FIRST, NOW)[1]
        self.assertEqual(trust, accept(data, trust, NOW)[1])
        self.assertEqual(8, accept(signed(facts(8)), trust, NOW)[1].version)

    def test_rolledBack(self) -> None:
        """
        An older one is not taken, nor another one of the same version, however good its signature is.
        """
        trust = accept(signed(), FIRST, NOW)[1]
        self.refused(signed(facts(6)), "its version 6 is older than 7", trust)
        self.refused(signed(body=BODY + "# other\n"), "another one than the one of the same version 7", trust)
        self.refused(signed(facts(7, expires="2027-12-01T00:00:00Z")), "the same version", trust)

    def test_strangers(self) -> None:
        """
        What nobody has signed, or a stranger, is not taken, and is not even read as TOML.
        """
        self.refused((facts() + BODY).encode(), "it has no signature")
        self.refused(signed(key=STRANGER), "signed by somebody who is not trusted")
        self.refused(sign(b"no TOML\n", STRANGER), "signed by somebody who is not trusted")
        self.refused(signed(facts(nextKey=STRANGER), STRANGER), "not trusted")
        self.refused(signed(), "not trusted", evolve(FIRST, keys=()))

    def test_audience(self) -> None:
        """
        One for other client proxies is not taken, though the same key has signed it.
        """
        self.refused(signed(facts(audience='"other.example"')), "it is for other.example, and not for proxies.example")

    def test_changed(self) -> None:
        """
        One that was cut or changed by a byte, or got another signature beside its own, is not taken.
        """
        data = signed()
        for position in range(len(data)):
            self.assertRaises(MappingProblem, accept, data[:position], FIRST, NOW)
            changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            self.assertRaises(MappingProblem, accept, changed, FIRST, NOW)
        line = data[data.rindex(b"\n", 0, -1) + 1 :]
        self.refused(data + line, "more than one signature")
        self.refused(data + signed(facts(8), STRANGER), "more than one signature")
        self.refused(data + BODY.encode(), "no signature as its last line")

    def test_times(self) -> None:
        """
        It counts from an hour before it was issued, for clocks that differ, until it expires.
        """
        issued, expires = datetime(2026, 11, 28, 23, tzinfo=UTC), datetime(2026, 12, 28, 23, tzinfo=UTC)
        data = signed()
        accept(data, FIRST, issued - timedelta(hours=1))
        self.refused(data, "issued in the future, on 2026-11-28 23:00 UTC", now=issued - timedelta(minutes=61))
        accept(data, FIRST, expires - timedelta(seconds=1))
        self.refused(data, "it has expired on 2026-12-28 23:00 UTC", now=expires)
        # What is kept is known for what it is at any time.
        for now in (issued - timedelta(days=5), expires + timedelta(days=5)):
            self.assertRaises(MappingProblem, accept, data, FIRST, now)
        self.assertEqual(7, recognize(data, FIRST)[1].version)

    def test_zones(self) -> None:
        """
        Times are moments, in whatever zone they are written.
        """
        found = readFacts(signed(facts(expires="2026-12-29T01:00:00+02:00")))
        self.assertEqual(datetime(2026, 12, 28, 23, tzinfo=UTC), found.expires)

    def test_nextKey(self) -> None:
        """
        A key changes by way of a mapping that names the next one; once that has signed one, the old key counts no more.
        """
        trust = accept(signed(), FIRST, NOW)[1]
        self.refused(signed(facts(8), NEW_KEY), "not trusted", trust)
        named = accept(signed(facts(8, nextKey=NEW_KEY)), trust, NOW)[1]
        self.assertEqual((public(OLD_KEY), public(NEW_KEY)), named.keys)
        # Until then both may sign; the old one may also think better of it.
        self.assertEqual((public(OLD_KEY),), accept(signed(facts(9)), named, NOW)[1].keys)
        changed = accept(signed(facts(9), NEW_KEY), named, NOW)[1]
        self.assertEqual((public(NEW_KEY),), changed.keys)
        self.refused(signed(facts(10)), "not trusted", changed)
        self.refused(signed(facts(10, nextKey=STRANGER)), "not trusted", changed)
        self.refused(signed(facts(10), STRANGER), "not trusted", changed)
        # One that names the key that it is signed with names nothing new.
        self.assertEqual((public(OLD_KEY),), accept(signed(facts(nextKey=OLD_KEY)), FIRST, NOW)[1].keys)


class FactsTests(SynchronousTestCase):
    """
    What stands in a signed mapping.
    """

    def refused(self, data: bytes, words: str) -> None:
        """
        It is refused with one sentence, though its signature is good.
        """
        problem = str(self.assertRaises(MappingProblem, readFacts, data))
        self.assertIn(words, problem)
        self.assertRegex(problem, "^its? ")

    def test_tables(self) -> None:
        """
        There is nothing in it but its three tables, and nothing in the first but what is known.
        """
        self.refused(signed(body=BODY + "[route]\n"), "it has 'route' in it")
        self.refused(signed('downgrade = "connect"\n' + facts()), "it has 'downgrade' in it")
        self.refused(signed(""), "it has no table [mapping]")
        self.refused(signed("", body="mapping = 5\n"), "it has no table [mapping]")
        self.refused(signed("", body="[[mapping]]\nversion = 1\n"), "it has no table [mapping]")
        self.refused(signed(facts(more='ca = "ca.pem"\n')), "its [mapping] has a key 'ca'")
        for key in ("audience", "version", "issued", "expires"):
            head = "".join(line for line in facts().splitlines(True) if not line.startswith(key))
            self.refused(signed(head), f"its [mapping] does not say {key}")

    def test_values(self) -> None:
        """
        Each value is what it has to be.
        """
        for audience in ("5", '"Proxies.example"', '"proxies.example."', '""', '"a b"', '"192.0.2.1"', '"*.example"'):
            self.refused(signed(facts(audience=audience)), "its audience is no DNS name in lower case")
        for version in ("0", "-1", "true", "1.0", '"1"', str(2**63), "[1]"):
            self.refused(signed(facts(version)), "its version is no whole number from 1")
        for time_ in ("2026-12-28", "2026-12-28T23:00:00", "23:00:00", "1798498800", '"2026-12-28T23:00:00Z"'):
            self.refused(signed(facts(issued=time_)), "its issued is no time with its time zone")
            self.refused(signed(facts(expires=time_)), "its expires is no time with its time zone")
        self.refused(signed(facts(issued="0001-01-01T00:00:00+23:00")), "its issued is no time that there ever was")
        self.refused(signed(facts(expires="9999-12-31T23:59:59-23:00")), "its expires is no time that there ever was")
        self.refused(signed(facts(expires="2026-11-28T23:00:00Z")), "it expires before it was issued")
        self.refused(signed(facts(expires="2028-01-03T00:00:00Z")), "it is valid for more than 400 days")
        for key in ("5", '""', '"AAAA"', f'"{"A" * 43}"', f'"{"A" * 42}B="', f'"{"_" * 43}="', f'"{"A" * 43}=\\n"'):
            self.refused(signed(facts(more=f"next_key = {key}\n")), "its next_key is no public key")

    def test_readAlike(self) -> None:
        """
        What one reader skips or changes and another does not is not in it: other line ends, a mark of byte order, NUL
        and the like.
        """
        whole = facts() + BODY
        for text in (whole.replace("\n", "\r\n"), whole + "#\r\n", f"\ufeff{whole}", whole + "# \ufeff\n"):
            self.refused(sign(text.encode(), OLD_KEY), "it has control characters in it")
        for code in (*range(9), 11, 12, *range(14, 32), 127):
            self.refused(sign(f"{whole}# {chr(code)}\n".encode(), OLD_KEY), "it has control characters in it")
        self.refused(sign(whole.encode() + b"# \xff\n", OLD_KEY), "it is not UTF-8")
        self.assertEqual(7, readFacts(signed(body=BODY + "#\tm\u00fcller\n")).version)

    def test_noTOML(self) -> None:
        """
        What is no TOML is refused, however it is none.
        """
        self.refused(signed(body="map =\n"), "it is not TOML: ")
        self.refused(signed(facts("1" * 5000)), "it is not TOML: ")
        self.refused(signed(body="x = " + "[" * 50000 + "\n"), "it is nested too deep")
        self.refused(signed(facts(more="version = 8\n")), "it is not TOML: ")

    def test_large(self) -> None:
        """
        A very large one is not looked at.
        """
        self.refused(b"#" * 50_000_000, "it has more than 1 MiB")
        self.refused(signed(body=BODY + "#" * 1024 * 1024 + "\n"), "it has more than 1 MiB")
        readFacts(signed(body=BODY + "#\n" * 500_000))

    @given(text=st.text(max_size=200), head=st.booleans())
    @example(text="x = 1979-05-27T07:32:60Z", head=False)
    def test_anything(self, text: str, head: bool) -> None:
        """
        Whatever somebody has signed, it is read or refused.
        """
        data = (facts() if head else "") + text + "\n"
        try:
            readFacts(sign(data.encode(), OLD_KEY))
        except MappingProblem as e:
            self.assertRegex(str(e), "^its? ")
        except ValueError as e:
            self.assertIn("signed already", str(e))
