"""
Tests for L{tlsproxy.tls.nss}: what is asked of the tools of NSS, and what is made of their answers.

The tools here are pretended; L{tests.integration.test_certificates_of_browsers} has the real ones.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.trial.unittest import SynchronousTestCase

from tlsproxy.testing.certificates import NOW, Holder, certify, write
from tlsproxy.tls import files, nss
from tlsproxy.tls.files import CertificateProblem
from tlsproxy.tls.identities import findIdentities
from tlsproxy.tls.nss import NSSKey, exportKey, keysIn
from tlsproxy.tls.sources import NSSDatabase

CA = certify("Example CA")
ANN = certify("Ann", CA)
LISTED = """\
certutil: Checking token "NSS Certificate DB" in slot "NSS User Private Key and Certificate Services"
< 0> ec       66d72bf6cb6c5927ba9e95de8d903c6759eb3daf   Ann of us
< 1> rsa      91020d9bae9a3c4b682eea50208b02d57e48bc22   NSS Certificate DB:Bœb: the token
< 2> ec       e58c6e4068af9a03d9b78d7670036aea9067fb8b   (orphan)
"""
_PRETEND = """\
#!/bin/sh
'''exec' {python} -S "$0" "$@"
' '''
import os, sys
here = {here!r}
arguments = dict(zip(sys.argv[1:], sys.argv[2:]))
with open(os.path.join(here, "asked"), "a") as log:
    log.write(os.path.basename(sys.argv[0]) + " " + " ".join(sys.argv[1:]) + "\\n")
with open(arguments.get("-f") or arguments["-k"]) as secret, open(os.path.join(here, "password"), "w") as seen:
    seen.write(secret.read())
if "-o" in arguments:
    sys.path[:0] = {path!r}
    with open(arguments["-w"], "rb") as passphrase, open(arguments["-o"], "wb") as output:
        exec(open(os.path.join(here, "export.py")).read())
sys.stdout.write(open(os.path.join(here, "stdout"), encoding="utf-8").read())
sys.stderr.write(open(os.path.join(here, "stderr"), encoding="utf-8").read())
sys.exit(int(open(os.path.join(here, "status")).read()))
"""
_EXPORT = """\
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
pem = open(os.path.join(here, "pem"), "rb").read()
first, *others = x509.load_pem_x509_certificates(pem)
encryption = BestAvailableEncryption(passphrase.read())
output.write(serialize_key_and_certificates(None, load_pem_private_key(pem, None), first, others, encryption))
"""


class NSSCase(SynchronousTestCase):
    """
    A test with a database, and with tools that do as they are told.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.database = self.folder / "db"
        self.database.mkdir(parents=True, mode=0o700)
        for name in ("cert9.db", "key4.db", "pkcs11.txt"):
            write(str(self.database / name), b"x")
        self.tools = self.folder / "tools"
        self.tools.mkdir()
        text = _PRETEND.format(python=shlex.quote(sys.executable), here=str(self.folder), path=sys.path)
        for tool in ("certutil", "pk12util"):
            (self.tools / tool).write_text(text)
            (self.tools / tool).chmod(0o755)
        (self.folder / "export.py").write_text(_EXPORT)
        self.patch(os, "environ", {**os.environ, "PATH": str(self.tools), "PYTHONUTF8": "1"})
        self.say(LISTED)
        self.keep(ANN, CA)

    def say(self, printed: str, told: str = "", status: int = 0) -> None:
        """
        Tell the tools what to say.
        """
        for name, text in (("stdout", printed), ("stderr", told), ("status", str(status))):
            (self.folder / name).write_text(text, "utf-8")

    def keep(self, holder: Holder, *others: Holder) -> None:
        """
        Tell them what to hand over.
        """
        parts = [holder.keyPEM(), holder.pem(), *(other.pem() for other in others)]
        (self.folder / "pem").write_bytes(b"".join(parts))

    def asked(self) -> list[str]:
        """
        Tell what they were asked to do.
        """
        return (self.folder / "asked").read_text().splitlines()

    def open(self, nickname: str | None = None, password: bytes | None = None) -> NSSDatabase:
        """
        Name the database.
        """
        secret = None if password is None else write(str(self.folder / "secret"), password)
        return NSSDatabase(str(self.database), nickname, secret)

    def problem(self, nickname: str | None = None, password: bytes | None = None) -> str:
        """
        Tell why the keys cannot be listed.
        """
        return str(self.assertRaises(CertificateProblem, keysIn, self.open(nickname, password))).replace(
            str(self.folder), ""
        )


