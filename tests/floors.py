# -*- test-case-name: tests.test_floors -*-
"""
Which floors the source has, and the rules they stand by.

The source stands on five floors, and a module imports from its own floor or from one below it.

  - 0, words: contracts, errors, and the grammars of the wire; bytes in, values out.
  - 1, TLS: policies, contexts, certificates.
  - 2, moving: the two ends of a connection, and what joins them.
  - 3, deciding: routes, sessions, modes.
  - 4, doors: the command line, the configuration, the service.

Every module has its line in L{FLOORS}. Only the source text is read here, nothing is imported, so an import inside a
function counts like any other.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import attrs
from OpenSSL import SSL, crypto

SOURCE = Path(__file__).resolve().parent.parent / "src"

# A name ending in ".*" stands for a package and all in it.
FLOORS: Mapping[str, int] = {
    "tlsproxy": 0,
    "tlsproxy._version": 0,
    "tlsproxy.errors": 0,
    "tlsproxy.given": 0,
    "tlsproxy.interfaces": 0,
    "tlsproxy.wire.*": 0,
    "tlsproxy.tls.*": 1,
    "tlsproxy.accepting": 2,
    "tlsproxy.address": 2,
    "tlsproxy.application": 2,
    "tlsproxy.asking": 2,
    "tlsproxy.borrowed": 2,
    "tlsproxy.datagram.*": 2,
    "tlsproxy.deadlines": 2,
    "tlsproxy.descriptors": 2,
    "tlsproxy.chain": 2,
    "tlsproxy.connecting": 2,
    "tlsproxy.dial": 2,
    "tlsproxy.direction": 2,
    "tlsproxy.end": 2,
    "tlsproxy.eyeballs": 2,
    "tlsproxy.flow": 2,
    "tlsproxy.foreign": 2,
    "tlsproxy.handled": 2,
    "tlsproxy.hostport": 2,
    "tlsproxy.inherited": 2,
    "tlsproxy.loopback": 2,
    "tlsproxy.loopbacktls": 2,
    "tlsproxy.names": 2,
    "tlsproxy.peeruser": 2,
    "tlsproxy.plain": 2,
    "tlsproxy.recordpipe": 2,
    "tlsproxy.relay": 2,
    "tlsproxy.selfconnection": 2,
    "tlsproxy.splice": 2,
    "tlsproxy.upstreamproxy": 2,
    "tlsproxy.stocktls": 2,
    "tlsproxy.wholefiles": 2,
    "tlsproxy.admission": 3,
    "tlsproxy.downgrade": 3,
    "tlsproxy.following": 3,
    "tlsproxy.balancers": 3,
    "tlsproxy.enrolling.*": 3,
    "tlsproxy.factory": 3,
    "tlsproxy.grants": 3,
    "tlsproxy.judging": 3,
    "tlsproxy.keeper": 3,
    "tlsproxy.lifetimes": 3,
    "tlsproxy.handler": 3,
    "tlsproxy.handlers.*": 3,
    "tlsproxy.mapping": 3,
    "tlsproxy.opening": 3,
    "tlsproxy.parting": 3,
    "tlsproxy.passwords": 3,
    "tlsproxy.patterns.*": 3,
    "tlsproxy.plugin": 3,
    "tlsproxy.repeats": 2,
    "tlsproxy.route": 3,
    "tlsproxy.rules": 3,
    "tlsproxy.sentheader": 3,
    "tlsproxy.session": 3,
    "tlsproxy.sessionline": 3,
    "tlsproxy.signedmapping": 3,
    "tlsproxy.side": 3,
    "tlsproxy.steps": 3,
    "tlsproxy.targets": 3,
    "tlsproxy.tunnels": 3,
    "tlsproxy.browserpolicies": 4,
    "tlsproxy.certificateoptions": 4,
    "tlsproxy.cli": 4,
    "tlsproxy.commands.*": 4,
    "tlsproxy.clientroutes": 4,
    "tlsproxy.clienttables": 4,
    "tlsproxy.config": 4,
    "tlsproxy.datagramdemo": 4,
    "tlsproxy.datagramtables": 4,
    "tlsproxy.daemon": 4,
    "tlsproxy.demo": 4,
    "tlsproxy.draining": 4,
    "tlsproxy.endpoints": 4,
    "tlsproxy.endpointstrings": 4,
    "tlsproxy.entrance": 4,
    "tlsproxy.gate": 4,
    "tlsproxy.enrolltables": 4,
    "tlsproxy.granttables": 4,
    "tlsproxy.handleroptions": 4,
    "tlsproxy.handlertables": 4,
    "tlsproxy.installed": 4,
    "tlsproxy.keeping": 4,
    "tlsproxy.mappingfile": 4,
    "tlsproxy.listening": 4,
    "tlsproxy.modekeys": 4,
    "tlsproxy.sequentialtables": 4,
    "tlsproxy.tlstables": 4,
    "tlsproxy.tunneltables": 4,
    "tlsproxy.reloading": 4,
    "tlsproxy.renewals": 4,
    "tlsproxy.sdnotify": 4,
    "tlsproxy.service": 4,
    "tlsproxy.settings": 4,
    "tlsproxy.status.*": 4,
    "tlsproxy.summaries": 4,
    "tlsproxy.tap": 4,
    "tlsproxy.testing.*": 4,
    "tlsproxy.logs.*": 4,
    "tlsproxy.reaching": 4,
    "tlsproxy.proxytables": 4,
    "tlsproxy.reading": 4,
    "tlsproxy.routefile": 4,
    "tlsproxy.routes": 4,
    "tlsproxy.ruletables": 4,
    "tlsproxy.tomlfile": 4,
    "tlsproxy.tomllines": 4,
    "tlsproxy.values": 4,
    "tlsproxy.watching": 4,
}

# What floors 0 and 1 may have of twisted.internet: words, and nothing that moves a byte.
QUIET_INTERNET = frozenset(f"twisted.internet.{name}" for name in ("address", "defer", "error", "interfaces"))

# The standard library's own ways to wait for a socket.
WAITING = ("asyncio", "select", "selectors", "socketserver")

# What only a program's outermost floor has a say in.
DOORS_ONLY = ("signal", "twisted.application", "twisted.plugin.getPlugins", "twisted.python.usage")

# The modules that know the insides of pyOpenSSL, and where those are found.
NATIVE = ("tlsproxy.tls.datagrams", "tlsproxy.tls.native", "tlsproxy.tls.peers")
PRIVATE_BINDINGS = ("OpenSSL._util", "_cffi_backend", "cryptography.hazmat.bindings")


@attrs.frozen
class Import:
    """
    One name that a module imports.
    """

    name: str
    """
    The absolute dotted name: a module's, or that of something inside one.
    """

    line: int
    """
    Where it stands.
    """

    deferred: bool
    """
    Whether it happens inside a function, and so not while the module is being imported.
    """


@attrs.frozen
class Module:
    """
    The source text of one module.
    """

    name: str
    """
    The absolute dotted name.
    """

    isPackage: bool
    """
    Whether it is the C{__init__} of a package.
    """

    tree: ast.Module
    """
    The parsed text.
    """

    def imports(self) -> Iterator[Import]:
        """
        Find all that is imported, wherever it stands.

        @return: one item for each name.
        """
        package = self.name if self.isPackage else self.name.rpartition(".")[0]
        remaining: list[tuple[ast.AST, bool]] = [(self.tree, False)]
        while remaining:
            node, deferred = remaining.pop()
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno, deferred)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = package.split(".")
                    parents = parents[: len(parents) - node.level + 1]
                    base = ".".join([*parents, *([base] if base else [])])
                for alias in node.names:
                    yield Import(f"{base}.{alias.name}", node.lineno, deferred)
            deferred = deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            remaining.extend((child, deferred) for child in ast.iter_child_nodes(node))


def parse(name: str, text: str, isPackage: bool = False) -> Module:
    """
    Parse one module.

    @param name: the absolute dotted name.
    @param text: the source.
    @param isPackage: whether this is the C{__init__} of a package.
    @return: the module.
    """
    return Module(name, isPackage, ast.parse(text, name))


def readSource() -> dict[str, Module]:
    """
    Parse all modules of tlsproxy.

    @return: the modules by their names.
    """
    found = {}
    for path in sorted((SOURCE / "tlsproxy").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        isPackage = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if isPackage else parts)
        found[name] = parse(name, path.read_text("utf-8"), isPackage)
    return found


def within(name: str, owners: Iterable[str]) -> bool:
    """
    Say whether a dotted name is one of some others, or inside one of them.

    @param name: the dotted name.
    @param owners: the others.
    @return: whether it is.
    """
    return any(name == owner or name.startswith(f"{owner}.") for owner in owners)


def floorOf(name: str) -> int | None:
    """
    Look a module up in L{FLOORS}.

    @param name: the module's dotted name.
    @return: its floor, or L{None} where the table does not know it.
    """
    if name in FLOORS:
        return FLOORS[name]
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        floor = FLOORS.get(".".join(parts[:length]) + ".*")
        if floor is not None:
            return floor
    return None


def moduleOf(name: str, modules: Mapping[str, Module]) -> str | None:
    """
    Tell which module an imported name comes from.

    @param name: the imported name.
    @param modules: all modules there are.
    @return: the longest leading part of it that is a module, or L{None} for a name from elsewhere.
    """
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def cyclesAmong(modules: Mapping[str, Module]) -> list[str]:
    """
    Find the modules that import themselves by way of others.

    @param modules: all modules there are.
    @return: the names, sorted.
    """
    reached = {
        module.name: {target for each in module.imports() if (target := moduleOf(each.name, modules)) is not None}
        for module in modules.values()
    }
    for name in reached:
        # A package hands out what its own modules hold; that is no import of the package by itself.
        reached[name].discard(name)
    for via in reached:
        for targets in reached.values():
            if via in targets:
                targets |= reached[via]
    return sorted(name for name, targets in reached.items() if name in targets)


def upward(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    """
    Find a module's imports from floors above its own.

    @param module: the module.
    @param modules: all modules there are.
    @return: one complaint for each.
    """
    floor = floorOf(module.name)
    for each in module.imports():
        target = moduleOf(each.name, modules)
        if target is None:
            if within(each.name, ["tlsproxy"]):
                yield f"{module.name}:{each.line} imports {each.name}, which does not exist"
            continue
        above = floorOf(target)
        if floor is not None and above is not None and above > floor:
            yield f"{module.name}:{each.line} on floor {floor} imports {target} from floor {above}"


def loudImports(module: Module) -> Iterator[str]:
    """
    Find what a module of floor 0 or 1 imports of reactors and transports.

    @param module: the module.
    @return: one complaint for each.
    """
    if floorOf(module.name) not in (0, 1):
        return
    for each in module.imports():
        internet = within(each.name, ["twisted.internet"]) and not within(each.name, QUIET_INTERNET)
        if internet or within(each.name, WAITING):
            yield f"{module.name}:{each.line} imports {each.name}"


def reactorImports(module: Module) -> Iterator[str]:
    """
    Find imports of the global reactor that happen while the module is being imported.

    @param module: the module.
    @return: one complaint for each.
    """
    for each in module.imports():
        if within(each.name, ["twisted.internet.reactor"]) and not each.deferred:
            yield f"{module.name}:{each.line} imports the reactor"


def doorImports(module: Module) -> Iterator[str]:
    """
    Find what a module below floor 4 imports of the things that only a program decides on.

    @param module: the module.
    @return: one complaint for each.
    """
    if floorOf(module.name) == 4:
        return
    for each in module.imports():
        # The whole of a module reaches all that is in it.
        if within(each.name, DOORS_ONLY) or each.name == "twisted.plugin":
            yield f"{module.name}:{each.line} imports {each.name}"


def privateNames(*libraries: ModuleType) -> frozenset[str]:
    """
    Collect the private names of the classes that some modules define, the ones set on instances included.

    @param libraries: the modules.
    @return: the names, each with its leading underscore.
    """
    found = set()
    for library in libraries:
        for node in ast.walk(ast.parse(inspect.getsource(library))):
            if isinstance(node, ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                found.add(node.attr)
    found |= {"_ffi", "_lib"}
    return frozenset(name for name in found if name.startswith("_") and not name.endswith("__"))


PYOPENSSL_PRIVATE = privateNames(SSL, crypto)


def privateUses(module: Module) -> Iterator[str]:
    """
    Find where a module reaches into pyOpenSSL.

    Types are not known here, so a private name counts as pyOpenSSL's when pyOpenSSL has one of that name and it is
    taken from anything but C{self} or C{cls}.

    @param module: the module.
    @return: one complaint for each.
    """
    if module.name in NATIVE:
        return
    for each in module.imports():
        parts = each.name.split(".")
        if within(each.name, PRIVATE_BINDINGS) or (parts[0] == "OpenSSL" and any(p.startswith("_") for p in parts)):
            yield f"{module.name}:{each.line} imports {each.name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            name = "" if own else node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            named = node.args[1] if len(node.args) > 1 else None
            name = named.value if isinstance(named, ast.Constant) and isinstance(named.value, str) else ""
        else:
            continue
        if name in PYOPENSSL_PRIVATE:
            yield f"{module.name}:{node.lineno} takes {name} from another object"
