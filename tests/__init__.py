"""
The tests of tlsproxy; they mirror C{src/tlsproxy} one to one.
"""