class KeyTests(NSSCase):
    """
    Tests for L{keysIn}.
    """

    def test_all(self) -> None:
        """
        All keys count that have certificates.
        """
        found = keysIn(self.open())
        self.assertEqual(["Ann of us", "Bœb: the token"], [key.nickname for key in found])
        self.assertEqual("66d72bf6cb6c5927ba9e95de8d903c6759eb3daf", found[0].id)
        (asked,) = self.asked()
        self.assertRegex(asked, rf"^certutil -K -f /proc/self/fd/\d+ -d sql:{re.escape(str(self.database))}$")

    def test_noStandardInput(self) -> None:
        """
        What a tool is given takes no place of its standard streams, where ours are closed.
        """
        before = os.dup(0)
        os.close(0)
        try:
            self.assertEqual(2, len(keysIn(self.open(password=b"Sesame\n"))))
        finally:
            os.dup2(before, 0)
            os.close(before)
        self.assertEqual("Sesame\n", (self.folder / "password").read_text())

    def test_nickname(self) -> None:
        """
        One may be chosen by its nickname, with or without the name of the token; else all are told.
        """
        for nickname in ("Bœb: the token", "NSS Certificate DB:Bœb: the token"):
            self.assertEqual(["Bœb: the token"], [key.nickname for key in keysIn(self.open(nickname))])
        self.assertEqual(
            "/db holds no key for a certificate with the nickname 'Eve': those that it has are called 'Ann of us', "
            "'Bœb: the token'",
            self.problem("Eve"),
        )

    def test_password(self) -> None:
        """
        The password goes by a file in memory, and not by arguments.
        """
        keysIn(self.open(None, b"Sesame\r\n"))
        self.assertEqual("Sesame\n", (self.folder / "password").read_text())
        self.assertNotIn("Sesame", self.asked()[0])

    def test_passwordProblems(self) -> None:
        """
        A password that is missing, or another one, is told.
        """
        self.say("", "certutil: could not authenticate to token: SEC_ERROR_BAD_PASSWORD: The security password.\n", 255)
        self.assertEqual("/db has a password: say in which file that is, by password_file", self.problem())
        self.assertEqual("/db has another password than that in /secret", self.problem(None, b"x"))
        self.assertIn("/secret is empty", self.problem(None, b""))

    def test_none(self) -> None:
        """
        A database without a key, or with orphans only, is no use.
        """
        for said in (("", "certutil: no keys found\n", 255), (LISTED.splitlines(True)[3], "", 0)):
            self.say(*said)
            self.assertEqual(
                "/db holds no certificate with its key: import one into it, with pk12util -i FILE.p12 -d sql:/db",
                self.problem(),
            )

    def test_failures(self) -> None:
        """
        What else a tool says is told by the name that NSS has for it.
        """
        self.say("", "certutil: function failed: SEC_ERROR_BAD_DATABASE: security library: bad database.\n", 255)
        self.assertEqual("/db holds a broken NSS database: restore it, or make it anew", self.problem())
        self.say("", "certutil: SEC_ERROR_IO: an I/O error\n", 255)
        self.assertEqual("certutil cannot read /db, and says SEC_ERROR_IO: try certutil -K -d sql:/db", self.problem())
        self.say("", "what\n", 1)
        self.assertIn("says not why", self.problem())

    def test_noTools(self) -> None:
        """
        Where the tools are missing, the package is named.
        """
        (self.tools / "certutil").unlink()
        self.assertEqual(
            "/db is an NSS database, and certutil is not there to read it: install libnss3-tools (nss-tools on Fedora)",
            self.problem(),
        )

    def test_slow(self) -> None:
        """
        A tool that does not come to an end is ended.
        """
        self.patch(nss, "_PATIENCE", 0.05)
        (self.tools / "certutil").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
        self.assertEqual("certutil does not come to an end with /db within 0.05 s", self.problem())

    def test_unrunnable(self) -> None:
        """
        A tool that cannot be run is told as such.
        """
        (self.tools / "certutil").write_text("#!/nonexistent/sh\n")
        self.assertIn("certutil, which reads /db, cannot be run: ", self.problem())

    def test_noMemory(self) -> None:
        """
        Nothing secret is written elsewhere where there are no files in memory.
        """
        self.patch(os, "memfd_create", lambda *ignored: os.open("/nonexistent", os.O_RDONLY))
        self.assertIn("NSS databases cannot be read here, for want of files in memory: ", self.problem())

    def test_legacy(self) -> None:
        """
        The old form is told from none at all.
        """
        (self.database / "key4.db").unlink()
        self.assertEqual(
            "/db holds no NSS database, as there is no key4.db: give a folder that has one", self.problem()
        )
        (self.database / "key3.db").touch()
        self.assertEqual(
            "/db is an NSS database of the old form (cert8.db, key3.db), which is not supported: convert it with "
            "certutil -K -X -d sql:/db",
            self.problem(),
        )
        self.database = self.folder / "elsewhere"
        self.assertEqual(
            "/elsewhere is no folder: give that of an NSS database, a profile of Firefox or ~/.pki/nssdb",
            self.problem(),
        )

    def test_unreadable(self) -> None:
        """
        A file that may not be read is told with whoever may not.
        """
        self.patch(nss, "stampOf", lambda path: None)
        self.assertEqual(f"/db/cert9.db may not be read by user id {os.geteuid()}: run as its owner", self.problem())

    def test_strangers(self) -> None:
        """
        A database that others can write to is not opened, as it says which libraries the tools load.
        """
        for name in ("", "pkcs11.txt"):
            path = self.database / name
            before = path.stat().st_mode
            path.chmod(0o770)
            self.assertIn("can be changed by others than user id", self.problem())
            path.chmod(before)
        self.patch(os, "geteuid", lambda: 4711)
        if os.getuid():
            self.assertIn("can be changed by others than user id 4711", self.problem())
        self.assertFalse((self.folder / "asked").exists())


