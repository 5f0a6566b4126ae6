# -*- test-case-name: tests.wire.test_pac -*-
"""
The file that tells a browser which requests to send through the proxy: proxy auto-config, JavaScript with one function.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from tlsproxy.wire.connect import parseAuthority
from tlsproxy.wire.host import isLiteral

__all__ = ["PAC_TYPE", "mappedPacFile", "pacFile"]

PAC_TYPE = "application/x-ns-proxy-autoconfig"
"""
The content type that browsers want of such a file.
"""

# Browsers differ in whether an IPv6 host comes with its brackets.  There is no second choice after the proxy: without
# the tunnel the browser shall say so, and not go around it.
_TEXT = """\
function FindProxyForURL(url, host) {
    var scheme = url.substring(0, url.indexOf(":")).toLowerCase();
    if (scheme !== "https" && scheme !== "wss") {
        return "DIRECT";
    }
    if (/^((.+\\.)?localhost|127\\.\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}|::1|\\[::1\\])$/i.test(host)) {
        return "DIRECT";
    }
    return "%s %s";
}"""

# Hosts are compared as they are written, and never looked up.
_MAPPED = """\
var hosts = %s;
var ports = {http: 80, ws: 80, https: 443, wss: 443, ftp: 21};
function FindProxyForURL(url, host) {
    var parts = /^([a-z]+):\\/\\/(?:[^\\/?#@]*@)?(?:\\[[^\\]]*\\]|[^:\\/?#]*)(?::(\\d+))?/i.exec(url);
    var name = host.toLowerCase().replace(/^\\[|\\]$/g, "").replace(/\\.$/, "");
    var address = /^\\d+\\.\\d+\\.\\d+\\.\\d+$/.test(name) ? 4 : name.indexOf(":") < 0 ? 0 : 6;
    var mapped = /^(0*:)+ffff:/.test(name);
    for (var i = 0; parts && i < hosts.length; i++) {
        var one = hosts[i], port = +(parts[2] || ports[parts[1].toLowerCase()] || 0);
        if (port < one.low || port > one.high) {
            continue;
        }
        if (one.network ? mapped || address === 4 && isInNet(name, one.network, one.mask)
                : one.sixth ? address === 6 : new RegExp(one.name).test(name)) {
            return "PROXY %s";
        }
    }
    return "DIRECT";
}"""


def pacFile(authority: str, secure: bool) -> str:
    """
    Write the file for a proxy that makes tunnels: what is encrypted end to end goes through it, and all else, and what
    the browser asks of its own machine, goes direct.

    @param authority: The proxy as the browser named it in the Host field: C{host}, C{host:port}, C{[v6]} or
        C{[v6]:port}.  The port left out is 443, or 80 without TLS.
    @param secure: Whether the browser has to speak TLS to the proxy.
    @return: The file's text, without a newline at its end.
    @raise ValueError: The authority is something else, and so has no place in a script.
    """
    host, port = parseAuthority(authority, "the proxy's own address")
    if port is None:
        port = 443 if secure else 80
    return _TEXT % ("HTTPS" if secure else "PROXY", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def mappedPacFile(
    authority: str, hosts: Sequence[tuple[str, IPv4Network | IPv6Network | None, tuple[int, int]]]
) -> str:
    """
    Write the file for a proxy that some hosts have to be reached through: for these there is no other way, and all else
    goes direct.

    Browsers cannot tell networks of IPv6 apart, so with one of them all addresses of IPv6 go through the proxy; and so,
    with one of IPv4, do all addresses of IPv4 that are written as IPv6.

    @param authority: As for L{pacFile}.
    @param hosts: Patterns, as of L{tlsproxy.wire.network.parseNamePattern}, or networks, and the first and the last
        port of each.
    @return: The file's text, without a newline at its end.
    @raise ValueError: The authority is something else, and so has no place in a script; or it is no name of the
        browser's own machine.
    """
    host, port = parseAuthority(authority, "the proxy's own address")
    # A web page may have its own name lead here (DNS rebinding), and would learn the hosts.
    if not (isLiteral(host) and ip_address(host).is_loopback) and host.rpartition(".")[2] != "localhost":
        raise ValueError("this file is to be had at localhost, or at an address of loopback, and at no other name")
    listed = json.dumps([_listed(*one) for one in hosts])
    return _MAPPED % (listed, f"[{host}]:{port or 80}" if ":" in host else f"{host}:{port or 80}")


def _listed(
    pattern: str, network: IPv4Network | IPv6Network | None, ports: tuple[int, int]
) -> dict[str, str | int | bool]:
    bounds = {"low": ports[0], "high": ports[1]}
    if isinstance(network, IPv4Network):
        return {"network": str(network.network_address), "mask": str(network.netmask), **bounds}
    if network is not None:
        return {"sixth": True, **bounds}
    stars, dot, rest = pattern.partition(".")
    if pattern == "*":
        name = "."
    elif dot and stars in ("*", "**"):
        name = ("^[^.]+" if stars == "*" else "^.+") + re.escape(f".{rest}") + "$"
    else:
        name = f"^{re.escape(pattern)}$"
    return {"name": name, **bounds}
