"""
How Sphinx makes the pages of this folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from attrs import fields
from sphinx.application import Sphinx

from tlsproxy import __version__
from tlsproxy.enrolltables import EnrollSettings
from tlsproxy.granttables import GrantSettings
from tlsproxy.installed import Installed
from tlsproxy.route import Limits
from tlsproxy.settings import OPTIONS, Option, ProxySettings, RuleSettings, written
from tlsproxy.tls.explain import ALERTS
from tlsproxy.tls.failures import CERTIFICATES, NO_CERTIFICATE, NO_TLS, REASONS, REFUSALS, Trouble
from tlsproxy.tls.policy import HostPolicy, snake

project = "tlsproxy"
author = "tlsproxy contributors"
copyright = author
version = release = __version__.public()

exclude_patterns = ["_build", "apidocs"]
nitpicky = True
html_theme = "alabaster"
html_theme_options = {"description": "TLS proxies you can program", "page_width": "1100px"}


def plain(text: str) -> str:
    """
    Have a text stand as it is, stars included.
    """
    return text.replace("*", r"\*")


def writeOptions(app: Sphinx) -> None:
    """
    Write the tables of all options, from what the command line and the files are read with.
    """
    lines: list[str] = []

    def table(heading: str, rows: Iterable[tuple[str, str, str]]) -> None:
        lines.extend([f".. list-table:: {heading}", "   :header-rows: 1", "   :widths: 28 27 45", ""])
        for first, *rest in (("Key", "Option", "What it is for, and its default"), *rows):
            lines.extend([f"   * - {first}", *(f"     - {cell}" for cell in rest)])
        lines.append("")

    def row(name: str, option: Option) -> tuple[str, str, str]:
        default = f"; default: ``{option.default}``" if option.default else ""
        return f"``{option.path[-1]}``", f"``--{name} {option.metavar}``", plain(option.help) + default

    rules = [(f"``{snake(one.name)}``", "–", plain(one.metadata["help"])) for one in fields(RuleSettings)]
    grants = [(f"``{snake(one.name)}``", "–", plain(one.metadata["help"])) for one in fields(GrantSettings)]
    enroll = [
        (f"``{snake(one.name)}``", "–", plain(one.metadata["help"]) + (f"; default: ``{it}``" if it else ""))
        for one in fields(EnrollSettings)
        for it in [written(one.default)]
    ]
    hosts = [(f"``{snake(one.name)}``", "–", plain(one.metadata["help"])) for one in fields(HostPolicy)]
    groups = groupby(OPTIONS.items(), lambda item: (item[1].heading, item[1].path[:-1]))
    for (heading, path), options in groups:
        section = f"[[{path[0]}]]" if path == ("route",) else f"[{'.'.join(path)}]"
        table(f"{heading}: ``{section}``", [row(name, option) for name, option in options])
        if path == ("route", "tls"):
            table("Clients that ask for some names: ``[[route.tls.host]]``", hosts)
        if path == ("route",):
            table("A rule, of which the first that matches decides: ``[[route.rule]]``", rules)
            table("Who may reach what (sequential-server): ``[[route.grant]]``", grants)
            table("Where client proxies enroll (sequential-server): ``[route.enroll]``", enroll)
    bare = [one for one in fields(ProxySettings) if one.metadata.get("option") == ""]
    keys = [(f"``{snake(one.name)}``", "–", one.metadata["help"]) for one in bare]
    table("The process, in files only: ``[proxy]``", keys)
    limits = [
        (f"``{name}``", f"``--limit {name}=SECONDS``", f"{limit.metadata['help']}; default: {limit.default:g}")
        for limit in fields(Limits)
        for name in [snake(limit.name)]
    ]
    table("Deadlines in seconds, 0 for none: ``[route.limits]``", limits)
    installed = Installed()
    for name in installed.names:
        # Those of other packages are no part of these pages.
        if installed.module(name) == "twisted.plugins.tlsproxy_plugin":
            handler = installed.find(name)
            rows = []
            for one in handler.keys:
                default = "; required" if one.required else f"; default: ``{one.default}``" if one.default else ""
                told = f"``--handler {name}:{one.key}={one.metavar}``"
                rows.append((f"``{one.key}``", told, plain(one.help) + default))
            table(f"Handler ``{name}``, in ``[[route.handler]]``: {plain(handler.help)}", rows)
    target = Path(app.srcdir) / "options.inc"
    text = "\n".join(lines)
    if not target.exists() or target.read_text("utf-8") != text:
        target.write_text(text, "utf-8")


def ofBoth(trouble: Trouble) -> str:
    """
    Tell what would mend something on the far side, which may be a reverse proxy.
    """
    told = "" if trouble.proxy is None else f"of a reverse proxy: {trouble.proxy}"
    return ". ".join(one[:1].upper() + one[1:] if told else one for one in (trouble.far, told) if one)


def writeFailures(app: Sphinx) -> None:
    """
    Write the table of what makes handshakes fail, from what the log tells it by.
    """
    told = [
        (f"{{}} broke TLS off (alert {ALERTS[number]} received): {one.words}", one) for number, one in REFUSALS.items()
    ]
    told += [(f"{{}}'s certificate is refused: {problem}", one) for problem, one in CERTIFICATES.items()]
    told += [(f"{{}} {one.words}", one) for one in (NO_CERTIFICATE, NO_TLS)]
    told += [(f"TLS with {{}} failed: {one.words}", one) for one in dict.fromkeys(REASONS.values())]
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 40 30 30", ""]
    for first, near, far in (
        ("What is told", "of the client", "of the upstream"),
        *((words.format("…"), one.near, ofBoth(one)) for words, one in told),
    ):
        lines.extend([f"   * - {plain(first)}", f"     - {near or '–'}", f"     - {far or '–'}"])
    (Path(app.srcdir) / "failures.inc").write_text("\n".join([*lines, ""]), "utf-8")


def setup(app: Sphinx) -> None:
    """
    Have the tables written before pages are read.
    """
    app.connect("builder-inited", writeOptions)
    app.connect("builder-inited", writeFailures)
