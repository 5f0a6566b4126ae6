"""
Sessions whose sides are datagrams: DTLS, and plain UDP.
"""
