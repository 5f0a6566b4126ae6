"""
The log of the process: where its lines go, and what they look like.
"""
