"""
TLS on one connection: what is wanted (policies), the contexts made from it, and the one module that touches the
library's private bindings.
"""
