# -*- test-case-name: tests.test_certificateoptions -*-
"""
Several certificates on a command line, each with what is given of it: C{--cert}, C{--key}, C{--cert-password-file}.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlsproxy.settings import BESIDE_CERT
from tlsproxy.tls.sources import NSS_PREFIX

__all__ = ["pairCertificates"]


def pairCertificates(order: Sequence[tuple[str, str]], prefix: str) -> list[dict[str, str] | str]:
    """
    Bring certificates into the form that TOML has for them.  What belongs to a certificate stands behind it; it stands
    before it where no certificate stands before that, or where that has its own already.

    @param order: The options and their values, in the order in which they were given.
    @param prefix: What the names of the options of this side begin with.
    @raise ValueError: Something belongs to no certificate, or not beside what else belongs to it.
    """
    found: list[dict[str, str]] = []
    waiting: dict[str, tuple[str, str]] = {}
    for name, value in order:
        key = name.removeprefix(prefix).replace("-", "_")
        if not name.startswith(prefix) or key not in ("cert", *BESIDE_CERT):
            continue
        if key == "cert":
            found.append({key: value, **{other: spare for other, (_, spare) in waiting.items()}})
            waiting.clear()
        elif found and key not in found[-1]:
            found[-1][key] = value
        elif key in waiting:
            raise ValueError(f"--{name} {value}: it belongs to no certificate, as another stands beside it")
        else:
            waiting[key] = name, value
    for name, value in waiting.values():
        raise ValueError(f"--{name} {value}: it belongs to no certificate: give that, too")
    return [_written(one, prefix) for one in found]


def _written(one: dict[str, str], prefix: str) -> dict[str, str] | str:
    """
    Write one certificate as TOML does.
    """
    match one:
        case {"cert": cert, "key": _, "cert_password_file": _}:
            raise ValueError(f"--{prefix}cert {cert}: it has a key and a password: a PKCS#12 file has no key beside it")
        case {"cert": cert, "key": key}:
            return {"chain": cert, "key": key}
        case {"cert": cert, "cert_password_file": password}:
            if cert.startswith(NSS_PREFIX):
                return {"nss": cert.removeprefix(NSS_PREFIX), "password_file": password}
            return {"pkcs12": cert, "password_file": password}
    return one["cert"]
