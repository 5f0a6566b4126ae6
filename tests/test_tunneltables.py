# -*- test-case-name: tests.test_tunneltables -*-
"""
Routes whose clients name the target.
"""

from __future__ import annotations

from typing import Any

from tests.configuring import USER, ConfigurationTestCase
from tlsproxy.patterns.connect import Connect
from tlsproxy.testing.certificates import write

OPEN = "route connect: whoever reaches the proxy may use it: give it users, or client_ca"
CLEAR = "route connect: passwords cross the network in clear: give it a cert, or listen on loopback"


class ConnectTestCase(ConfigurationTestCase):
    """
    A test of the mode.
    """

    def pattern(self, **more: Any) -> Connect:
        """
        Read the pattern of what is expected to be good.
        """
        pattern = self.build(self.document("connect", **more)).routes[0].pattern
        assert isinstance(pattern, Connect)
        return pattern

    def warnings(self, **more: Any) -> tuple[str, ...]:
        """
        What is doubtful.
        """
        warnings = self.build(self.document("connect", **more)).warnings
        for warning in warnings:
            self.assertOneSentence(warning)
        return warnings


class TargetTests(ConnectTestCase):
    """
    C{[route.targets]}.
    """

    def test_good(self) -> None:
        """
        Entries are read, as one string or as several; those of C{deny} may be without a port.
        """
        allow = ["*.example:443", "10.0.0.0/8:8000-8099", "[2001:db8::/32]:*"]
        targets = self.pattern(targets={"allow": allow, "deny": ["10.0.9.0/24", "secret.example:443"]}).targets
        self.assertEqual(allow, [one.text for one in targets.allow])
        self.assertEqual([(1, 65535), (443, 443)], [one.ports for one in targets.deny])
        targets = self.pattern(targets={"allow": "shop.example:443", "deny": "a.shop.example"}).targets
        self.assertEqual((["shop.example:443"], 1), ([str(one) for one in targets.allow], len(targets.deny)))
        self.assertEqual((), self.pattern(targets={"deny": []}).targets.deny)

    def test_missing(self) -> None:
        """
        Nothing is allowed by default, so something has to be.
        """
        document = self.document("connect")
        tables: tuple[dict[str, object] | None, ...] = (
            None,
            {},
            {"allow": []},
            {"deny": ["x"]},
            {"allow": [], "deny": "x"},
        )
        for table in tables:
            if table is None:
                del document["route"][0]["targets"]
            else:
                document["route"][0]["targets"] = table
            self.assertProblem(
                "route[0].targets.allow", "say what clients may ask for, as in *.example.com:443", document
            )

    def test_wrong(self) -> None:
        """
        What is no target is told at its list.
        """
        for key, value, sentence in (
            ("allow", "", "'' is no target"),
            ("allow", [""], "'' is no target"),
            ("allow", "shop.example", "say which port"),
            ("allow", "443", "for any host, write *:443"),
            ("allow", ["shop.example:443", "shop.example:0"], "'0' is no port"),
            ("allow", "https://shop.example", "is a URL"),
            ("allow", "[1]:443", "'[1]:443': brackets hold an IPv6 address"),
            ("allow", "10.0.0.1/8:443", "has bits after its length"),
            ("allow", ["x", "shop.example:443", "443"], "as in x:443, or x:* for all; '443' names no host"),
            ("deny", "*x.example", "a star stands for whole labels"),
            ("deny", ["10.0.0.0/8", "2001:db8::1"], "put an IPv6 address"),
        ):
            document = self.document("connect", targets={key: value})
            self.assertProblem(f"route[0].targets.{key}", sentence, document)

    def test_kinds(self) -> None:
        """
        What is of a wrong kind is told, and nothing else of that list.
        """
        for value, sentence in (({"a": 1}, "not a table"), (1, "not a number"), ([1], "give a string, not a number")):
            self.assertProblem("route[0].targets.allow", sentence, self.document("connect", targets={"allow": value}))
        for table, kind in (([], "a list"), ("x:1", "a string"), (1, "a number")):
            document = self.document("connect", targets=None)
            document["route"][0]["targets"] = table
            self.assertProblem("route[0].targets", f"give a table, not {kind}", document)

    def test_everything(self) -> None:
        """
        A network of all addresses opens this machine, too, and that is a warning; any host does not.
        """
        self.assertEqual((), self.warnings(targets={"allow": ["*:443", "*:*", "10.0.0.0/8:443"]}))
        warnings = self.warnings(targets={"allow": ["0.0.0.0/0:443", "*:443", "[::/0]:*", "[::ffff:0:0/96]:1"]})
        for warning, text in zip(warnings, ("0.0.0.0/0:443", "[::/0]:*", "[::ffff:0:0/96]:1"), strict=True):
            self.assertTrue(warning.startswith(f"route connect: {text} of [route.targets] allows loopback"), warning)
        self.assertEqual((), self.warnings(targets={"allow": "*:443", "deny": "0.0.0.0/0"}))


