"""
The grammars of the wire: bytes in, values out, and no I/O.
"""
