# -*- test-case-name: tests.test_tap_values -*-
"""
Command lines that can be understood, but not used.
"""

from __future__ import annotations

from tests.test_tap import FULL, CommandLineTestCase


class ValueTests(CommandLineTestCase):
    """
    What is wrong is told at its option: exit status 1.
    """

    def test_missing(self) -> None:
        """
        A mode with anything that its demo does not take lacks the rest, all of which is told at once.
        """
        self.assertEqual(
            [
                "--listen: say where to listen, as in 8443",
                "--upstream: say what to dial, as in HOST:PORT",
                "--cert: a certificate is needed to speak TLS with clients",
            ],
            self.refused(1, "--mode", "bridge", "--name", "x"),
        )
        for mode, words in FULL.items():
            self.parse("--mode", mode, *words)
            for position in range(0, len(words), 2):
                rest = words[:position] + words[position + 2 :]
                if words[position] == "--upstream-ca":
                    self.parse("--mode", mode, *rest)
                else:
                    self.assertRefused(1, f"{words[position]}: ", "--mode", mode, *rest)

    def test_wrong(self) -> None:
        """
        A wrong value is told at its option.
        """
        for name, value, sentence in (
            ("min-version", "1.1", "'1.1' is not one of"),
            ("max-version", "1.4", "'1.4' is not one of"),
            ("ciphers", "NONSENSE", "OpenSSL knows no"),
            ("groups", "NONSENSE", ""),
            ("key", "nothing.pem", ""),
            ("client-ca", "nothing.pem", ""),
            ("client-auth", "yes", "'yes' is not one of"),
            ("close", "never", "'never' is not one of"),
            ("truncation", "x", "'x' is not one of"),
            ("upstream-auth", "dane", 'auth "dane" is not yet supported'),
            ("upstream-min-version", "x", "'x' is not one of"),
            ("upstream-alpn", "h2", "mode bridge offers"),
            ("log-level", "loud", "'loud' is not one of"),
            ("alpn", "mirror,h2", '"mirror" stands alone'),
            ("allow-all", "yes", "give true or false, not the string 'yes'"),
            ("pins", "x", "'x' is no pin"),
            ("drain", "-1", "give a number of seconds, 0 to cut at once"),
            ("drain", "long", "give a number, not the string 'long'"),
            ("watch", "never", "give true or false"),
        ):
            key = "cert" if name == "key" else name
            self.assertRefused(1, f"--{key}: {sentence}", "--mode=bridge", *FULL["bridge"], f"--{name}={value}")
        for mode, name, value, sentence in (
            ("passthrough", "require-tls", "yes", "give true or false, not the string 'yes'"),
            ("passthrough", "require-tls", "True", "give true or false, not the string 'True'"),
            ("passthrough", "require-tls", "", "give true or false, not the string ''"),
            ("connect", "allow-target", "x", "'x': say which port"),
            ("connect", "deny-target", "10.0.0.1/8", "'10.0.0.1/8' has bits after its length"),
            ("connect", "users", "nothing", f"{self.folder}/nothing cannot be read"),
            ("connect", "users", "", "give the name of a file"),
            ("connect", "alpn", "h2", 'mode connect speaks "http/1.1" only'),
        ):
            words = ("--mode", mode, *FULL[mode], f"--{name}={value}", *(("--cert=server.pem",) * (name == "alpn")))
            if name == "allow-target":
                words = ("--mode", mode, *FULL[mode][:2], f"--{name}={value}")
            self.assertRefused(1, f"--{name}: {sentence}", *words)
        for limit in ("-1", "nan", "inf", "1e300"):
            words = ("--mode=bridge", *FULL["bridge"], f"--limit=idle={limit}")
            self.assertRefused(1, "--limit idle: give a number of seconds", *words)

    def test_unused(self) -> None:
        """
        Options for TLS that a mode does not speak are all named.
        """
        self.assertRefused(
            1,
            "--cert, --min-version: mode encrypt speaks no TLS with its clients",
            *("--mode=encrypt", *FULL["encrypt"], "--cert=server.pem", "--min-version=1.3"),
        )
        self.assertRefused(
            1,
            "--upstream-ca, --upstream-name: mode passthrough encrypts nothing: leave this out",
            *("--mode=passthrough", *FULL["passthrough"], "--upstream-ca=ca.pem", "--upstream-name=x"),
        )
        self.assertRefused(
            1,
            "--upstream: mode connect dials what its clients ask for: leave this out",
            *("--mode=connect", *FULL["connect"], "--upstream=x:1"),
        )
        for name, value in (("allow-target", "x:1"), ("users", "users.txt"), ("require-tls", "true")):
            words = ("--mode=bridge", *FULL["bridge"], f"--{name}={value}")
            self.assertRefused(1, f"--{name}: mode bridge has no use for it: leave this out", *words)
        self.assertRefused(
            1,
            "--allow-target, --deny-target: mode offload has no use for it",
            *("--mode=offload", *FULL["offload"], "--allow-target=x:1", "--deny-target=x:1"),
        )

    def test_certificateOfConnect(self) -> None:
        """
        Any option for TLS with clients makes a certificate needed where it is not otherwise.
        """
        words = ("--mode=connect", *FULL["connect"], "--min-version=1.3")
        self.assertRefused(1, "--cert: a certificate is needed to speak TLS with clients", *words)

    def test_file(self) -> None:
        """
        A file that cannot be used is told like C{tlsproxy check} does.
        """
        self.assertRefused(1, "nothing.toml: No such file or directory", "--config", "nothing.toml")
        self.file("[[route]]\nmode = 'bridge'\n", "short.toml")
        told = self.refused(1, "--config", "short.toml")
        self.assertEqual(["short.toml:1: route.listen"], [line[:26] for line in told if "listen" in line])

    def test_stateDirectory(self) -> None:
        """
        A demo whose state directory cannot be used does not start.
        """
        self.file("", "plain")
        self.assertRefused(1, f"{self.folder}/plain", "--mode=bridge", "--state-dir=plain")
        nobodys = "~nobody-has-this-name"
        self.assertRefused(1, f"--state-dir: {nobodys!r} starts from", "--mode=bridge", f"--state-dir={nobodys}")
