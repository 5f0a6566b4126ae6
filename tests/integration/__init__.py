"""
Tests with real programs and real sockets; each module is named as a promise.
"""
