"""
Heads of HTTP messages with mistakes in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, heads: Sequence[bytes], pieces: Sequence[bytes]) -> bytes:
    """
    Draw a good head in which a few places were written over, cut out or written into.

    @param heads: The good ones.
    @param pieces: What is written, beside anything.
    """
    head = draw(st.sampled_from(heads))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(head)))
        end = at + draw(st.integers(0, 6))
        head = head[:at] + draw(st.sampled_from([b"", *pieces]) | st.binary(max_size=3)) + head[end:]
    return head
