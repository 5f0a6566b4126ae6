# -*- test-case-name: tests.test_tap -*-
"""
The command line of C{twistd tlsproxy}.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, cast

from attrs import fields

from tests.configuring import PIN, ConfigurationTestCase
from tlsproxy.config import Configuration
from tlsproxy.errors import ConfigurationError
from tlsproxy.route import Limits
from tlsproxy.settings import LATER_MODES, LATER_OPTIONS, MODES, OPTIONS
from tlsproxy.tap import Options
from tlsproxy.testing.certificates import write
from tlsproxy.tls.policy import snake

FULL = {
    "offload": ("--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:80", "--cert", "server.pem"),
    "encrypt": ("--listen", "127.0.0.1:0", "--upstream", "origin.example:443", "--upstream-ca", "ca.pem"),
    "bridge": (
        *("--listen", "127.0.0.1:0", "--upstream", "origin.example:443"),
        *("--cert", "server.pem", "--upstream-ca", "ca.pem"),
    ),
    "passthrough": ("--listen", "127.0.0.1:0", "--upstream", "origin.example:443"),
    "connect": ("--listen", "127.0.0.1:0", "--allow-target", "*.example:443"),
    "sequential-client": ("--listen", "127.0.0.1:0", "--mapping", "mapping.toml", "--upstream-ca", "ca.pem"),
}
"""What each mode cannot do without."""

SIDES = ("tls", "upstreamTLS")


class CommandLineTestCase(ConfigurationTestCase):
    """
    A test with a command line, which is read in the folder of the certificates.
    """

    def setUp(self) -> None:
        """
        Go to the folder.
        """
        super().setUp()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        # The state directory is this test's own.
        self.patch(os, "environ", {**os.environ, "STATE_DIRECTORY": str(self.folder / "state")})
        self.printed = io.StringIO()
        self.told = io.StringIO()
        self.patch(sys, "stdout", self.printed)
        self.patch(sys, "stderr", self.told)

    def parse(self, *words: str) -> Options:
        """
        Read a command line that is expected to be good.
        """
        options = Options()
        try:
            options.parseOptions(words)
        except SystemExit:
            raise AssertionError(self.told.getvalue()) from None
        return options

    def configuration(self, *words: str) -> Configuration:
        """
        Read a command line that is expected to be good.
        """
        configuration = self.parse(*words).configuration
        assert configuration is not None
        return configuration

    def refused(self, code: int, *words: str) -> list[str]:
        """
        Read a command line that is expected to be bad.

        @param code: The exit status.
        @return: The sentences.
        """
        self.told.truncate(self.told.seek(0))
        ended = self.assertRaises(SystemExit, Options().parseOptions, words)
        sentences = self.told.getvalue().splitlines()
        self.assertEqual((code, ""), (ended.code, self.printed.getvalue()), (words, sentences))
        for sentence in sentences:
            self.assertTrue(sentence.startswith("tlsproxy: "), sentence)
            self.assertOneSentence(sentence)
        return [sentence.removeprefix("tlsproxy: ") for sentence in sentences]

    def assertRefused(self, code: int, sentence: str, *words: str) -> None:
        """
        A command line is refused with one sentence that starts like this.
        """
        (told,) = self.refused(code, *words)
        self.assertTrue(told.startswith(sentence), told)


class UsageTests(CommandLineTestCase):
    """
    Command lines that cannot be understood: exit status 2.
    """

    def test_unknown(self) -> None:
        """
        What is no option is told, with the one that is meant.
        """
        self.assertRefused(2, "there is no option --upstrem; do you mean --upstream?", "--upstrem", "x")
        self.assertRefused(2, "there is no option --min_version; do you mean --min-version?", "--min_version", "1.2")
        self.assertRefused(2, "there is no option --verbose", "--verbose")
        self.assertRefused(2, "there is no option -z", "-z")
        self.assertRefused(2, "--upstream-c may be more than one option", "--upstream-c", "x")
        self.assertRefused(2, "there is no option --deny-targets; do you mean --deny-target?", "--deny-targets", "x")
        self.assertRefused(2, "there is no option --connect; do you mean --upstream?", "--connect", "localhost:80")
        self.assertRefused(2, "there is no option --require_tls; do you mean --require-tls?", "--require_tls", "true")
        self.assertRefused(2, "there is no option --rule", "--rule", "x")
        self.assertRefused(2, "'bridge' is no option", "bridge")
        self.assertRefused(2, "'extra' is no option", "--mode", "bridge", "extra")

    def test_values(self) -> None:
        """
        An option without its value, or a flag with one, is told.
        """
        for name in (*OPTIONS, "config", "limit"):
            self.assertRefused(2, f"--{name} needs a value after it", f"--{name}")
        self.assertRefused(2, "--version takes no value", "--version=2")

    def test_later(self) -> None:
        """
        What is kept for later is refused as such, with or without a value.
        """
        for name in LATER_OPTIONS:
            for words in ((f"--{name}",), (f"--{name}", "x"), (f"--{name}=x",)):
                self.assertRefused(2, f"--{name} is not yet supported", *words)

    def test_mode(self) -> None:
        """
        A mode has to be given, once, and to exist.
        """
        for words in ((), ("--listen", "8443"), ("--mode", "")):
            modes = "|".join(MODES)
            self.assertRefused(2, f"say which mode: --mode {modes}, or --config FILE.toml", *words)
        for wrong, right in (("brigde", "bridge"), ("pass-through", "passthrough"), ("conect", "connect")):
            modes = ", ".join(MODES)
            self.assertRefused(2, f"--mode {wrong!r} is not one of {modes}; do you mean {right}?", f"--mode={wrong}")
        self.assertRefused(2, "--mode is given 2 times; give it once", "--mode=bridge", "--mode=bridge")
        for mode in LATER_MODES:
            self.assertRefused(2, f"--mode {mode} is not yet supported", "--mode", mode)

    def test_repeated(self) -> None:
        """
        Only what is a list may be given more than once.
        """
        for name in OPTIONS:
            if name == "mode" or OPTIONS[name].kind in ("certificates", "files", "list", "protocols"):
                continue
            (told,) = self.refused(2, "--mode=bridge", f"--{name}=a", f"--{name}=b")
            self.assertIn("give it once", told)
        self.assertRefused(2, "--config is given 2 times", "--config=a", "--config=b")
        self.assertRefused(
            2, "--limit idle is given more than once", "--mode=bridge", "--limit=idle=1", "--limit=idle=2"
        )

    def test_config(self) -> None:
        """
        A file says everything, so nothing stands beside it.
        """
        for name in (*OPTIONS, "limit"):
            self.assertRefused(2, f"--config takes no --{name} beside it", "--config=x", f"--{name}=y")

    def test_limits(self) -> None:
        """
        A limit is a phase and a number.
        """
        for limit in ("", "idle", "idle=", "idle=soon", "=", "5"):
            self.assertRefused(2, f"--limit {limit}: give PHASE=SECONDS", "--mode=bridge", "--limit", limit)
        self.assertRefused(
            2, "--limit idel=5: there is no such phase; do you mean idle?", "--mode=bridge", "--limit=idel=5"
        )
        for limit in ("=5", "foo=5"):
            sentence = f"--limit {limit}: there is no such phase; the phases are hello, head, "
            self.assertRefused(2, sentence, "--mode=bridge", "--limit", limit)

    def test_grants(self) -> None:
        """
        Grants are for files, and that is said.
        """
        sentence = "--mode sequential-server has no option for who may reach what: write that as [[route.grant]] into a"
        self.assertRefused(2, sentence, "--mode", "sequential-server", "--listen", "8443")


class ReadTests(CommandLineTestCase):
    """
    Command lines that are good.
    """

    def test_everyOption(self) -> None:
        """
        Every option comes to what its key comes to in a file.
        """
        values = {
            "close": "both",
            "truncation": "abort",
            "client-auth": "optional",
            "auth": "none",
            "log-level": "warn",
            "log": "stderr",
            "log-format": "json",
            "log-repeats": "5",
        }
        values |= {"min-version": "1.3", "max-version": "1.2", "ciphers": "ECDHE+AESGCM", "groups": "X25519"}
        values |= {"unknown-sni": "refuse", "cert-password-file": "password.txt"}
        write(str(self.folder / "server.p12"), self.server.pkcs12(b"secret"))
        write(str(self.folder / "password.txt"), b"secret\n")
        values |= {"cert": "chain.pem", "key": "key.pem", "client-ca": "ca.pem", "ca": "ca.pem", "name": "x.example"}
        values |= {"ciphersuites": "TLS_AES_128_GCM_SHA256", "alpn": "h2", "state-dir": "s", "listen": "1"}
        values |= {"upstream": "u.example:2", "require-tls": "false", "users": "users.txt"}
        values |= {"accept-proxy": "10.0.0.0/8", "send-proxy": "v2", "send-proxy-tlvs": "authority"}
        values |= {"allow-target": "*.x.example:1", "deny-target": "a.x.example"}
        values |= {"crl": "ca.crl", "allow-all": "true", "allow-cn": "Ann", "allow-ou": "ops", "pins": PIN}
        values |= {"allow-dns": "a.example", "allow-uri": "spiffe://x/**"}
        values |= {"drain": "5", "watch": "false"}
        values |= {"max-connections": "5", "max-client-connections": "6", "max-client-handshakes": "7"}
        values |= {"client-prefix-ipv4": "24", "client-prefix-ipv6": "48", "status": "9"}
        values |= {"mapping": "mapping.toml", "downgrade": "none", "unsafe-connect": "true", "take-off": "loopback"}
        values |= {"framing": "always", "mtu": "1400"}
        modes = {"require-tls": "passthrough", "users": "connect", "allow-target": "connect", "deny-target": "connect"}
        modes |= dict.fromkeys(("mapping", "downgrade", "unsafe-connect", "take-off", "framing"), "sequential-client")
        for name, option in OPTIONS.items():
            if name == "mode":
                continue
            mode = "encrypt" if name.startswith("upstream-") else modes.get(name, "offload")
            given = {**dict(zip(FULL[mode][::2], FULL[mode][1::2], strict=True)), "--mode": mode}
            extra = {f"--{name}": values[name.removeprefix("upstream-")]}
            if name in ("client-auth", "crl", "pins") or (name.startswith("allow-") and name not in modes):
                extra["--client-ca"] = "ca.pem"
            if name.endswith("key"):
                extra[f"--{name.replace('key', 'cert')}"] = "chain.pem"
            if name.endswith("upstream-cert"):
                extra["--upstream-key"] = "key.pem"
            if name == "cert":
                extra["--key"] = "key.pem"
            if name.endswith("cert-password-file"):
                extra[f"--{name.removesuffix('-password-file')}"] = "server.p12"
            if name == "send-proxy-tlvs":
                extra["--send-proxy"] = "v2"
            if name == "mtu":
                extra |= {"--listen": "udp:1", "--upstream": "udp:2"}
            given |= extra
            document: dict[str, Any] = {"route": [{}]}
            for word, value in given.items():
                table = document
                for step in OPTIONS[word[2:]].path[:-1]:
                    table = table[step][0] if step == "route" else table.setdefault(step, {})
                counted = OPTIONS[word[2:]].metavar == "NUMBER" or word == "--drain"
                meant = {"true": True, "false": False}.get(value, value)
                table[OPTIONS[word[2:]].path[-1]] = int(value) if counted else meant
            words = [word for pair in given.items() for word in pair]
            self.assertSame(self.build(document), self.configuration(*words), option)

    def assertSame(self, one: Configuration, other: Configuration, what: object) -> None:
        """
        Two configurations say the same.
        """

        def tell(configuration: Configuration) -> list[str]:
            (route,) = configuration.routes
            policies = [
                repr(getattr(route.pattern, side, None) and getattr(route.pattern, side).policy) for side in SIDES
            ]
            upstream = getattr(route.pattern, "upstream", None)
            told = (
                configuration.proxy,
                route.name,
                route.listen,
                route.limits,
                route.close,
                route.truncation,
                route.mtu,
                route.maxConnections,
                route.maxClientConnections,
                route.maxClientHandshakes,
                route.clientPrefixIpv4,
                route.clientPrefixIpv6,
                upstream,
                *(getattr(route.pattern, key, None) for key in ("requireTLS", "targets")),
                len(getattr(route.pattern, "users", None) or ()),
            )
            return [*map(repr, told), *policies]

        self.assertEqual(tell(one), tell(other), what)

    def test_lists(self) -> None:
        """
        Lists are options given again, or words with commas between.
        """
        words = ("--client-ca=ca.pem", "--client-ca=chain.pem", "--alpn=h2,http/1.1", "--alpn=x")
        pattern: Any = self.configuration("--mode=offload", *FULL["offload"], *words).routes[0].pattern
        self.assertEqual(("h2", "http/1.1", "x"), pattern.tls.policy.alpn)
        self.assertEqual((f"{self.folder}/ca.pem", f"{self.folder}/chain.pem"), pattern.tls.policy.clientCa)
        cas = ("--upstream-ca=system", "--upstream-ca=ca.pem")
        pattern = self.configuration("--mode=encrypt", "--listen=1", "--upstream=h.example:1", *cas).routes[0].pattern
        self.assertEqual(("system", f"{self.folder}/ca.pem"), pattern.upstreamTLS.policy.ca)
        targets = ("--allow-target=*.x.example:443", "--allow-target=10.0.0.0/8:1-9", "--deny-target=a.x.example")
        more = ("--listen=127.0.0.1:1", *targets, "--deny-target=[2001:db8::1]:9")
        pattern = self.configuration("--mode=connect", *more).routes[0].pattern
        self.assertEqual(["*.x.example:443", "10.0.0.0/8:1-9"], [str(one) for one in pattern.targets.allow])
        self.assertEqual(["a.x.example", "[2001:db8::1]:9"], [str(one) for one in pattern.targets.deny])

    def test_requireTLS(self) -> None:
        """
        A passthrough forwards any TCP if it is told to.
        """
        for words, demanded in (((), True), (("--require-tls=true",), True), (("--require-tls", "false"), False)):
            pattern: Any = self.configuration("--mode=passthrough", *FULL["passthrough"], *words).routes[0].pattern
            self.assertIs(demanded, pattern.requireTLS)

    def test_load(self) -> None:
        """
        All is read again from where it was read first, and what is wrong is told with its place.
        """
        options = self.parse("--mode=offload", *FULL["offload"])
        self.file("[[route]]\nmode = 'passthrough'\nlisten = '1'\nupstream = '2'\n", "some.toml")
        more = self.parse("--config=some.toml")
        os.chdir("/")
        first, again = options.configuration, options.load()
        assert first is not None
        self.assertEqual((first.files, first.tables), (again.files, again.tables))
        (old,), (new,) = first.routes, again.routes
        self.assertIsNot(old, new)
        self.assertIs(cast(Any, old.pattern).tls, cast(Any, new.pattern).tls)
        (self.folder / "server.pem").write_text("rubbish")
        e = self.assertRaises(ConfigurationError, options.load)
        (problem,) = e.problems
        self.assertTrue(str(problem).startswith(f"--cert: {self.folder}/server.pem"), problem)
        self.assertIn(f"{self.folder}/server.pem", e.files)
        self.assertEqual([f"{self.folder}/some.toml"], [*more.load().files])
        self.file("[[route]]\nmode = 'x'\n", "some.toml")
        e = self.assertRaises(ConfigurationError, more.load)
        self.assertTrue(str(e.problems[0]).startswith(f"{self.folder}/some.toml:"), e)

    def test_warnings(self) -> None:
        """
        What is doubtful is told for a command line as for a file.
        """
        words = ("--mode=connect", "--listen=0", "--allow-target=*:443")
        (warning,) = self.configuration(*words).warnings
        self.assertTrue(warning.startswith("route connect: whoever reaches the proxy may use it"), warning)
        (warning,) = self.configuration(*words, "--users=users.txt").warnings
        self.assertTrue(warning.startswith("route connect: passwords cross the network in clear"), warning)

    def test_limits(self) -> None:
        """
        Every phase can be given a limit.
        """
        words = [f"--limit={snake(one.name)}={position}.5" for position, one in enumerate(fields(Limits))]
        route = self.configuration("--mode=bridge", *FULL["bridge"], *words).routes[0]
        expected = {one.name: position + 0.5 for position, one in enumerate(fields(Limits))}
        self.assertEqual(Limits(**expected), route.limits)

    def test_config(self) -> None:
        """
        A file is read.
        """
        self.file("[[route]]\nname='x'\nmode='offload'\nlisten='1'\nupstream='h:1'\ntls.cert='server.pem'\n", "x.toml")
        self.assertEqual("x", self.configuration("--config", "x.toml").routes[0].name)

    def test_demo(self) -> None:
        """
        A mode alone runs its demo, and so it does with what a demo takes.
        """
        for mode in MODES:
            options = self.parse("--mode", mode, "--state-dir=own", "--log-level=warn", "--limit=idle=5")
            configuration = options.configuration
            assert configuration is not None
            self.assertEqual((mode, 5.0), (configuration.routes[0].name, configuration.routes[0].limits.idle))
            self.assertEqual("warn", configuration.proxy.logLevel)
            assert options.demo is not None
            self.addCleanup(options.demo.close)
            self.assertIn("curl", "\n".join(options.demo.lines))
        self.assertTrue((self.folder / "own").is_dir())
        self.assertFalse((self.folder / "state").exists())

    def test_noDemo(self) -> None:
        """
        A complete command line runs no demo.
        """
        options = self.parse("--mode=bridge", *FULL["bridge"])
        self.assertIsNone(options.demo)
