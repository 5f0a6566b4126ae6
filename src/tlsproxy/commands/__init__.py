"""
The commands of the toolbox C{tlsproxy}: a module each, whose C{add} tells the command line what it takes.
"""
