"""
Tests for L{tlsproxy.wire.downgrade}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.wire.downgrade import VALUES, choiceFields, chooseWish, parseWishes, wishFields
from tlsproxy.wire.hostport import RequestRefused


class DowngradeTests(SynchronousTestCase):
    """
    The field TLS-Downgrade.
    """

    def test_wishes(self) -> None:
        """
        A list is read in its order; what is not known is left out, in other letters too.
        """
        for value, wishes in (
            ("handshake", ("handshake",)),
            ("handshake,none", ("handshake", "none")),
            ("none \t,\t connect", ("none", "connect")),
            ("later, none, *", ("none",)),
            ("Handshake, NONE", ()),
        ):
            self.assertEqual(parseWishes(value), wishes)

    def test_malformed(self) -> None:
        """
        A list with an empty item, with something that is no word or with one thing twice is refused.
        """
        for value, sentence in (
            ("", "an empty item"),
            (" ", "an empty item"),
            (",none", "an empty item"),
            ("none, ,connect", "an empty item"),
            ("none;q=1", "an item that is no word"),
            ("handshake none", "an item that is no word"),
            ('"none"', "an item that is no word"),
            ("n\xf6ne", "an item that is no word"),
            ("none,none", "an item twice"),
            ("later, none, later", "an item twice"),
        ):
            refused = self.assertRaises(RequestRefused, parseWishes, value)
            self.assertEqual(
                (str(refused), refused.status), (f"the client's TLS-Downgrade field has {sentence}", 400), value
            )

    def test_choice(self) -> None:
        """
        The first wish that is allowed wins, and TLS stays where none is.
        """
        for wishes, allowed, chosen in (
            (("handshake", "none"), {"handshake", "none"}, "handshake"),
            (("none", "handshake"), {"handshake", "none"}, "none"),
            (("connect", "handshake", "none"), {"handshake", "none"}, "handshake"),
            (("connect",), {"handshake", "none"}, "none"),
            ((), {"handshake", "none"}, "none"),
            (("handshake",), {"none"}, "none"),
        ):
            self.assertEqual(chooseWish(wishes, allowed), chosen)

    def test_fields(self) -> None:
        """
        The field goes along with one that says that it is for the next hop.
        """
        self.assertEqual(
            wishFields(["handshake", "none"]),
            (("Connection", "TLS-Downgrade"), ("TLS-Downgrade", "handshake, none")),
        )
        self.assertEqual(choiceFields("none"), (("Connection", "TLS-Downgrade"), ("TLS-Downgrade", "none")))

    def test_noFields(self) -> None:
        """
        Nothing is written that would be refused.
        """
        for wishes in ([], ["later"], ["none", "none"], ["none, connect"], [""]):
            self.assertRaises(ValueError, wishFields, wishes)
        self.assertRaises(ValueError, choiceFields, "later")

    @given(wishes=st.lists(st.sampled_from(sorted(VALUES)), unique=True, min_size=1))
    def test_readAgain(self, wishes: list[str]) -> None:
        """
        What is written is read as it was meant.
        """
        self.assertEqual(parseWishes(wishFields(wishes)[1][1]), tuple(wishes))

    @given(value=st.text() | st.text("handshakenoneconnect, \t"))
    def test_anything(self, value: str) -> None:
        """
        Whatever comes, nothing but a refusal is raised.
        """
        try:
            wishes = parseWishes(value)
        except RequestRefused:
            return
        self.assertTrue(VALUES.issuperset(wishes))
        self.assertEqual(len(set(wishes)), len(wishes))
