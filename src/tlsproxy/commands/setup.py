# -*- test-case-name: tests.commands.test_setup -*-
"""
C{tlsproxy setup}: all that a reverse proxy needs that lets client proxies enroll, from nothing.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tlsproxy.commands.parser import Commands
from tlsproxy.enrolling.lineages import LONGEST_TOKEN, Lineages, StoreProblem, isName
from tlsproxy.targets import parseTarget
from tlsproxy.tls.authority import Authority
from tlsproxy.tls.issuing import Issuer
from tlsproxy.tls.keys import PrivateKey, spkiHash
from tlsproxy.tls.printing import printable
from tlsproxy.tls.signatures import pinOf, sign
from tlsproxy.wire.enrolltoken import Token
from tlsproxy.wire.host import asciiName, isLiteral
from tlsproxy.wire.hostport import parseAuthority

__all__ = ["Place", "SetupProblem", "add", "isEverything", "setUp"]

_AUTHORITIES_LAST: Final = timedelta(days=3650)
_SERVER_LASTS: Final = timedelta(days=730)
_MAPPING_LASTS: Final = timedelta(days=30)
_WITHOUT_NAME: Final = "dmz.internal"
"""What a reverse proxy is called where only its address is known: TLS asks for names, and nobody's name ends so."""

_CONFIGURATION: Final = """\
# A reverse proxy that lets client proxies enroll.  All files are beside this one.

[[route]]
name = "reverse-proxy"
mode = "sequential-server"
listen = {listen}

[route.tls]
cert = "server.pem"                 # good for both names below
key = "server-key.pem"
client_ca = "proxies-ca.pem"
min_version = "1.3"

[route.enroll]
name = {enroll}
server_name = {server}
server_ca = ["server-ca.pem"]
ca = "proxies-ca.pem"
ca_key = "proxies-ca-key.pem"
mapping = "mapping.signed"
store = "enrollment.sqlite"

# What those who have enrolled may reach: all of them the same here.
[[route.grant]]
issuer = "proxies-ca.pem"
uri = [{everybody}]
targets = {targets}
"""
_MAPPING: Final = """\
[[reverse_proxy]]
name = "dmz"
address = {address}
server_name = {server}

[[map]]
hosts = {hosts}
via = "dmz"
"""
_HEAD: Final = """\
[mapping]
audience = {audience}
version = {version}
issued = {issued}
expires = {expires}

"""
_NEXT: Final = """\
{folder} is ready.  On this host:

    twistd -n tlsproxy --config {configuration}

On the machine of {name}, with a copy of {token} (good once, for 24 hours; send it as you would a password):

    tlsproxy enroll https://{enroll}:{port} --connect {address} --token-file token

{signer} holds the keys that this host does not need: move it to another one.  The mapping ends on
{expires:%Y-%m-%d}; until then, sign a new one there, and bring only that back:

    tlsproxy mapping sign signer/mapping.toml --key signer/mapping-key.pem --audience {domain} --out mapping.signed
"""


class SetupProblem(ValueError):
    """
    It cannot be set up: one sentence.
    """


