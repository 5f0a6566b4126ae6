# -*- test-case-name: tests.test_browserpolicies -*-
"""
The proxy setting of browsers, as managed policies: files of the system that count for all of its users.

Chromium and Chrome read all files of a folder, so one of them is ours alone.  Firefox reads one file, which others may
write to as well; what we have added to it is noted down beside it, so that nothing else is ever taken out.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from tlsproxy.tls.files import readWhole
from tlsproxy.tls.printing import printable
from tlsproxy.wholefiles import replaceFile

__all__ = ["CHROME", "CHROMIUM", "FIREFOX", "PolicyProblem", "apply", "chromiumPolicy", "firefoxPolicies", "remove"]

CHROMIUM: Final = "etc/chromium/policies/managed/tlsproxy.json"
CHROME: Final = "etc/opt/chrome/policies/managed/tlsproxy.json"
FIREFOX: Final = "etc/firefox/policies/policies.json"

_NOTE: Final = "tlsproxy.json"
"""Beside Firefox's file: what of it is ours."""
_SETTINGS: Final = frozenset(
    {
        "ProxyBypassList",
        "ProxyMode",
        "ProxyOverrideRules",
        "ProxyPacUrl",
        "ProxyServer",
        "ProxyServerMode",
        "ProxySettings",
    }
)
"""All policies of Chromium that say which proxy is used."""
_SHARED: Final = (("policies",), ("policies", "Preferences"))
"""The objects in Firefox's file that others add to, too."""
_LEFT: Final = re.compile(r"\.tlsproxy\.json\.[0-9a-f]{16}")
"""What L{replaceFile} calls its files before they are whole."""
_MISSING: Final = object()


class PolicyProblem(Exception):
    """
    A file is left as it is: one sentence, which names it.
    """


def chromiumPolicy(url: str) -> dict[str, Any]:
    """
    Give the policies of Chromium and Chrome: while the PAC file is not to be had, nothing goes directly.

    @param url: Where the PAC file is.
    """
    return {"ProxySettings": {"ProxyMode": "pac_script", "ProxyPacUrl": url, "ProxyPacMandatory": True}}


def firefoxPolicies(url: str) -> dict[str, Any]:
    """
    Give the policies of Firefox.

    @param url: Where the PAC file is.
    """
    return {
        "policies": {
            "Proxy": {"Mode": "autoConfig", "AutoConfigURL": url, "Locked": True},
            "Preferences": {"network.proxy.failover_direct": {"Value": False, "Status": "locked"}},
        }
    }


def apply(root: Path, url: str) -> tuple[list[Path], list[PolicyProblem]]:
    """
    Set the proxy of all browsers.

    @param root: The folder that the system's folders are in.
    @param url: Where the PAC file is.
    @return: The files that are as they should be, and what is wrong with others.
    """

    def firefox(path: Path) -> bool:
        _applyFirefox(path, firefoxPolicies(url))
        return True

    def chromium(path: Path) -> bool:
        _applyChromium(path, chromiumPolicy(url))
        return True

    return _each(root, chromium, firefox)


def remove(root: Path) -> tuple[list[Path], list[PolicyProblem]]:
    """
    Take out again what L{apply} has set, whatever else was changed since.

    @return: The files that were changed or removed, and what is wrong with others.
    """
    return _each(root, _removeChromium, _removeFirefox)


def _each(
    root: Path, chromium: Callable[[Path], bool], firefox: Callable[[Path], bool]
) -> tuple[list[Path], list[PolicyProblem]]:
    done, problems = [], []
    for name, act in ((CHROMIUM, chromium), (CHROME, chromium), (FIREFOX, firefox)):
        path = root / name
        try:
            _known(root, path)
            if act(path):
                done.append(path)
        except PolicyProblem as e:
            problems.append(e)
        except OSError as e:
            why = f"{e.strerror}: run it as root, or give --root" if isinstance(e, PermissionError) else e.strerror
            problems.append(PolicyProblem(f"{printable(str(path))} cannot be written ({why})"))
    return done, problems


def _known(root: Path, path: Path) -> None:
    """
    See that a file is where it seems to be.
    """
    if path.is_symlink():
        raise PolicyProblem(f"{printable(str(path))} is a symbolic link, and is left alone")
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise PolicyProblem(f"{printable(str(path))} leads out of {printable(str(root))}, and is left alone")


def _makeFolder(folder: Path) -> None:
    """
    Make a folder where it is missing, for everybody to look into, whatever root takes away of the modes of files: a
    policy that a browser cannot read is none, and nobody is told.
    """
    if not folder.is_dir():
        _makeFolder(folder.parent)
        folder.mkdir(0o755)
        folder.chmod(0o755)


# -- Chromium and Chrome --------------------------------------------------------------------------------------------


def _applyChromium(path: Path, wanted: dict[str, Any]) -> None:
    present = _read(path)
    if present is not None and not _isOurs(present):
        raise PolicyProblem(f"{printable(str(path))} has policies of somebody else, and is left alone")
    _sweep(path)
    for other in sorted(path.parent.glob("*")):  # Whatever they are called, the browser reads them.
        try:
            named = set() if other == path or not other.is_file() else _settings(other)
        except OSError:
            continue
        if named:
            raise PolicyProblem(f"{printable(str(other))} sets a proxy already ({min(named)}): take that out first")
    if present != wanted:
        _makeFolder(path.parent)
        replaceFile(path, _text(wanted, "  "), 0o644)


def _settings(file: Path) -> set[str]:
    """
    Tell which settings of a proxy a file of somebody else has.
    """
    try:
        return set(_SETTINGS & set(_read(file) or ()))
    except PolicyProblem:
        # The browser takes more for JSON than we do.
        text = readWhole(str(file))[0]
        return {name for name in _SETTINGS if f'"{name}"'.encode() in text}


