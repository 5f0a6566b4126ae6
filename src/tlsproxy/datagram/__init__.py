"""
Sessions on UDP.
"""
