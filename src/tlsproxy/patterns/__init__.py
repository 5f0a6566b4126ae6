"""
The modes: one module each, and each does nothing but open the two sides of a session.
"""
