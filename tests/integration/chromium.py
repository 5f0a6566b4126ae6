# -*- test-case-name: tests.integration.test_connect_chromium -*-
"""
Chromium without a window, which trusts an authority of the test and shows what it has loaded.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.integration.namespace import NamespaceTestCase
from tests.peers import requirePeer

PATIENCE = 40.0
"""Seconds after which a page is held to be missing."""

_POLICIES = "/etc/chromium"

_OWN = '<div id="main-frame-error"'
"""What is in the page by which the browser says itself that it could not load one; not all of its releases print it."""

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def overlay(case: NamespaceTestCase, places: Mapping[str, Path]) -> list[str]:
    """
    Have a program in the test's network find other files or folders than everybody else does.

    @param places: By the path where it finds them; a path that does not exist is left alone.
    @return: The start of its command line.
    """
    steps = [
        f"{{ [ ! -e {shlex.quote(at)} ] || mount --bind {shlex.quote(str(own))} {shlex.quote(at)}; }}"
        for at, own in places.items()
    ]
    script = " && ".join([*steps, 'exec "$@"'])
    requirePeer("mount")
    return [*case.inside, requirePeer("unshare"), "--mount", "--", "/bin/sh", "-c", script, "sh"]


def hosts(case: NamespaceTestCase, known: Mapping[str, str]) -> list[str]:
    """
    Have a program in the test's network know some names, and no others.

    @param known: The address of each name.
    @return: The start of its command line.
    """
    return overlay(case, _tables(case, known))


def _tables(case: NamespaceTestCase, known: Mapping[str, str]) -> dict[str, Path]:
    table, order = case.folder / "hosts", case.folder / "nsswitch.conf"
    table.write_text("".join(f"{address} {name}\n" for name, address in known.items()))
    order.write_text("hosts: files\n")
    return {"/etc/hosts": table, "/etc/nsswitch.conf": order}


class Chromium:
    """
    A browser in the network of a test, new each time that it shows a page.
    """

    def __init__(self, case: NamespaceTestCase, ca: Path) -> None:
        """
        @param ca: Whom it trusts.
        """
        self._case = case
        self._program = requirePeer("chromium")
        self._home = case.folder / "home"
        self._prefix: Sequence[str] = case.inside
        self._places: dict[str, Path] = {}
        self._database = self._home / ".pki" / "nssdb"
        self._database.mkdir(parents=True)
        self._started = 0
        self._chosen: list[str] = []
        self._nss("certutil", "-N", "--empty-password")
        self.trust(ca)

    def _nss(self, tool: str, *arguments: str) -> None:
        self._case.run_([tool, *arguments, "-d", f"sql:{self._database}"])

    def trust(self, ca: Path) -> None:
        """
        Have it trust an authority.
        """
        self._nss("certutil", "-A", "-t", "C,,", "-n", ca.stem, "-i", str(ca))

    def show(self, certificate: Path, url: str) -> None:
        """
        Have it show a certificate to a server, or to a proxy, without asking anybody.  Of several it takes one of an
        authority that the server names.

        @param certificate: A file with chain and key.
        @param url: The server, or the proxy.
        """
        bundle = self._home / "client.p12"
        self._case.run_(
            ["openssl", "pkcs12", "-export", "-in", str(certificate), "-out", str(bundle), "-passout=pass:"]
        )
        self._nss("pk12util", "-i", str(bundle), "-W", "")
        self._chosen.append(json.dumps({"pattern": url, "filter": {}}))
        self.manage("test.json", json.dumps({"AutoSelectCertificateForUrls": self._chosen}))

    def manage(self, name: str, policies: str) -> None:
        """
        Have it managed by policies of the system.

        @param name: What their file is called.
        """
        managed = self._home / "policies" / "managed"
        managed.mkdir(parents=True, exist_ok=True)
        (managed / name).write_text(policies)
        self._see({_POLICIES: self._home})

    def know(self, known: Mapping[str, str]) -> None:
        """
        Have it know some names, and no others.

        @param known: The address of each name.
        """
        self._see(_tables(self._case, known))

    def _see(self, places: Mapping[str, Path]) -> None:
        self._places |= places
        self._prefix = overlay(self._case, self._places)

    def page(self, url: str, *flags: str) -> str:
        """
        Load a page.

        @return: The document as HTML; nothing where the page could not be loaded.
        """
        self._started += 1
        profile = self._home / f"profile{self._started}"
        command = [*self._prefix, self._program, *_FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", url]
        log = self._case.folder / f"chromium{self._started}.log"
        environment = {**os.environ, "HOME": str(self._home)}
        with log.open("wb") as errors, (profile.with_suffix(".html")).open("w+b") as output:
            process = subprocess.Popen(
                command,
                cwd=self._case.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            try:
                status = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"no page within {PATIENCE:g} s:\n{_tail(log)}") from None
            finally:
                # What it has started may outlive it.
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
        if status:
            raise AssertionError(f"the browser ended with status {status}:\n{_tail(log)}")
        return "" if _OWN in text else text


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-3000:]
