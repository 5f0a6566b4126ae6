"""
The protocol handlers that come with tlsproxy, one module each.
"""
