# -*- test-case-name: tests.integration.test_examples -*-
"""
Every file in C{examples/} does what its first comment says.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys

from tests.integration import (
    test_dtls_gateway,
    test_gateway,
    test_passthrough_routes,
    test_systemd,
    test_writing_handlers,
)
from tests.integration.chromium import hosts
from tests.integration.namespace import EXAMPLES, NamespaceTestCase
from tests.integration.opensmtpd import DOMAIN, OpenSMTPD
from tests.integration.running import TOOL, Child, Proxy
from tests.peers import requirePeer

ELSEWHERE = {
    "cut-hello.py": test_passthrough_routes.RealServerTests,
    "dtls-gateway.toml": test_dtls_gateway.GatewayTests,
    "gateway.toml": test_gateway.GatewayTests,
    "handler-package": test_writing_handlers.ExampleTests,
    "handlers": test_writing_handlers.ExampleTests,
    "systemd": test_systemd.SystemdTests,
}
"""Examples that have a module of tests of their own."""


class ExampleTests(NamespaceTestCase):
    """
    The examples, each in a network of its own, since they name their ports.
    """

    def test_all(self) -> None:
        """
        No example is without a test.
        """
        for file in EXAMPLES.iterdir():
            if not file.name.startswith("__"):
                test = re.sub("-(.)", lambda found: found[1].upper(), f"test_{file.stem}")
                self.assertTrue(file.name in ELSEWHERE or hasattr(self, test), f"{file.name} has no test")

    def test_check(self) -> None:
        """
        All configurations are good, and give rise to no warning.
        """
        self.run_([*TOOL, "devcert", "certs"])
        self.user()
        self.sites()
        for file in EXAMPLES.glob("*.toml"):
            copy = self.folder / file.name
            copy.write_bytes(file.read_bytes())
            done = self.run_([*TOOL, "check", file.name])
            self.assertIn(b": good: ", done.stdout)
            self.assertEqual(b"", done.stderr)

    def user(self) -> None:
        """
        Make the file of users, as the example with users says.
        """
        done = self.run_([*TOOL, "passwd", "ann"], b"open sesame\n")
        users = self.folder / "users.txt"
        users.touch(0o600)
        users.write_bytes(done.stdout)

    def sites(self) -> None:
        """
        Make the certificates of the example with several of them, by the commands in its comment.
        """
        comment = (EXAMPLES / "certificates.toml").read_text().partition("[[route]]")[0]
        commands = re.findall("^#     (.*)$", comment, re.MULTILINE)
        commands = commands[1 : next(at for at, one in enumerate(commands) if one.startswith("twistd"))]
        tool = f'tlsproxy() {{ {shlex.join(TOOL)} "$@"; }}'
        self.run_(["sh", "-c", "\n".join(["set -e", tool, *commands])])

    def page(self, servers: str) -> None:
        """
        Start an nginx with one page.
        """
        self.nginx(servers, self.inside)
        (self.folder / "www" / "index.html").write_text("Hello from nginx\n")

    def assertServed(self, version: bytes) -> None:
        """
        Fetch the page by the command of the example.
        """
        curl = ["curl", "--silent", "--show-error", "--cacert", "certs/ca.pem", "--write-out", "%{http_version}"]
        done = self.run_([*self.inside, *curl, "https://localhost:8443/"])
        self.assertEqual(b"Hello from nginx\n" + version, done.stdout)

    def test_offload(self) -> None:
        """
        C{offload.toml} puts TLS in front of nginx.
        """
        config = self.example("offload.toml")
        self.page("server { listen 127.0.0.1:8080; }")
        Proxy(self, self.folder, config, 1, self.inside)
        self.assertServed(b"1.1")

    def test_certificates(self) -> None:
        """
        C{certificates.toml} shows each name its own certificate, and refuses the names that it does not know.
        """
        config = self.example("certificates.toml")
        self.sites()
        self.page("server { listen 127.0.0.1:8080; }")
        proxy = Proxy(self, self.folder, config, 1, self.inside)
        for folder, name in (("certs", "localhost"), ("forum", "eu.forum.localhost"), ("mail", "mail.localhost")):
            curl = ["curl", "--silent", "--show-error", "--cacert", f"{folder}/ca.pem"]
            done = self.run_([*self.inside, *curl, f"https://{name}:8443/"])
            self.assertEqual(b"Hello from nginx\n", done.stdout)
        done = self.run_([*self.inside, "curl", "--silent", "--show-error", "https://other.localhost:8443/"], status=35)
        self.assertIn(b"unrecognized name", done.stderr)
        self.assertIn("the client asks for other.localhost, and no certificate", proxy.session(3)["reason"])

    def test_clients(self) -> None:
        """
        C{clients.toml} lets in whose certificate it names, by the name that it is asked for.
        """
        config = self.example("clients.toml")
        shutil.rmtree(self.folder / "certs")
        self.run_([*TOOL, "devcert", "certs", "localhost", "127.0.0.1", "admin.localhost"])
        self.run_([*TOOL, "devcert", "others"])
        self.page("server { listen 127.0.0.1:8080; }")
        proxy = Proxy(self, self.folder, config, 1, self.inside)
        curl = [*self.inside, "curl", "--silent", "--show-error", "--cacert", "certs/ca.pem"]
        own = ["--cert", "certs/client.pem", "--key", "certs/client-key.pem"]
        done = self.run_([*curl, *own, "https://localhost:8443/"])
        self.assertEqual(b"Hello from nginx\n", done.stdout)
        others = ["--cert", "others/client.pem", "--key", "others/client-key.pem"]
        for number, (more, where, reason) in enumerate(
            (
                (own, "admin.localhost", "no rule allows it (CN=tlsproxy development client"),
                (others, "localhost", "the client's certificate is refused"),
                ([], "localhost", "the client showed no certificate"),
                (own, "127.0.0.1", "no rule allows it (CN=tlsproxy development client"),
            ),
            1,
        ):
            done = self.run_([*curl, *more, f"https://{where}:8443/"], status=None)
            self.assertNotEqual(0, done.returncode)
            self.assertEqual(b"", done.stdout)
            self.assertIn(reason, proxy.session(number)["reason"])

    def test_balancers(self) -> None:
        """
        C{balancers.toml} tells nginx, by two proxies, who the client is.
        """
        config = self.example("balancers.toml")
        tells = 'return 200 "$proxy_protocol_addr $proxy_protocol_server_port";'
        self.nginx(f"server {{ listen 127.0.0.1:8080 proxy_protocol; location / {{ {tells} }} }}", self.inside)
        proxy = Proxy(self, self.folder, config, 2, self.inside)
        curl = ["curl", "--silent", "--show-error", "--cacert", "certs/ca.pem", "--interface", "127.0.0.9"]
        done = self.run_([*self.inside, *curl, "-4", "https://localhost:8443/"])
        self.assertEqual(b"127.0.0.9 8443", done.stdout)
        edge, inner = sorted((proxy.session(number) for number in range(2)), key=lambda line: line["route"])
        self.assertEqual((edge["client"], edge["uniqueId"]), (inner["client"], inner["uniqueId"]))
        self.assertEqual(("", "127.0.0.1"), (edge["via"], inner["via"].partition(":")[0]))

    def test_bridge(self) -> None:
        """
        C{bridge.toml} decrypts and encrypts again, and speaks HTTP/2 through.
        """
        config = self.example("bridge.toml")
        certs = self.folder / "certs"
        self.page(
            f"server {{ listen 127.0.0.1:9443 ssl http2; ssl_certificate {certs}/server.pem;"
            f" ssl_certificate_key {certs}/server-key.pem; }}"
        )
        Proxy(self, self.folder, config, 1, self.inside)
        self.assertServed(b"2")

    def test_embed(self) -> None:
        """
        C{embed.py} runs as it stands.
        """
        program = self.example("embed.py")
        self.page("server { listen 127.0.0.1:8080; }")
        running = Child(self, self.folder, "embed", [*self.inside, sys.executable, str(program)])
        curl = ["curl", "--silent", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]
        done = self.run_([*self.inside, *curl, "--cacert", "certs/ca.pem", "https://localhost:8443/"])
        self.assertEqual(b"Hello from nginx\n", done.stdout, running.text())
        running.end()
        self.assertNotIn("Traceback", running.text())

    def test_site(self) -> None:
        """
        C{site.py} greets strangers, and whoever has a certificate by name.
        """
        running = self.site()
        curl = [*self.inside, "curl", "--silent", "--show-error", "--cacert", "certs/ca.pem"]
        done = self.run_([*curl, "https://localhost:8443/"])
        self.assertEqual(b"Hello stranger, nobody listens\n", done.stdout)
        own = ["--cert", "certs/client.pem", "--key", "certs/client-key.pem"]
        done = self.run_([*curl, *own, "https://localhost:8443/"])
        self.assertRegex(done.stdout, b"^Hello (?!stranger)[^,]+, nobody listens\n$")
        running.end()
        self.assertNotIn("Traceback", running.text())

    def site(self) -> Child:
        """
        Start C{site.py}.
        """
        program = self.example("site.py")
        running = Child(self, self.folder, "site", [*self.inside, sys.executable, str(program)])
        running.waitFor("site .offload. listens on")
        return running

    def test_fetch(self) -> None:
        """
        C{fetch.py} prints a page, and why it gets none from a server that shows the wrong name.
        """
        running = self.site()
        shutil.copy(EXAMPLES / "fetch.py", self.folder)
        fetch = [*self.inside, sys.executable, "fetch.py"]
        done = self.run_([*fetch, "https://localhost:8443/", "https://localhost:8443/again"])
        self.assertEqual(b"Hello stranger, nobody listens\n" * 2, done.stdout)
        done = self.run_([*fetch, "https://127.0.0.2:8443/"], status=1)
        self.assertIn(b"https://127.0.0.2:8443/: the upstream 127.0.0.2:8443 refuses connections\n", done.stderr)
        running.end()
        self.assertNotIn("Traceback", running.text() + done.stderr.decode())

    def test_connect(self) -> None:
        """
        C{connect.toml} tunnels to a host on its list for a user with the right password, and for nobody else.
        """
        config = self.example("connect.toml")
        self.user()
        shop = self.certificates.issue("shop", ["www.example.org"])
        here = "203.0.113.7"
        self.run_([*self.inside, "ip", "address", "add", f"{here}/32", "dev", "lo"])
        self.page(f"server {{ listen {here}:443 ssl; ssl_certificate {shop}; ssl_certificate_key {shop}; }}")
        names = {"localhost": "127.0.0.1", "www.example.org": here, "intra.example.org": "10.1.2.3"}
        proxy = Proxy(self, self.folder, config, 1, hosts(self, names))
        curl = ["curl", "--silent", "--show-error", "--cacert", str(self.certificates.ca), "--noproxy", ""]
        way = ["--proxy", "https://localhost:3129", "--proxy-cacert", "certs/ca.pem", "--proxy-user"]
        done = self.run_([*self.inside, *curl, *way, "ann:open sesame", "https://www.example.org/"])
        self.assertEqual(b"Hello from nginx\n", done.stdout)
        for user, host, status in (
            ("ann:wrong", "www.example.org", b"407"),
            ("ann:open sesame", "www.example.com", b"403"),
            ("ann:open sesame", "intra.example.org", b"403"),
        ):
            done = self.run_([*self.inside, *curl, *way, user, f"https://{host}/"], status=56)
            self.assertIn(b"CONNECT tunnel failed, response " + status, done.stderr)
        self.assertEqual("ann", proxy.session()["user"])

    def test_submission(self) -> None:
        """
        C{submission.toml} has swaks send a mail by STARTTLS to OpenSMTPD, which knows nothing of it.
        """
        config = self.example("submission.toml")
        server = OpenSMTPD(self, 2525, self.inside)
        self.waitForListener(2525)
        proxy = Proxy(self, self.folder, config, 1, self.inside)
        swaks = ["swaks", "--server", "localhost:5587", "--tls", "--tls-verify", "--tls-ca-path", "certs/ca.pem"]
        self.run_([*self.inside, *swaks, "--from", "ann@example.org", "--to", f"bob@{DOMAIN}", "--helo", "localhost"])
        self.assertIn("This is a test mailing", server.mail())
        self.assertIn("TLSv1.3", proxy.session()["tls"])

    def test_dmz(self) -> None:
        """
        C{dmz/run.py} goes from nothing to an answer, with a client proxy that enrolls, and shows what each party can
        see, and what it cannot.
        """
        text = self.dmz(keys="proxies-ca-key.pem server-key.pem")
        self.assertRegex(text, r"(?m)^\$ tlsproxy setup ")
        self.assertRegex(text, r"(?m)^\$ tlsproxy enroll https://enroll.localhost:8444 ")
        self.assertRegex(text, r"(?ms)^\$ tlsproxy browser .*127\.0\.0\.1:3128")
        self.assertIn(" outcome=enrolled", (self.folder / "reverse-proxy" / "log").read_text())
        token = (self.folder / "token").read_text().strip()
        for log in self.folder.glob("*/log"):
            self.assertNotIn(token, log.read_text())

    def test_dmzByHand(self) -> None:
        """
        So it does where nobody enrolls.
        """
        self.dmz("--by-hand", keys="dmz-key.pem")

    def dmz(self, *options: str, keys: str) -> str:
        """
        Run the example, and see that it tells what it has to.

        @param keys: What keys the reverse proxy has.
        @return: What it prints.
        """
        run = [sys.executable, str(EXAMPLES / "dmz" / "run.py"), *options, str(self.folder)]
        text = self.run_([*self.inside, *run]).stdout.decode()
        self.assertIn("BALANCE 4711\n", text)
        self.assertIn("from end to end: 4711: 1234.56 EUR\n", text)
        for name, words in (
            ("hears", "\\d+ bytes, all of them TLS: \\d+ records"),
            ("the target", "not heard"),
            ("the CONNECT", "not heard"),
            ("a certificate", "not heard"),
            ("the browser's certificate", "not heard"),
            ("question or answer", "not heard"),
            ("keys", f"{keys}; none of the bank's"),
        ):
            self.assertRegex(text, f"(?m)^  {name}: +{words}$")
        self.assertEqual(
            ["not found", "not found", "found"], re.findall("(?m)^  the answer in its memory: +(.*)$", text)
        )
        self.assertRegex(text, "elsewhere.example is told: .*elsewhere.example:443\n$")
        for host, words in (
            ("client-proxy", "target=localhost:9443 downgrade=handshake .*upstream_tls=TLSv1.3/.*/tlsproxy-seq/1"),
            ("reverse-proxy", "target=localhost:9443 downgrade=handshake upstream=127.0.0.1:9443 .*client_cert="),
            ("mainframe", "sni=localhost .*client_cert="),
        ):
            log = (self.folder / host / "log").read_text()
            self.assertRegex(log, f"{host} client=\\S+ .*{words}")
            self.assertNotIn("Traceback", log)
            done = self.run_([*TOOL, "check", f"{host}/{host}.toml"])
            self.assertIn(b": good: ", done.stdout)
            self.assertEqual(b"", done.stderr)
        return text

    def test_dmzPassthrough(self) -> None:
        """
        C{dmz-passthrough/run.py} runs all three hosts, and shows that the one in between can read nothing.
        """
        done = self.run_([*self.inside, sys.executable, str(EXAMPLES / "dmz-passthrough" / "run.py"), str(self.folder)])
        text = done.stdout.decode()
        self.assertIn("BALANCE 4711\n", text)
        self.assertIn("4711: 1234.56 EUR\n", text)
        for name, words in (
            ("files", "dmz.toml log"),
            ("private keys among them", "none"),
            ("question and answer in what crossed it, \\d+ bytes", "not found"),
            ("the answer in the memory of the proxy of dmz", "not found"),
            ("the answer in the memory of the proxy of mainframe", "found"),
        ):
            self.assertRegex(text, f"(?m)^  {name}: +{words}$")
        self.assertRegex(text, "other.example is told: .*UNRECOGNIZED_NAME\n$")
        for host in ("dmz", "mainframe"):
            log = (self.folder / host / "log").read_text()
            self.assertRegex(log, f"{host} client=\\S+ sni=mainframe.example .* outcome=closed")
            self.assertNotIn("Traceback", log)
            done = self.run_([*TOOL, "check", f"{host}/{host}.toml"])
            self.assertIn(b": good: ", done.stdout)
            self.assertEqual(b"", done.stderr)

    def test_dmzPassthroughCannotStart(self) -> None:
        """
        It says in one sentence that a port is taken, or that its folders are there already, and leaves nothing behind.
        """
        run = [*self.inside, sys.executable, str(EXAMPLES / "dmz-passthrough" / "run.py"), str(self.folder / "three")]
        taken = Child(self, self.folder, "taken", [*self.inside, requirePeer("nc"), "-l", "127.0.0.1", "9443"])
        self.waitForListener(9443)
        done = self.run_(run, status=1)
        sentence = "port 9443 of 127.0.0.1, which this example needs, cannot be had: Address already in use\n"
        self.assertEqual((b"", sentence), (done.stdout, done.stderr.decode()))
        self.assertFalse((self.folder / "three").exists())
        taken.kill()
        (self.folder / "three" / "client").mkdir(parents=True)
        done = self.run_(run, status=1)
        self.assertEqual(f"the folder {self.folder}/three/client cannot be made: File exists\n", done.stderr.decode())
