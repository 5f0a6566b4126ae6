"""
How a client proxy comes to its certificate and its mapping, and stays in possession of both.
"""
