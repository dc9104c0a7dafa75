"""The client of a controller, for programs and for the command line.

Each name is loaded when it is first used: a short command needs few of them.
"""
