# -*- test-case-name: tests.integration -*-
"""
A proxy whose status is told, and that has settings of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.integration.running import IntegrationTestCase, Proxy, toml

__all__ = ["WatchedProxyCase"]


class WatchedProxyCase(IntegrationTestCase):
    """
    A test that asks a proxy how it is.
    """

    def watched(self, *routes: Mapping[str, Any], prefix: Sequence[str] = (), **settings: Any) -> Proxy:
        """
        Start the proxy.

        @param routes: The keys of each route, as for C{proxy}.
        @param prefix: The start of the command line.
        @param settings: The keys of C{[proxy]}.
        """
        whole = [{"name": route["mode"], "listen": "127.0.0.1:0", **route} for route in routes]
        lines = [f"{key} = {json.dumps(value)}" for key, value in {"status": "127.0.0.1:0", **settings}.items()]
        config = self.folder / "watched.toml"
        config.write_text("\n".join(["[proxy]", *lines, toml(whole)]), "utf-8")
        proxy = Proxy(self, self.folder, config, len(whole), prefix, self.program)
        proxy.waitFor("status of the proxy is told on")
        return proxy

    def at(self, proxy: Proxy) -> str:
        """
        Tell where the status is.
        """
        port = proxy.waitFor(r"status of the proxy is told on .*:(\d+)$")[1]
        return f"http://127.0.0.1:{port}"

    def ask(self, proxy: Proxy, path: str, *more: str) -> tuple[int, str]:
        """
        Ask for a page with curl.

        @param more: Further arguments.
        @return: The status and the body.
        """
        done = self.run_(["curl", "-sS", "-m", "15", "-w", "\n%{http_code}", *more, self.at(proxy) + path])
        body, _, code = done.stdout.decode().rpartition("\n")
        return int(code), body

    def state(self, proxy: Proxy) -> Any:
        """
        Tell all that the proxy tells.
        """
        return json.loads(self.ask(proxy, "/status.json")[1])

    def reached(self, proxy: Proxy) -> dict[str, int]:
        """
        Tell how often each limit of the first route was reached.
        """
        reached: dict[str, int] = self.state(proxy)["routes"][0]["limits_reached"]
        return reached

    def warnings(self, proxy: Proxy) -> list[str]:
        """
        What the proxy has warned of.
        """
        return re.findall(r"#warn\] (.*)$", proxy.text(), re.MULTILINE)