@frozen
class Place:
    """
    Where a reverse proxy will be, and what it is called.

    @ivar address: Where client proxies find it.
    @ivar port: Its port.
    @ivar server: What it is called in TLS.
    @ivar isHere: Whether it is for this machine alone.
    """

    address: str
    port: int
    server: str
    isHere: bool

    @classmethod
    def parse(cls, text: str) -> Place:
        """
        Read it as C{HOST:PORT}.

        @raise ValueError: It is something else; one sentence.
        """
        host, port = parseAuthority(text, "--address")
        if port is None or port == 0:
            raise ValueError(f"--address {printable(text)}: say the port, too, as in dmz.example:8443")
        if not isLiteral(host):
            name = asciiName(host)
            isHere = name == "localhost" or name.endswith(".localhost")
            return cls(f"{name}:{port}", port, name, isHere)
        address = ip_address(host)
        if address.is_unspecified or address.is_multicast:
            raise ValueError(f"--address {printable(text)}: say where client proxies find this host")
        written = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        return cls(written, port, "localhost" if address.is_loopback else _WITHOUT_NAME, address.is_loopback)

    @property
    def enroll(self) -> str:
        """
        What it is called by those who enroll.
        """
        return f"enroll.{self.server}"

    @property
    def listen(self) -> str:
        """
        Where it listens.
        """
        if not self.isHere:
            return str(self.port)
        host, _, _ = self.address.rpartition(":")
        return self.address if isLiteral(host.strip("[]")) else f"127.0.0.1:{self.port}"


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "setup",
        help="make all that a reverse proxy needs that lets client proxies enroll",
        description="Make a folder with all that a reverse proxy needs (mode sequential-server) that lets client "
        "proxies enroll: its certificate, the CA that certifies them, a configuration, a signed mapping, and the first "
        "token.  Says what to run next.",
    )
    parser.add_argument(
        "--address", metavar="HOST:PORT", required=True, help="where client proxies find the reverse proxy"
    )
    parser.add_argument(
        "--target",
        metavar="HOST:PORT",
        dest="targets",
        action="append",
        required=True,
        help="what is reached through it; may stand several times",
    )
    parser.add_argument("--name", metavar="NAME", required=True, help="what the first client proxy is called")
    parser.add_argument(
        "--domain", metavar="DOMAIN", help="trust domain of the client proxies' identities; default: HOST"
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="what does not exist yet, or is empty")
    parser.set_defaults(run=_setup)


def _setup(arguments: argparse.Namespace) -> int:
    try:
        place = Place.parse(arguments.address)
        domain = arguments.domain or place.server
        told = setUp(arguments.folder, place, arguments.targets, arguments.name, domain, datetime.now(UTC))
    except (ValueError, StoreProblem) as e:
        print(f"tlsproxy: {e}", file=sys.stderr)
        return 1
    for target in arguments.targets:
        if isEverything(target):
            print(
                f"tlsproxy: warning: --target {printable(target)} is every host there is, those of this machine's own "
                "network included: name what client proxies are to reach, as in *.bank.example:443",
                file=sys.stderr,
            )
    print(told, end="")
    return 0


def isEverything(target: str) -> bool:
    """
    Tell whether a target is all names, or all addresses of a family.

    @param target: One that is good.
    """
    found = parseTarget(target, True)
    return found.pattern == "*" or (found.network is not None and found.network.prefixlen == 0)


def setUp(folder: Path, place: Place, targets: Sequence[str], name: str, domain: str, now: datetime) -> str:
    """
    Make the folder, whole or not at all.

    @param folder: What does not exist yet, or is empty.
    @param place: Where the reverse proxy will be.
    @param targets: What is reached through it, each as C{HOST:PORT}.
    @param name: What the first client proxy is called.
    @param domain: The trust domain of the client proxies.
    @param now: The time, with its time zone.
    @return: What to do next, in words.
    @raise SetupProblem: Something that is given cannot be used, or the folder cannot be written.
    @raise CertificateProblem: The domain, or the name of the place, is none.
    @raise StoreProblem: The store cannot be made.
    """
    if not isName(name):
        raise SetupProblem(
            "--name: a client proxy's name is 1 to 64 letters, digits, dots, hyphens and underscores, the first of "
            "them a letter or digit"
        )
    granted: list[str] = []
    for target in targets:
        try:
            found = parseTarget(target, True)
        except ValueError as e:
            raise SetupProblem(f"--target {printable(target)}: {e}") from e
        granted.append(target)
        if found.pattern == "localhost" or found.pattern.endswith(".localhost"):
            # What leads back to this machine has to be granted as an address, too.
            ports = target.rpartition(":")[2]
            granted += [f"127.0.0.0/8:{ports}", f"[::1]:{ports}"]
    files, token = _files(place, list(dict.fromkeys(targets)), list(dict.fromkeys(granted)), domain, now)
    _write(folder, files, lambda made: _enter(made, token, name, now))
    shown = {key: printable(shlex.quote(str(folder / key))) for key in ("reverse-proxy.toml", "token", "signer")}
    return _NEXT.format(
        folder=printable(shlex.quote(str(folder))),
        configuration=shown["reverse-proxy.toml"],
        token=shown["token"],
        signer=shown["signer"],
        name=name,
        enroll=place.enroll,
        address=place.address,
        port=place.port,
        domain=domain,
        expires=now + _MAPPING_LASTS,
    )