class ExportTests(NSSCase):
    """
    Tests for L{exportKey}.
    """

    def key(self, password: bytes | None = None) -> NSSKey:
        """
        Name the first key of the database.
        """
        return NSSKey(self.open(None, password), "66d72b", "Ann of us")

    def test_export(self) -> None:
        """
        A key comes with its certificate and those of its issuers, and is asked for by its number.
        """
        found = exportKey(self.key(b"Sesame"))
        self.assertEqual((ANN.certificate, CA.certificate), found.certificates)
        self.assertEqual(ANN.key.public_key(), found.key.public_key())
        self.assertEqual((), found.warnings)
        (asked,) = self.asked()
        self.assertRegex(
            asked,
            r"^pk12util -o /proc/self/fd/\d+ -n pkcs11:id=%66%d7%2b -w /proc/self/fd/\d+ -k /proc/self/fd/\d+ -d sql:",
        )
        self.assertNotIn("PrivateKey", repr(found))

    def test_newest(self) -> None:
        """
        Of several certificates for one key, that which is valid for longest comes first.
        """
        newer = certify("Ann", CA, key=ANN.key, ends=NOW + timedelta(days=300))
        self.keep(ANN, newer, certify("CA", ends=NOW))
        self.assertEqual([newer.certificate, ANN.certificate], list(exportKey(self.key()).certificates[:2]))

    def test_open(self) -> None:
        """
        A database without a password that others can read is warned of, and a password that they can.
        """
        (self.database / "key4.db").chmod(0o644)
        (warning,) = exportKey(self.key()).warnings
        self.assertIn("key4.db holds a private key and is open to others", warning)
        (self.folder / "secret").touch(0o644)
        (self.folder / "secret").chmod(0o644)
        self.patch(os, "umask", os.umask)
        key = self.key(b"Sesame")
        (self.folder / "secret").chmod(0o644)
        (warning,) = exportKey(key).warnings
        self.assertIn("holds a password and is open to others", warning)

    def test_bad(self) -> None:
        """
        What cannot be decoded or used is told.
        """
        self.keep(certify("Small", key=rsa.generate_private_key(65537, 1024)))
        problem = str(self.assertRaises(CertificateProblem, exportKey, self.key()))
        self.assertIn("'Ann of us' of", problem)
        self.assertIn("holds an RSA key of 1024 bits, which is not supported", problem)
        (self.folder / "export.py").write_text("output.write(b'0000')")
        problem = str(self.assertRaises(CertificateProblem, exportKey, self.key()))
        self.assertIn("what pk12util makes of 'Ann of us' of", problem)
        (self.folder / "export.py").write_text(_EXPORT.replace("None, load_pem_private_key(pem, None)", "None, None"))
        problem = str(self.assertRaises(CertificateProblem, exportKey, self.key()))
        self.assertIn("lacks its key or its certificate", problem)

    def test_identities(self) -> None:
        """
        All keys of a database are identities, and what is wrong with one is told.
        """
        found = findIdentities([self.open()])
        self.assertEqual([[ANN.certificate]] * 2, [list(one.chain) for one in found.identities])
        self.assertEqual([], found.problems)
        self.assertEqual(list(self.open().files), found.files[:2])
        (self.folder / "export.py").write_text("")
        found = findIdentities([self.open("Ann of us"), self.open("Eve")])
        self.assertEqual(["[0]", "[1]"], [place for place, _ in found.problems])

    def test_kept(self) -> None:
        """
        A key is not asked for again while the database is the same.
        """
        database = self.open("Ann of us")
        # As if it had been written long ago.
        self.patch(files, "_SETTLED", -1)
        (first,) = findIdentities([database]).identities
        (second,) = findIdentities([database]).identities
        self.assertIs(first, second)
        self.assertEqual(["certutil", "pk12util", "certutil"], [asked.split()[0] for asked in self.asked()])
