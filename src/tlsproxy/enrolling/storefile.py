# -*- test-case-name: tests.enrolling.test_storefile -*-
"""
The file that enrollment is kept in: an SQLite database, which several processes and threads use at once.

What is written is on the disk before anybody is told of it (write-ahead log, C{synchronous = FULL}), and a process can
be killed at any moment.  The file is made whole before it gets its name, so there is never half a one.  SQLite is
left alone with it: whoever else opens and closes it in a process takes the locks of that process away.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from tlsproxy.tls.printing import printable

__all__ = ["StoreFile", "StoreProblem"]

_PATIENCE: Final = 5.0
"""How long a writer waits for others, in seconds."""
_TRIAL: Final = 10
"""How long it does in one go, in milliseconds."""
_GLANCE: Final = 0.1
"""How long a reader does, in seconds, for whoever keeps all from it: it may be in the reactor's thread."""
_APPLICATION: Final = 0x746C7370
_VERSION: Final = 1
# A certificate's origin is what it was issued for, a token or another certificate, and nothing gets two.
_SCHEMA: Final = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
CREATE TABLE token (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, stored BLOB NOT NULL, created REAL NOT NULL, expires REAL NOT NULL,
    revoked REAL
);
CREATE TABLE lineage (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, started REAL NOT NULL, ends REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'alive', reason TEXT NOT NULL DEFAULT '', ended REAL
);
CREATE TABLE certificate (
    serial TEXT PRIMARY KEY, lineage TEXT NOT NULL, origin TEXT NOT NULL UNIQUE, spki BLOB NOT NULL, pem BLOB NOT NULL,
    expires REAL NOT NULL
);
CREATE INDEX certificates ON certificate (lineage);
"""
_SENTENCES: Final = {
    sqlite3.SQLITE_BUSY: "another process keeps it",
    sqlite3.SQLITE_LOCKED: "another process keeps it",
    sqlite3.SQLITE_CANTOPEN: "it, or a file beside it, cannot be opened or made",
    sqlite3.SQLITE_CORRUPT: "it is damaged; stop the proxy, and take it from a backup or begin a new one",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "it cannot be read or written: the disk is full or broken",
    sqlite3.SQLITE_NOTADB: "it is no store of enrollments; give another name",
    sqlite3.SQLITE_PERM: "its folder or a file beside it cannot be written by this user",
    sqlite3.SQLITE_READONLY: "it, or its folder, cannot be written by this user",
}


class StoreProblem(Exception):
    """
    The file cannot be opened, is something else, or is full: one sentence, which names it.
    """


class StoreFile:
    """
    The file, as one process has it open: once to read and once to write, each for one thread at a time.

    Nothing is opened before it is needed, and nothing may be open while the process forks.

    @ivar path: Where it is.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self._lock = threading.Lock()
        self._reader = _Opened("r")
        self._writer = _Opened("w")
        self._process = 0

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """
        Read.

        @raise StoreProblem: See there.
        """
        with self._taken(self._reader) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """
        Read and write, alone among all processes.  At the end all of it is on the disk; after an exception, none of it.

        @raise StoreProblem: See there.
        """
        with self._taken(self._writer) as connection:
            _begin(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def version(self) -> tuple[int, ...]:
        """
        Give what is another one each time that somebody, in whatever process, has changed something.

        @raise StoreProblem: See there.
        """
        with self._taken(self._reader) as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return self._reader.count, version

    def close(self) -> None:
        """
        Let go of the file, until it is used again.
        """
        for one in (self._writer, self._reader):
            with one.lock:
                one.drop()

    @contextmanager
    def _taken(self, one: _Opened) -> Iterator[sqlite3.Connection]:
        """
        Have a connection alone.
        """
        with one.lock:
            try:
                yield one.opened(self.path, self._found())
            except sqlite3.Error as e:
                code = getattr(e, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
                if code != sqlite3.SQLITE_BUSY:
                    one.drop()
                raise _problem(self.path, _SENTENCES.get(code, str(e))) from e

    def _found(self) -> os.stat_result:
        """
        Look for the file: one that was removed or replaced lives on for those who have it open, where nobody else finds
        it any more.
        """
        with self._lock:
            if self._process not in (0, os.getpid()):
                raise _problem(self.path, "it was in use when the process forked")
            try:
                found = os.lstat(self.path)
            except FileNotFoundError:
                if self._process:
                    raise _problem(self.path, "it was removed while it was in use; start the proxy again") from None
                found = _create(self.path)
            except OSError as e:
                raise _problem(self.path, f"it cannot be opened: {e.strerror}") from None
            self._process = os.getpid()
            return found


class _Opened:
    """
    One connection to the file.

    @ivar lock: Is held by whoever uses it.
    @ivar count: How often it was opened.
    """

    def __init__(self, purpose: Literal["r", "w"]) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self._purpose = purpose
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)

    def opened(self, path: Path, found: os.stat_result) -> sqlite3.Connection:
        """
        Give it, for the file as it is now.
        """
        file = found.st_dev, found.st_ino
        if self._connection is None or self._file != file:
            self.drop()
            self._connection = _connect(path, found, self._purpose)
            self._file = file
            self.count += 1
        return self._connection

    def drop(self) -> None:
        """
        Close it.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _problem(path: Path, sentence: str | None) -> StoreProblem:
    return StoreProblem(f"the store {printable(str(path))}: {sentence or 'it cannot be opened'}")


def _connect(path: Path, found: os.stat_result, purpose: Literal["r", "w"]) -> sqlite3.Connection:
    """
    Open a file that is there, if it is one of ours.

    @raise sqlite3.Error: It cannot be opened.
    """
    if not stat.S_ISREG(found.st_mode):
        raise _problem(path, "it is no regular file; give another name")
    if found.st_mode & 0o077:
        raise _problem(path, "it is open to other users; chmod 600 it")
    if os.stat(path.parent).st_mode & stat.S_IWOTH:
        raise _problem(path, "all users can write its folder; take one of its own")
    patience = _PATIENCE if purpose == "w" else _GLANCE
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", patience, uri=True, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            raise _problem(path, _SENTENCES[sqlite3.SQLITE_NOTADB])
        if version != _VERSION:
            raise _problem(path, f"it is of version {version}, and this tlsproxy knows {_VERSION} only")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA query_only = ON" if purpose == "r" else f"PRAGMA busy_timeout = {_TRIAL}")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin(connection: sqlite3.Connection) -> None:
    """
    Begin to write.

    @raise sqlite3.Error: Among others: somebody else writes, for too long.
    """
    # SQLite tries ever more rarely, and then may find others writing each time, if those are busy enough.
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as e:
            if e.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise


def _create(path: Path) -> os.stat_result:
    """
    Make an empty store, unless there is a file of that name in the end.
    """
    try:
        _makeFolder(path.parent)
        owner = os.stat(path.parent)
        descriptor, made = tempfile.mkstemp(".new", f".{path.name}-", path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(_empty())
                if os.geteuid() == 0:
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                file.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):
                os.link(made, path)
        finally:
            os.unlink(made)
        _sync(path.parent)
        return os.lstat(path)
    except OSError as e:
        raise _problem(path, f"it cannot be made: {e.strerror}") from None


def _makeFolder(folder: Path) -> None:
    if folder.is_dir():
        return
    _makeFolder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
        if os.geteuid() == 0:
            owner = os.stat(folder.parent)
            os.chown(folder, owner.st_uid, owner.st_gid, follow_symlinks=False)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _empty() -> bytes:
    """
    Give the bytes of a database without entries.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        image = bytearray(connection.serialize())
    # The two version numbers of the file format: those of a database with a write-ahead log.
    image[18:20] = b"\2\2"
    return bytes(image)
