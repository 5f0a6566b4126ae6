"""
Tests of L{tlsproxy.following} at a client proxy whose reverse proxy does as it likes.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

from tests.test_following import serving
from tests.tunneling import TunnelCase
from tlsproxy.testing.streampeers import Browser, Peer, TLSPeer

_HEARTBEAT = b"\x18\x03\x03\x00\x03abc"


def hello(name: str) -> bytes:
    """
    Make a hello for a server.
    """
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_tlsext_host_name(name.encode())
    connection.set_connect_state()
    try:
        connection.do_handshake()
    except SSL.WantReadError:
        pass
    return connection.bio_read(65536)


class Reverse(TunnelCase):
    """
    A reverse proxy, with a destination in it.
    """

    def start(self, browser: Any = None, groups: str = "X25519", **how: Any) -> Any:
        """
        Have a browser come.
        """
        self.upstream = self.network.upstream("rp.example:443", lambda sock: TLSPeer(sock, "TLSv1.3", server=True))
        self.serveClient(self.upstream, **how)
        self.browser: Any = self.visit(browser or Browser)
        self.settle()
        (self.reverse,) = self.upstream.peers
        self.origin = SSL.Connection(serving("origin", groups), None)
        self.origin.set_accept_state()
        self.said = b""
        return self.reverse

    def answer(self) -> bytes:
        """
        Give what the destination has to say to what came inside TLS.
        """
        self.origin.bio_write(self.reverse.take())
        try:
            self.origin.do_handshake()
        except SSL.WantReadError:
            pass
        return self.origin.bio_read(65536)

    def split(self) -> tuple[bytes, bytes]:
        """
        Give the destination's ServerHello, and what it says behind that.
        """
        said = self.answer()
        length = 5 + int.from_bytes(said[3:5], "big")
        return said[:length], said[length:]

    def assertCut(self, outcome: str, reason: str, phase: str = "downgrade") -> None:
        """
        The session is over, and tells why.
        """
        self.settle()
        (line,) = self.told()
        self.assertEqual((outcome, phase), (line["outcome"], line["phase"]), line["reason"])
        self.assertIn(reason, line["reason"])

    def off(self) -> bytes:
        """
        Have both take their TLS off.

        @return: What the destination says behind its ServerHello, which has not been sent yet.
        """
        hello, rest = self.split()
        self.reverse.write(hello)
        self.reverse.endTLS()
        self.settle()
        self.assertTrue(self.reverse.told)
        return rest


class Switch(Reverse):
    """
    Where TLS comes off, and where it does not.
    """

    def test_right(self) -> None:
        """
        Behind the ServerHello, each way by itself.
        """
        reverse = self.start()
        hello, rest = self.split()
        reverse.write(hello)
        self.settle()
        self.assertTrue(reverse.told)
        self.assertEqual(b"", bytes(reverse.plain))
        self.assertEqual("none", self.one().downgrade)
        reverse.endTLS()
        reverse.writePlain(rest)
        self.settle()
        self.assertTrue(self.browser.ready)
        self.assertEqual("handshake", self.one().downgrade)
        self.origin.bio_write(bytes(reverse.plain))
        self.origin.do_handshake()
        self.browser.write(b"question")
        self.settle()
        self.assertTrue(bytes(reverse.plain))
        self.browser.end()
        reverse.cut()
        self.settle()

    def test_coalesced(self) -> None:
        """
        ServerHello, close_notify and what follows in plain, all in one segment.
        """
        reverse = self.start()
        hello, rest = self.split()
        reverse.write(hello)
        reverse.endTLS()
        reverse.writePlain(rest)
        self.settle()
        self.assertTrue(self.browser.ready)
        self.browser.end()
        reverse.cut()
        self.settle()

    def test_early(self) -> None:
        """
        A close_notify before the ServerHello is an ordinary end.
        """
        reverse = self.start()
        reverse.endTLS()
        self.settle()
        self.assertFalse(reverse.told)
        self.assertEqual("end", self.browser.ended and "end")
        reverse.cut()
        self.browser.end()
        self.settle()
        (line,) = self.told()
        self.assertEqual(("closed", "none"), (line["outcome"], line["downgrade"]))

    def test_behindAnEarlyEnd(self) -> None:
        """
        Nothing may come behind such an end.
        """
        reverse = self.start()
        hello, rest = self.split()
        reverse.endTLS()
        reverse.writePlain(hello + rest)
        self.settle()
        self.assertCut("failed", "the upstream sent something behind the end of its TLS")
        self.assertFalse(self.browser.ready)

    def test_inTheMiddle(self) -> None:
        """
        A close_notify in the middle of a record of the TLS inside.
        """
        reverse = self.start()
        hello, rest = self.split()
        reverse.write(hello + rest[:20])
        reverse.endTLS()
        self.assertCut("failed", "the upstream ended its TLS in the middle of a record of the TLS inside")

    def test_truncated(self) -> None:
        """
        An end without close_notify, where one is due.
        """
        reverse = self.start()
        reverse.write(self.split()[0])
        self.settle()
        reverse.cut()
        self.assertCut("truncated", "the upstream ended the stream without ending TLS")

    def test_late(self) -> None:
        """
        A close_notify that does not come, whatever else does.
        """
        reverse = self.start()
        hello, rest = self.split()
        reverse.write(hello)
        self.settle()
        self.after(9.0)
        reverse.write(rest)
        self.after(2.0)
        self.assertCut("expired", "the upstream did not end its TLS within 10 s")

    def test_forgedEnd(self) -> None:
        """
        What looks like a close_notify and does not verify ends the session, and nothing is written by TLS.
        """
        reverse = self.start()
        reverse.write(self.split()[0])
        self.settle()
        heard = len(reverse.plain)
        reverse.writePlain(b"\x17\x03\x03\x00\x13" + bytes(19))
        self.settle()
        (line,) = self.told()
        self.assertEqual("failed", line["outcome"])
        self.assertEqual(heard, len(reverse.plain))

    def test_otherVersion(self) -> None:
        """
        With a TLS inside that is too old, it stays.
        """
        reverse = self.start()
        hello, rest = self.split()
        # What a server of TLS 1.1 says.
        old = bytearray(hello)
        old[10:11] = b"\x02"
        reverse.write(bytes(old) + rest)
        self.settle()
        self.assertFalse(reverse.told)
        self.assertEqual("none", self.one().downgrade)
        self.browser.end()
        reverse.end()
        self.settle()


class Off(Reverse):
    """
    Once TLS is off.
    """

    def test_noTLS(self) -> None:
        """
        What is no TLS ends the session.
        """
        self.start()
        self.off()
        self.reverse.writePlain(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertCut("violation", "the upstream sent what is no TLS after the downgrade")
        self.assertFalse(self.browser.ready)

    def test_anotherHandshake(self) -> None:
        """
        So does the beginning of another handshake.
        """
        self.start()
        hello, rest = self.split()
        self.reverse.write(hello)
        self.reverse.endTLS()
        self.reverse.writePlain(hello)
        self.assertCut("violation", "the upstream sent what is no TLS after the downgrade")

    def test_heartbeat(self) -> None:
        """
        And a record of a type that nobody has asked for.
        """
        self.start()
        self.off()
        self.reverse.writePlain(_HEARTBEAT)
        self.assertCut("violation", "the upstream sent what is no TLS after the downgrade")

    def test_cutRecord(self) -> None:
        """
        An end in the middle of a record does not go on as an end.
        """
        self.start()
        rest = self.off()
        self.reverse.writePlain(rest[:20])
        self.reverse.cut()
        self.assertCut("truncated", "the upstream ended the stream in the middle of a record of TLS")

    def test_reset(self) -> None:
        """
        A reset goes on as a reset.
        """
        self.start()
        self.off()
        self.network.reset(self.reverse)
        (line,) = self.told()
        self.assertEqual("reset", line["outcome"])

    def test_end(self) -> None:
        """
        An end between records goes on as an end, and the other direction goes on.
        """
        self.start()
        rest = self.off()
        self.reverse.writePlain(rest)
        self.reverse.cut()
        self.settle()
        self.assertEqual("truncated", self.browser.ended)  # The TLS inside tells.
        self.browser.write(b"question")
        self.settle()
        self.assertTrue(self.reverse.plain)
        self.browser.end()
        self.settle()
        (line,) = self.told()
        self.assertEqual(("closed", "handshake"), (line["outcome"], line["downgrade"]))


class Hello(Reverse):
    """
    The hello inside.
    """

    def test_held(self) -> None:
        """
        Nothing of it goes on before it is whole.
        """
        reverse = self.start(browser=Peer)
        said = hello("shop.example")
        for at in range(0, len(said), 50):
            self.assertEqual(b"", reverse.take())
            self.browser.write(said[at : at + 50])
            self.settle()
        self.assertEqual(said, reverse.take())
        self.browser.end()
        reverse.end()
        self.settle()

    def test_late(self) -> None:
        """
        A hello that comes byte by byte does not put its deadline off.
        """
        self.start(browser=Peer)
        for byte in b"\x16\x03\x01\x02":
            self.browser.write(bytes((byte,)))
            self.after(1.5)
        self.assertCut("expired", "the client sent no whole hello inside the tunnel within 5 s", "hello")

    def test_none(self) -> None:
        """
        Nor does silence.
        """
        self.start(browser=Peer)
        self.after(6.0)
        self.assertCut("expired", "the client sent no whole hello inside the tunnel within 5 s", "hello")

    def test_cut(self) -> None:
        """
        An end in the middle of it ends the session, and the upstream gets no part of it.
        """
        reverse = self.start(browser=Peer)
        self.browser.write(b"\x16\x03\x01\x02\x00\x01")
        self.settle()
        self.browser.end()
        self.assertCut("ended", "the client ended the stream in the middle of the hello inside the tunnel", "hello")
        self.assertEqual(b"", reverse.take())

    def test_nothing(self) -> None:
        """
        A browser that goes away before it says anything has just gone away.
        """
        reverse = self.start(browser=Peer)
        self.browser.end()
        self.settle()
        self.assertTrue(reverse.told)
        reverse.end()
        self.settle()
        self.assertEqual("closed", self.told()[0]["outcome"])

    def test_greeted(self) -> None:
        """
        A destination that speaks first spares nobody the hello, nor its name.
        """
        for said, reason in (
            (b"EHLO example\r\n", "inside the tunnel, the client does not speak TLS"),
            (hello("other.example"), "the hello inside the tunnel to shop.example is for other.example"),
        ):
            with self.subTest(said=said[:4]):
                reverse = self.start(browser=Peer)
                reverse.write(b"220 mail.example ESMTP\r\n")
                self.settle()
                self.assertEqual(b"220 mail.example ESMTP\r\n", self.browser.take())
                self.browser.write(said)
                self.assertCut("refused", reason, "hello")
                self.assertEqual(b"", reverse.take())
                self.again()

    def test_secondName(self) -> None:
        """
        A second hello has to be for the same server as the first, whatever came in between.
        """
        for between in (b"", b"\x17\x03\x03\x00\x14" + bytes(20)):
            with self.subTest(between=between[:1]):
                reverse = self.start(browser=Peer, groups="P-384")
                self.browser.write(hello("shop.example"))
                self.settle()
                reverse.write(self.answer())
                self.settle()
                self.assertTrue(self.browser.take())
                self.browser.write(between + hello("other.example"))
                self.assertCut("refused", "the hello inside the tunnel to shop.example is for other.example", "hello")
                self.assertEqual(b"", reverse.take())
                self.again()

    def test_unanswered(self) -> None:
        """
        A destination that does not answer is not waited for any longer than an upstream is that has TLS with us, and
        one that has answered may take its time.
        """
        self.start()
        self.after(11.0)
        self.assertCut("expired", "the hello inside the tunnel was not answered within 10 s", "upstream_handshake")
        self.again()
        for agreed in ("handshake", "none"):
            reverse = self.start(agreed=agreed)
            hello, rest = self.split()
            reverse.write(hello)
            if agreed == "handshake":
                reverse.endTLS()
            self.after(60.0)
            self.one().stop()
            self.settle()
            self.again()

    def test_names(self) -> None:
        """
        Other names are fine where that is said, and then TLS stays.
        """
        for name, names in (("other.example", ("none", "other.example")), ("", ("none",))):
            with self.subTest(name=name):
                reverse = self.start(browser=lambda sock, name=name: Browser(sock, serverName=name), names=names)
                reverse.write(self.answer())
                self.settle(lambda: self.browser.ready)
                self.assertFalse(reverse.told)
                self.browser.end()
                reverse.end()
                self.settle()
                self.assertEqual("none", self.told()[0]["downgrade"])
                self.again()
