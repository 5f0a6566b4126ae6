"""
Tests for L{tlsproxy.wire.pac}.
"""

from __future__ import annotations

import json
import subprocess

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.peers import requirePeer
from tlsproxy.wire.connect import response
from tlsproxy.wire.network import parseNetwork
from tlsproxy.wire.pac import PAC_TYPE, mappedPacFile, pacFile


def found(text: str) -> str:
    """
    Tell what goes through the proxy by a file.
    """
    return text.rpartition('return "')[2].partition('"')[0]


class AuthorityTests(SynchronousTestCase):
    """
    Which proxy the file names.
    """

    def test_proxies(self) -> None:
        """
        The proxy is named as the browser did, in one form, and spoken to with or without TLS.
        """
        for authority, secure, proxy in (
            ("proxy.example:3128", False, "PROXY proxy.example:3128"),
            ("proxy.example:3128", True, "HTTPS proxy.example:3128"),
            ("Proxy.Example", False, "PROXY proxy.example:80"),
            ("proxy.example", True, "HTTPS proxy.example:443"),
            ("192.0.2.1:8080", False, "PROXY 192.0.2.1:8080"),
            ("[2001:DB8:0::1]:8080", True, "HTTPS [2001:db8::1]:8080"),
            ("[::1]", True, "HTTPS [::1]:443"),
        ):
            self.assertEqual(found(pacFile(authority, secure)), proxy)

    def test_noInjection(self) -> None:
        """
        What is no authority does not come into the script.
        """
        for authority in (
            "",
            'a"; alert(1); "',
            "a\\",
            "a\n",
            "a:1; DIRECT",
            "a:1,b:2",
            "a b",
            "a:",
            ":1",
            "a:0",
            "a@b:1",
            "http://a",
            "::1",
            "[::1",
            '[::1"]:1',
            "127.1",
            "\u2028",
            "%s",
        ):
            self.assertRaises(ValueError, pacFile, authority, True)

    @given(authority=st.text(max_size=30) | st.text("a1.:[]-\"\\;'\n", max_size=12))
    def test_anyAuthority(self, authority: str) -> None:
        """
        Whatever the Host field says, the file differs in the proxy's address alone, and that needs no escapes.
        """
        try:
            text = pacFile(authority, True)
        except ValueError:
            return
        proxy = found(text)
        self.assertRegex(proxy, r"\AHTTPS [][a-z0-9_.:-]+:[1-9][0-9]*\Z")
        self.assertEqual(text.replace(proxy, "HTTPS a:1"), pacFile("a:1", True))

    def test_answer(self) -> None:
        """
        The file can be sent, and ends with one newline then.
        """
        text = pacFile("a:1", False)
        wire = response(200, text, contentType=PAC_TYPE)
        self.assertIn(b"\r\nContent-Type: application/x-ns-proxy-autoconfig\r\n", wire)
        self.assertTrue(wire.endswith(b"\r\n\r\n" + text.encode() + b"\n"))
        self.assertFalse(text.endswith("\n"))


class ScriptTests(SynchronousTestCase):
    """
    What a browser does with the file.
    """

    def ask(self, text: str, requests: list[tuple[str, str]]) -> list[str]:
        """
        Have the script tell its choice for each URL and host.
        """
        asking = f"JSON.stringify({json.dumps(requests)}.map(one => FindProxyForURL(...one)))"
        script = f"'use strict';\n{text}\nconsole.log({asking});"
        run = subprocess.run([requirePeer("node"), "-"], input=script, capture_output=True, text=True, timeout=60)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        answers: list[str] = json.loads(run.stdout)
        return answers

    def test_choices(self) -> None:
        """
        What is encrypted goes through the proxy; all else, and what stays on the browser's machine, does not.
        """
        through = [
            ("https://shop.example/", "shop.example"),
            ("HTTPS://SHOP.EXAMPLE/", "SHOP.EXAMPLE"),
            ("wss://shop.example:8443/a?b=http://c", "shop.example"),
            ("https://192.0.2.1/", "192.0.2.1"),
            ("https://[2001:db8::1]/", "[2001:db8::1]"),
            ("https://127.shop.example/", "127.shop.example"),
            ("https://127.0.0.1.shop.example/", "127.0.0.1.shop.example"),
            ("https://localhost.shop.example/", "localhost.shop.example"),
            ("https://notlocalhost/", "notlocalhost"),
        ]
        direct = [
            ("http://shop.example/", "shop.example"),
            ("http://shop.example/https://shop.example/", "shop.example"),
            ("ws://shop.example/", "shop.example"),
            ("ftp://shop.example/", "shop.example"),
            ("httpsx://shop.example/", "shop.example"),
            ("https", "shop.example"),
            ("https://localhost/", "localhost"),
            ("https://LocalHost:8443/", "LocalHost"),
            ("https://app.localhost/", "app.localhost"),
            ("https://127.0.0.1/", "127.0.0.1"),
            ("wss://127.255.0.9:1/", "127.255.0.9"),
            ("https://[::1]/", "[::1]"),
            ("https://[::1]/", "::1"),
        ]
        for secure, proxy in ((True, "HTTPS proxy.example:443"), (False, "PROXY proxy.example:80")):
            answers = self.ask(pacFile("proxy.example", secure), through + direct)
            self.assertEqual(answers, [proxy] * len(through) + ["DIRECT"] * len(direct))

    def test_address(self) -> None:
        """
        The address of a proxy keeps its brackets.
        """
        answers = self.ask(pacFile("[::1]:3128", False), [("https://shop.example/", "shop.example")])
        self.assertEqual(answers, ["PROXY [::1]:3128"])


