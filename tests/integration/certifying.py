# -*- test-case-name: tests.integration.test_tokens_used_once -*-
"""
A process that asks a store for something, says each thing that it was told, and is killed when the test likes.

L{ASK} runs it, with C{[user=UID] [most=BYTES] FILE DEED WORD...} behind.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tests.enrolling.certifying import Asker, serialOf
from tlsproxy.enrolling.lineages import Lineages, Refused, StoreProblem
from tlsproxy.wire.enrolltoken import Token

ASK: Final = (
    *(
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from tests.integration.certifying import main; sys.exit(main(sys.argv[1:]))",
    ),
    str(Path(__file__).resolve().parent.parent.parent),
)
"""What runs it."""
HOUR: Final = timedelta(hours=1)
LASTS: Final = timedelta(days=30)


def now() -> datetime:
    """
    Give the time.
    """
    return datetime.now(UTC)


def tell(*words: object) -> None:
    """
    Say what was told to be done, at once.
    """
    print(*words, flush=True)


def once(lineages: Lineages, id: str, moment: str) -> None:
    """
    Use a token, at a moment that others have agreed on, too.
    """
    asker = Asker(now())
    lineages.tokens()
    time.sleep(max(0.0, float(moment) - time.time()))
    tell("enrolled", serialOf(lineages.enroll(id, asker.spki, LASTS, asker.issue).certificate))


def first(lineages: Lineages, moment: str) -> None:
    """
    Be among the first who need the file.
    """
    token = Token.new(bytes(32), bytes(32))
    time.sleep(max(0.0, float(moment) - time.time()))
    lineages.addToken(token, "alice", HOUR)
    tell("added", token.id)


def all_(lineages: Lineages, name: str) -> None:
    """
    Do all there is to do, over and over, until somebody ends it.
    """
    while True:
        token, other = Token.new(bytes(32), bytes(32)), Token.new(bytes(32), bytes(32))
        lineages.addToken(token, name, HOUR)
        tell("added", token.id)
        asker = Asker(now())
        serial = serialOf(lineages.enroll(token.id, asker.spki, LASTS, asker.issue).certificate)
        tell("enrolled", token.id, serial)
        for _ in range(3):
            asker = Asker(now())
            child = serialOf(lineages.renew(serial, asker.spki, asker.issue).certificate)
            tell("renewed", token.id, serial, child)
            serial = child
        lineages.addToken(other, name, HOUR)
        lineages.revoke(other.id)
        tell("revoked", other.id)
        lineages.revoke(token.id)
        tell("over", token.id, serial)


def add(lineages: Lineages, name: str) -> None:
    """
    Add tokens, until somebody or something ends it.
    """
    while True:
        token = Token.new(bytes(32), bytes(32))
        lineages.addToken(token, name, HOUR)
        tell("added", token.id)


DEEDS: Final[Mapping[str, Callable[..., None]]] = {"once": once, "first": first, "all": all_, "add": add}


def main(words: list[str]) -> int:
    """
    Do what is asked for.

    @param words: As another user, if so; with files that get no larger, if so; where, what, and with what.
    @return: 0 if it was done, 3 if it was refused, 4 where there is a problem with the store.
    """
    if words[0].startswith("user="):
        user = int(words.pop(0)[5:])
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    if words[0].startswith("most="):
        most = int(words.pop(0)[5:])
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        DEEDS[words[1]](Lineages(Path(words[0]), now), *words[2:])
    except Refused as e:
        tell("refused", e.reason)
        return 3
    except StoreProblem as e:
        tell("problem", e)
        return 4
    return 0