class UserTests(ConnectTestCase):
    """
    C{users}.
    """

    def test_good(self) -> None:
        """
        A file of users is read; it lies beside the configuration.
        """
        users = self.pattern(users="users.txt").users
        assert users is not None
        self.assertEqual(1, len(users))
        self.assertIsNone(self.pattern().users)
        (self.folder / "below").mkdir()
        write(str(self.folder / "below" / "people"), USER.encode())
        self.pattern(users="below/people")
        self.pattern(users=str(self.folder / "below" / "people"))

    def test_bad(self) -> None:
        """
        A file that cannot be used is told, with its line where it has one, and never with a hash or a password.
        """
        for name, content, sentence in (
            ("plain", b"# people\nann:hunter22\n", "plain:2: the password (plain text) is not hashed"),
            ("short", b"ann:$scrypt$ln=14,r=8,p=1$hunter22\n", "short:1: the hash is cut short"),
            ("twice", USER.encode() * 2, 'twice:2: the user "ann" is there twice'),
            ("empty", b"", "empty holds no user"),
            ("nothing", None, "nothing cannot be read: No such file or directory"),
            (".", None, "cannot be read: Is a directory"),
        ):
            if content is not None:
                write(str(self.folder / name), content)
            document = self.document("connect", users=name)
            self.assertProblem("route[0].users", sentence, document)
            self.assertNotIn("hunter22", str(self.problems(document)))

    def test_kinds(self) -> None:
        """
        It is the name of one file.
        """
        for value, sentence in (
            ("", "not an empty string"),
            (["users.txt"], "not a list"),
            (True, "not true or false"),
        ):
            self.assertProblem("route[0].users", sentence, self.document("connect", users=value))
        self.assertProblem("route[0].users", "nobody has", self.document("connect", users="~nobody-has-this-name/x"))

    def test_open(self) -> None:
        """
        A file that others can read is a warning.
        """
        write(str(self.folder / "users.txt"), USER.encode(), mode=0o644)
        (warning,) = self.warnings(users="users.txt")
        self.assertIn(f"{self.folder}/users.txt holds hashed passwords and is open to more than its owner", warning)


class ExposureTests(ConnectTestCase):
    """
    Who can reach the proxy.
    """

    PUBLIC = (
        *("3128", "0.0.0.0:3128", "192.0.2.1:3128", "[::]:3128", "proxy.example:3128"),
        *("tcp:3128", "tcp:3128:interface=192.0.2.1", r"tcp6:3128:interface=\:\:", "systemd:domain=INET:index=0"),
    )
    PRIVATE = (
        *("127.0.0.1:3128", "127.8.8.8:3128", "[::1]:3128", "localhost:3128", "unix:in.sock"),
        *("tcp:3128:interface=127.0.0.1", r"tcp6:3128:interface=\:\:1", "tcp:3128:127.0.0.1", "unix:in.sock:mode=660"),
    )

    def test_private(self) -> None:
        """
        On this machine a proxy may be without users, and passwords may be in clear.
        """
        for listen in self.PRIVATE:
            self.assertEqual((), self.warnings(listen=listen), listen)
            self.assertEqual((), self.warnings(listen=listen, users="users.txt"), listen)

    def test_open(self) -> None:
        """
        A proxy for everybody is a warning, with TLS as well, unless client certificates are required.
        """
        for listen in self.PUBLIC:
            self.assertEqual((OPEN,), self.warnings(listen=listen), listen)
            self.assertEqual((OPEN,), self.warnings(listen=listen, tls={"cert": "server.pem"}), listen)
            tls = {"cert": "server.pem", "client_ca": "ca.pem"}
            self.assertEqual((OPEN,), self.warnings(listen=listen, tls=tls | {"client_auth": "optional"}), listen)
            self.assertEqual((), self.warnings(listen=listen, tls=tls), listen)
            self.assertEqual((), self.warnings(listen=listen, tls=tls | {"client_auth": "required"}), listen)

    def test_inClear(self) -> None:
        """
        Passwords that cross a network in clear are a warning; within TLS they are none.
        """
        for listen in self.PUBLIC:
            self.assertEqual((CLEAR,), self.warnings(listen=listen, users="users.txt"), listen)
            self.assertEqual((), self.warnings(listen=listen, users="users.txt", tls={"cert": "server.pem"}), listen)

    def test_otherModes(self) -> None:
        """
        In other modes it is the upstream that decides.
        """
        for mode in ("offload", "encrypt", "bridge", "passthrough"):
            self.assertEqual((), self.build(self.document(mode, listen="8443")).warnings)


class TLSTests(ConnectTestCase):
    """
    TLS toward the client.
    """

    def test_optional(self) -> None:
        """
        There is TLS if there is a table for it, which then needs a certificate.
        """
        self.assertIsNone(self.pattern().tls)
        self.assertIsNotNone(self.pattern(tls={"cert": "server.pem"}).tls)
        for table in ({}, {"min_version": "1.3"}, {"client_ca": "ca.pem"}):
            document = self.document("connect")
            document["route"][0]["tls"] = table
            self.assertProblem("route[0].tls.cert", "a certificate is needed", document)

    def test_alpn(self) -> None:
        """
        The one protocol that the mode speaks may be named, and no other.
        """
        for alpn in ("http/1.1", ["http/1.1"], []):
            self.pattern(tls={"cert": "server.pem", "alpn": alpn})
        for alpn in ("h2", ["h2", "http/1.1"], ["http/1.1", "h2"], "http/1.0"):
            document = self.document("connect", tls={"cert": "server.pem", "alpn": alpn})
            self.assertProblem("route[0].tls.alpn", 'mode connect speaks "http/1.1" only', document)

    def test_allAtOnce(self) -> None:
        """
        What is wrong with the targets, the users and TLS is told at once.
        """
        document = self.document(
            "connect",
            users="nothing",
            tls={"cert": "nothing.pem", "alpn": "h2"},
            targets={"allow": "x", "deny": "a:b:c", "dney": "x"},
        )
        keys = ("users", "tls.cert", "tls.alpn", "targets.allow", "targets.deny", "targets.dney")
        self.assertEqual({f"route[0].{key}" for key in keys}, set(self.problems(document)))
