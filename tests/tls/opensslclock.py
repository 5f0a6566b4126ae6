"""
A clock for OpenSSL that stands still until a test moves it.

OpenSSL's DTLS timers ask the C library what time it is, and nothing in the bindings lets them ask anybody else.  So the
library's own table of imported functions is changed in memory: where it finds C{gettimeofday} it finds a function of
ours.  Nobody else's time is touched, that of certificates included.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.bindings import _rust
from twisted.trial.unittest import SkipTest

_FUNCTION = b"gettimeofday"
_JUMP_SLOTS = frozenset({7, 1026})  # R_X86_64_JUMP_SLOT, R_AARCH64_JUMP_SLOT
_DYNAMIC, _PLTRELSZ, _STRTAB, _SYMTAB, _JMPREL = 2, 2, 5, 6, 23
_ASKING = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_long), ctypes.c_void_p)


def _base() -> int:
    """
    Find where the library is in memory.
    """
    path = str(_rust.__file__)
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.endswith(path) and line.split()[2] == "00000000":
            return int(line.split("-")[0], 16)
    raise SkipTest("there is no telling where OpenSSL is in memory")


def _slot(base: int) -> int:
    """
    Find the address of the pointer that the library calls the function by.
    """
    head = ctypes.string_at(base, 64)
    if head[:5] != b"\x7fELF\x02" or sys.byteorder != "little":
        raise SkipTest("OpenSSL is in no file of the kind that is understood here")
    (where,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
    entries: dict[int, int] = {}
    for number in range(count):
        kind, _, _, address, _, _, length, _ = struct.unpack(
            "<IIQQQQQQ", ctypes.string_at(base + where + number * size, 56)
        )
        if kind == _DYNAMIC:
            entries.update(struct.iter_unpack("<QQ", ctypes.string_at(base + address, length)))
    # The loader has made addresses of these, unless the table may not be written to.
    text, symbols, slots = (entries[tag] + (base if entries[tag] < base else 0) for tag in (_STRTAB, _SYMTAB, _JMPREL))
    for offset, info, _ in struct.iter_unpack("<QQq", ctypes.string_at(slots, entries[_PLTRELSZ])):
        (name,) = struct.unpack("<I", ctypes.string_at(symbols + (info >> 32) * 24, 4))
        if info & 0xFFFFFFFF in _JUMP_SLOTS and ctypes.string_at(text + name) == _FUNCTION:
            return base + int(offset)
    raise SkipTest("OpenSSL asks nobody for the time whom it could be made to ask")


class OpenSSLClock:
    """
    What time it is to OpenSSL.

    @ivar now: In seconds, from some moment on.
    @ivar also: Another clock, which goes beside it.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.also: Callable[[], float] = lambda: 0.0

    def seconds(self) -> float:
        """
        Tell the time.
        """
        return self.now + self.also()


@contextmanager
def stoppedClock() -> Iterator[OpenSSLClock]:
    """
    Have OpenSSL go by a clock that only the test moves.

    @raise SkipTest: It cannot be had here.
    """
    clock = OpenSSLClock()

    def ask(answer: ctypes._Pointer[ctypes.c_long], zone: object) -> int:
        # The smallest steps are microseconds, and what is due should not miss its time by one.
        answer[0], answer[1] = divmod(round(clock.seconds() * 1e6), 1_000_000)
        return 0

    asked = _ASKING(ask)
    slot = _slot(_base())
    page = slot & -mmap.PAGESIZE
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(page, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE):
        raise SkipTest("OpenSSL is not to be changed in memory here")
    pointer = ctypes.c_void_p.from_address(slot)
    real = pointer.value
    pointer.value = ctypes.cast(asked, ctypes.c_void_p).value
    try:
        yield clock
    finally:
        protect(page, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)
        pointer.value = real
        protect(page, mmap.PAGESIZE, mmap.PROT_READ)