class MappedTests(SynchronousTestCase):
    """
    Files that send some hosts through the proxy, and all else directly.
    """

    def test_hosts(self) -> None:
        """
        Hosts go through it by their name, address and port, in whatever letters; there is no second choice for them.
        """
        text = mappedPacFile(
            "127.0.0.1:3128",
            [
                ("shop.example", None, (443, 443)),
                ("*.one.example", None, (8000, 8099)),
                ("**.any.example", None, (1, 65535)),
                ("", parseNetwork("192.0.2.0/24"), (443, 443)),
                ("", parseNetwork("192.0.2.0/24"), (445, 445)),
                ("", parseNetwork("2001:db8::/32"), (443, 443)),
            ],
        )
        asked = {
            ("https://shop.example/", "shop.example"): True,
            ("https://Shop.Example./", "Shop.Example."): True,
            ("https://ashop.example/", "ashop.example"): False,
            ("https://shopxexample/", "shopxexample"): False,
            ("https://shop.example:444/", "shop.example"): False,
            ("http://shop.example/", "shop.example"): False,
            ("http://shop.example:443/", "shop.example"): True,
            ("https://a.one.example:8000/", "a.one.example"): True,
            ("https://b.a.one.example:8000/", "b.a.one.example"): False,
            ("https://one.example:8000/", "one.example"): False,
            ("ws://b.a.any.example/", "b.a.any.example"): True,
            ("https://user:x@shop.example/", "shop.example"): True,
            ("https://192.0.2.5/", "192.0.2.5"): True,
            ("https://192.0.3.5/", "192.0.3.5"): False,
            ("https://[::ffff:c000:205]:445/", "::ffff:c000:205"): True,
            ("https://[::ffff:192.0.2.5]:445/", "[::ffff:192.0.2.5]"): True,
            ("https://[2001:db8::ffff:1]:445/", "2001:db8::ffff:1"): False,
            ("https://[::1]/", "::1"): True,
            ("https://[::1]:444/", "[::1]"): False,
            ("nonsense", "shop.example"): False,
        }
        calls = ",".join(f"FindProxyForURL({json.dumps(url)}, {json.dumps(host)})" for url, host in asked)
        known = "function isInNet(a, n, m) { return n === '192.0.2.0' && a.indexOf('192.0.2.') === 0; }"
        script = f"{text};{known};console.log(JSON.stringify([{calls}]))"
        done = subprocess.run([requirePeer("node"), "-e", script], capture_output=True, check=True, timeout=60)
        expected = ["PROXY 127.0.0.1:3128" if mapped else "DIRECT" for mapped in asked.values()]
        self.assertEqual(expected, json.loads(done.stdout), list(asked))

    def test_noInjection(self) -> None:
        """
        What is no authority does not come into the script; without a port it is 80.
        """
        self.assertRaises(ValueError, mappedPacFile, 'a"; alert(1); "', [])
        self.assertIn('"PROXY [::1]:80"', mappedPacFile("[::1]", []))

    def test_rebound(self) -> None:
        """
        A web page whose own name leads to this machine does not get it.
        """
        for authority in ("page.example:3128", "localhost.example", "192.0.2.1:3128", "xlocalhost", "[2001:db8::1]"):
            refused = self.assertRaises(ValueError, mappedPacFile, authority, [])
            self.assertIn("at no other name", str(refused))
        for authority in ("localhost:3128", "cp.localhost", "127.8.8.8:3128", "[::1]:3128"):
            self.assertIn("FindProxyForURL", mappedPacFile(authority, []))