def _sweep(path: Path) -> bool:
    """
    Remove what was left of a file of ours when the machine stopped, as the browser reads that, too.

    @return: Whether there was any.
    """
    left = [one for one in path.parent.glob(f".{path.name}.*") if _LEFT.fullmatch(one.name)]
    for one in left:
        one.unlink()
    return bool(left)


def _removeChromium(path: Path) -> bool:
    swept = _sweep(path)
    present = _read(path)
    if present is None:
        return swept
    if not _isOurs(present):
        raise PolicyProblem(f"{printable(str(path))} has policies of somebody else, and is left alone")
    path.unlink()
    return True


def _isOurs(present: dict[str, Any]) -> bool:
    settings = present.get("ProxySettings")
    url = settings.get("ProxyPacUrl") if isinstance(settings, dict) else None
    return isinstance(url, str) and present == chromiumPolicy(url)


# -- Firefox --------------------------------------------------------------------------------------------------------


@frozen
class _Note:
    """
    What of Firefox's file is ours.

    @ivar made: Whether there was no such file.
    @ivar added: What we have added to it, each by its keys from the outside, with its value: that of an object which
        others may add to is an empty one.
    """

    made: bool = False
    added: tuple[tuple[tuple[str, ...], Any], ...] = ()

    @classmethod
    def read(cls, file: Path) -> _Note | None:
        """
        Read what was noted down.

        @return: L{None} for nothing.
        """
        note = _load(file)
        if note is None:
            return None
        try:
            made, added = note["made"], tuple((tuple(keys), value) for keys, value in note["added"])
            if isinstance(made, bool) and all(keys and all(isinstance(key, str) for key in keys) for keys, _ in added):
                return cls(made, added)
        except (KeyError, TypeError, ValueError):
            pass
        name = printable(str(file))
        raise PolicyProblem(f"{name} is not what tlsproxy writes there: look at it, and at {FIREFOX}, yourself")

    def write(self, file: Path) -> None:
        """
        Note it down.
        """
        replaceFile(file, _text({"made": self.made, "added": self.added}, "  "), 0o644)

    def takeOut(self, document: dict[str, Any]) -> None:
        """
        Take out what is still as it was added: what is inside first.
        """
        for keys, value in reversed(self.added):
            holder: Any = document
            for key in keys[:-1]:
                holder = holder.get(key) if isinstance(holder, dict) else None
            if isinstance(holder, dict) and holder.get(keys[-1], _MISSING) == value:
                del holder[keys[-1]]


def _applyFirefox(path: Path, wanted: dict[str, Any]) -> None:
    file = path.with_name(_NOTE)
    present, old = _read(path), _Note.read(file)
    before = old or _Note()
    document = {} if present is None else deepcopy(present)
    before.takeOut(document)
    note = _Note(present is None or before.made, tuple(_merge(path, document, wanted, ())))
    if (document, note) == (present, old):
        return
    _makeFolder(path.parent)
    # If the machine stops in between, whichever of the two is there is known for ours.
    both = evolve(note, added=(*before.added, *(one for one in note.added if one not in before.added)))
    if both.added:
        both.write(file)
        _write(path, document)
        note.write(file)


def _removeFirefox(path: Path) -> bool:
    file = path.with_name(_NOTE)
    document, note = _read(path), _Note.read(file)
    if note is None:
        return False
    if document is not None:
        note.takeOut(document)
        if note.made and not document:
            path.unlink()
        else:
            _write(path, document)
    file.unlink()
    return True


def _merge(
    path: Path, target: dict[str, Any], wanted: dict[str, Any], outer: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """
    Add what is lacking.

    @return: What that is, as in a note.
    """
    for key, value in wanted.items():
        keys = (*outer, key)
        shared = keys in _SHARED
        if key not in target:
            target[key] = {} if shared else value
            yield keys, {} if shared else value
        found = target[key]
        if shared and isinstance(found, dict):
            yield from _merge(path, found, value, keys)
        elif found != value:
            raise PolicyProblem(f"{printable(str(path))} has {'.'.join(keys)} of somebody else, and is left alone")


def _write(path: Path, document: dict[str, Any]) -> None:
    """
    Write a file that may be others', as it was in all but what it says.
    """
    try:
        found = path.stat()
        written = re.match(r"\s*\{\s*\n([ \t]+)", path.read_text("utf-8-sig"))
    except FileNotFoundError:
        replaceFile(path, _text(document, "  "), 0o644)
        return
    indent = written[1] if written else "  "
    replaceFile(path, _text(document, indent), stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid))


# -- JSON -----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any] | None:
    """
    Read a file with policies.

    @return: L{None} where there is none.
    """
    document = _load(path)
    if document is not None and not isinstance(document, dict):
        raise PolicyProblem(f"{printable(str(path))} is no JSON object, and is left alone")
    return document


def _load(path: Path) -> Any:
    try:
        text = readWhole(str(path))[0].decode("utf-8-sig")
        document = json.loads(text, object_pairs_hook=_once)
        json.dumps(document, allow_nan=False)  # What JSON has no words for would be lost.
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as e:
        why = str(e) if isinstance(e, _Twice) else "is no JSON"
        raise PolicyProblem(f"{printable(str(path))} {why}, and is left alone") from None
    if document is None:
        raise PolicyProblem(f"{printable(str(path))} is no JSON object, and is left alone")
    return document


class _Twice(ValueError):
    """
    A member of an object is there twice, and one of them would be lost.
    """


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(f"has {key!r} twice")
        found[key] = value
    return found


def _text(document: Any, indent: str) -> bytes:
    try:
        return (json.dumps(document, indent=indent, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(document, indent=indent) + "\n").encode()
