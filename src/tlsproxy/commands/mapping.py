# -*- test-case-name: tests.commands.test_mapping -*-
"""
C{tlsproxy mapping}: the key that signs mappings, and the signing, away from the reverse proxy.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from tlsproxy.commands.parser import Commands, duration
from tlsproxy.errors import ConfigurationError
from tlsproxy.mappingfile import checkMapping, checkSigned
from tlsproxy.signedmapping import LONGEST, MappingFacts, MappingProblem, readFacts, shownTime
from tlsproxy.tls.authorization import parsePin
from tlsproxy.tls.files import readFile
from tlsproxy.tls.pem import PEMFile, readPEM
from tlsproxy.tls.printing import printable
from tlsproxy.tls.signatures import isSigned, pinOf, sign
from tlsproxy.wholefiles import createFile, replaceFile

__all__ = ["add"]

_RAW: Final = re.compile(r"[A-Za-z0-9+/]{43}=")


def add(commands: Commands) -> None:
    """
    Add the command.
    """
    parser = commands.add_parser(
        "mapping", help="sign the mapping of client proxies, make the key for that, or verify one that is signed"
    )
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    key = actions.add_parser(
        "key",
        help="make a key that signs mappings",
        description="Write a new Ed25519 key, as PKCS#8 in PEM, and print its public key, and the pin of that.  Keep "
        "the file away from the reverse proxy.",
    )
    key.add_argument("file", metavar="FILE", type=Path)
    key.set_defaults(run=_key)
    signs = actions.add_parser(
        "sign",
        help="check a mapping, and sign it",
        description="Check a mapping, say whom it is for and until when, and sign all that.",
    )
    signs.add_argument("file", metavar="FILE", help="the mapping, not signed")
    signs.add_argument("--key", metavar="KEY", required=True, help="file with the key that signs")
    signs.add_argument(
        "--audience",
        metavar="DOMAIN",
        required=True,
        help="domain of the client proxies' identities, as in spiffe://DOMAIN/NAME",
    )
    signs.add_argument(
        "--version", metavar="N", type=int, help="higher than those before; default: the time, in seconds since 1970"
    )
    signs.add_argument("--expires", metavar="TIME", default="30d", help="from now, as in 12h or 30d, the default")
    signs.add_argument(
        "--next-key", metavar="KEY", help="public key that may sign later mappings, too: base64, or a PEM file"
    )
    signs.add_argument("--out", metavar="FILE", type=Path, help="where to write it; default: standard output")
    signs.set_defaults(run=_sign)
    verify = actions.add_parser(
        "verify",
        help="verify a mapping that is signed",
        description="Verify a signed mapping, and print what it says of itself.  Exits with 0 if it is good now.",
    )
    verify.add_argument("file", metavar="FILE", help="the signed mapping")
    who = verify.add_mutually_exclusive_group()
    who.add_argument("--pin", metavar="PIN", help="pin of the key that has to have signed it")
    who.add_argument("--signer", metavar="KEY", help="that key itself: base64, or a PEM file")
    verify.add_argument("--audience", metavar="DOMAIN", help="whom it has to be for")
    verify.set_defaults(run=_verify)


class _Wrong(Exception):
    """
    What was asked for cannot be done: one sentence.
    """


def _told(problem: Exception) -> int:
    problems = problem.problems if isinstance(problem, ConfigurationError) else [problem]
    for one in problems:
        print(f"tlsproxy: {one}", file=sys.stderr)
    return 1


def _key(arguments: argparse.Namespace) -> int:
    key = Ed25519PrivateKey.generate()
    try:
        createFile(arguments.file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    except FileExistsError:
        return _told(_Wrong(f"{printable(str(arguments.file))} exists already: give another file"))
    except (OSError, ValueError) as e:
        return _told(_unwritten(arguments.file, e))
    _printKey("public key", _public(key))
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    now = datetime.now(UTC).replace(microsecond=0)
    out: Path | None = arguments.out
    warnings: list[str] = []
    try:
        key = _signingKey(arguments.key, warnings)
        head = _head(arguments, now)
        source = readFile(arguments.file, "the mapping").data
        if isSigned(source):
            raise _Wrong(f"{printable(arguments.file)} is signed already: give the mapping as it was before")
        checkMapping(arguments.file, source, warnings)
        data = _signed(arguments.file, source, head, key)
        facts = readFacts(data)
        if out is not None:
            warnings += _follows(facts, out, arguments.file)
            replaceFile(out, data, 0o644)
    except (_Wrong, ConfigurationError) as e:
        return _told(e)
    except OSError as e:
        return _told(_unwritten(arguments.out, e))
    except ValueError as e:
        return _told(_Wrong(f"the mapping cannot be signed: {e}"))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if out is None:
        sys.stdout.write(data.decode())
    print(f"version {facts.version}, until {shownTime(facts.expires)}", file=sys.stderr)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    warnings: list[str] = []
    try:
        pin = parsePin(arguments.pin) if arguments.pin is not None else None
        if arguments.signer is not None:
            pin = pinOf(_publicKey(arguments.signer))
        facts = checkSigned(arguments.file, warnings)
    except (_Wrong, ConfigurationError, ValueError) as e:
        return _told(e)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"audience:   {facts.audience}\nversion:    {facts.version}")
    print(f"issued:     {shownTime(facts.issued)}\nexpires:    {shownTime(facts.expires)}")
    _printKey("signed by", facts.signer)
    if facts.nextKey is not None:
        _printKey("next key", facts.nextKey)
    problems = _unwanted(facts, pin, arguments.audience)
    for problem in problems:
        print(f"tlsproxy: {printable(arguments.file)}: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _unwanted(facts: MappingFacts, pin: bytes | None, audience: str | None) -> list[str]:
    """
    Say why one that is whole is not wanted.
    """
    now = datetime.now(UTC)
    problems = []
    if pin is not None and pinOf(facts.signer) != pin:
        problems.append("it is signed by another key than the one that was given")
    if audience is not None and audience != facts.audience:
        problems.append(f"it is for {facts.audience}, and not for {audience}")
    if facts.expires <= now:
        problems.append(f"it has expired on {shownTime(facts.expires)}")
    if facts.issued > now + timedelta(hours=1):
        problems.append(f"it was issued in the future, on {shownTime(facts.issued)}: compare the clocks")
    return problems


def _printKey(what: str, public: bytes) -> None:
    print(f"{what + ':':<11} {b64encode(public).decode()}\n{'pin:':<11} sha256/{b64encode(pinOf(public)).decode()}")


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _unwritten(file: Path, problem: Exception) -> _Wrong:
    return _Wrong(f"{printable(str(file))} cannot be written ({getattr(problem, 'strerror', None) or problem})")


def _signingKey(file: str, warnings: list[str]) -> Ed25519PrivateKey:
    try:
        read = readPEM(file, "private key")
        key = read.privateKey()
    except ValueError as e:
        raise _Wrong(str(e)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _Wrong(f"{read.name} holds no Ed25519 key: make one by tlsproxy mapping key FILE")
    exposed = read.file.openToOthers()
    warnings += [exposed] if exposed else []
    return key


def _publicKey(given: str) -> bytes:
    """
    Read a public key.

    @param given: The key in base64, or a file with it, or with the private key.
    """
    if _RAW.fullmatch(given) and b64encode(b64decode(given)).decode() == given:
        return b64decode(given)
    try:
        read = readPEM(given, "public key, if this is none in base64 itself")
        isPublic = any(one.label == "PUBLIC KEY" for one in read.blocks)
        if not read.blocks:
            raise _Wrong(f"{read.name} holds no key as PEM: give the public key, as a PEM file or in base64")
        key: object = _decoded(read) if isPublic else read.privateKey("give the public key")
    except ValueError as e:
        raise _Wrong(str(e)) from None
    if isinstance(key, Ed25519PrivateKey):
        key = key.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise _Wrong(f"{read.name} holds no Ed25519 key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _decoded(read: PEMFile) -> object:
    try:
        return load_pem_public_key(read.file.data)
    except (ValueError, UnsupportedAlgorithm):
        raise _Wrong(f"{read.name} is broken, as its public key cannot be decoded: copy the file again") from None


def _head(arguments: argparse.Namespace, now: datetime) -> str:
    """
    Write the table in front.
    """
    try:
        lasts = duration(arguments.expires)
    except ValueError as e:
        raise _Wrong(f"{arguments.expires!r} is no time to expire in: {e}") from None
    if lasts > LONGEST:
        raise _Wrong(f"a mapping lasts {LONGEST.days} days at most")
    version = int(now.timestamp()) if arguments.version is None else arguments.version
    if not re.fullmatch(r"[-.a-z0-9]+", arguments.audience):
        raise _Wrong(f"{arguments.audience!r} is no domain in lower case")
    lines = [
        "[mapping]",
        f'audience = "{arguments.audience}"',
        f"version = {version}",
        f"issued = {now:%Y-%m-%dT%H:%M:%SZ}",
        f"expires = {now + lasts:%Y-%m-%dT%H:%M:%SZ}",
    ]
    if arguments.next_key is not None:
        lines.append(f'next_key = "{b64encode(_publicKey(arguments.next_key)).decode()}"')
    return "\n".join(lines) + "\n\n"


def _signed(file: str, data: bytes, head: str, key: Ed25519PrivateKey) -> bytes:
    """
    Put the table in front, and sign the whole.
    """
    # As it is read by everybody: other programs know neither marks of byte order nor other line ends.
    body = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").rstrip("\n") + "\n"
    whole = tomllib.loads(head + body)
    del whole["mapping"]
    if whole != tomllib.loads(body):
        raise _Wrong(
            f"{printable(file)} has keys before its first table: write all under [[reverse_proxy]] and [[map]]"
        )
    return sign((head + body).encode(), key)


def _follows(facts: MappingFacts, out: Path, source: str) -> list[str]:
    """
    See that client proxies that have the mapping which is there now will take the new one.

    @return: What is doubtful.
    """
    try:
        if out.exists() and not out.is_file():
            raise _Wrong(f"{printable(str(out))} is no file: leave --out out for the standard output")
        if out.exists() and out.samefile(source):
            raise _Wrong(f"{printable(str(out))} is the mapping itself: give another file for the signed one")
        old = readFacts(out.read_bytes())
    except (OSError, MappingProblem):
        return []
    if facts.version <= old.version:
        raise _Wrong(f"{printable(str(out))} has version {old.version} already: give a higher --version")
    if facts.signer not in (old.signer, old.nextKey):
        return [
            f"client proxies that have version {old.version} will not take this one: it names another key; sign one "
            "with the old key and --next-key first"
        ]
    if facts.audience != old.audience:
        return [f"the mapping that was there is for {old.audience}"]
    return []