def _files(
    place: Place, targets: list[str], granted: list[str], domain: str, now: datetime
) -> tuple[dict[str, bytes], Token]:
    """
    Make what is in the files.

    @return: The files, by their names; and the token.
    """
    authority = Authority.create(
        _shortened(f"CA of {place.server}"),
        permitted=[x509.DNSName(place.server)],
        lifetime=_AUTHORITIES_LAST,
        now=now,
    )
    server = authority.issue(
        commonName=_shortened(f"Reverse proxy {place.server}"),
        names=[place.server, place.enroll],
        server=True,
        client=False,
        lifetime=_SERVER_LASTS,
        now=now,
    )
    issuer, issuing = Issuer.create(domain, _AUTHORITIES_LAST, now, _shortened(f"Client proxies of {domain}"))
    signer = Ed25519PrivateKey.generate()
    text = _MAPPING.format(
        address=json.dumps(place.address), server=json.dumps(place.server), hosts=json.dumps(targets)
    )
    head = _HEAD.format(
        audience=json.dumps(domain),
        version=int(now.timestamp()),
        issued=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        expires=f"{(now + _MAPPING_LASTS).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )
    signed = sign((head + text).encode(), signer)
    raw = signer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    token = Token.new(spkiHash(authority.key.public_key()), pinOf(raw))
    configuration = _CONFIGURATION.format(
        listen=json.dumps(place.listen),
        enroll=json.dumps(place.enroll),
        server=json.dumps(place.server),
        everybody=json.dumps(f"spiffe://{domain}/*"),
        targets=json.dumps(granted),
    )
    return {
        "reverse-proxy.toml": configuration.encode(),
        "server.pem": server.chain[0].public_bytes(Encoding.PEM),
        "server-key.pem": _pem(server.key),
        "server-ca.pem": authority.pem(),
        "proxies-ca.pem": issuer.certificate.public_bytes(Encoding.PEM),
        "proxies-ca-key.pem": _pem(issuing),
        "mapping.signed": signed,
        "token": f"{token}\n".encode(),
        "signer/mapping.toml": text.encode(),
        "signer/mapping-key.pem": _pem(signer),
        "signer/server-ca-key.pem": _pem(authority.key),
    }, token


def _shortened(name: str) -> str:
    return name[:64]


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _enter(folder: Path, token: Token, name: str, now: datetime) -> None:
    """
    Let the token be used.
    """
    store = Lineages(folder / "enrollment.sqlite", lambda: now)
    try:
        store.addToken(token, name, LONGEST_TOKEN)
    finally:
        store.close()


def _write(folder: Path, files: Mapping[str, bytes], finish: Callable[[Path], None]) -> None:
    """
    Write files into a folder that becomes what it is to be in one step, when all is in it.

    @param finish: Gets the folder before that.
    """
    if not folder.name:
        raise SetupProblem(f"{printable(str(folder))} is not to be made: give a folder in it, as in dmz")
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.mkdir(mode=0o700)
        (made / "signer").mkdir(mode=0o700)
        try:
            for name, data in files.items():
                with open(os.open(made / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            finish(made)
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as e:
        shown = printable(str(folder))
        if e.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise SetupProblem(f"{shown} exists, and nothing is overwritten: give another folder") from e
        raise SetupProblem(f"{shown} cannot be made ({e.strerror}): give another folder") from e
