"""The command line client.

`main` dispatches, and `registry` lists the commands without importing them. Each group of commands is a module of its
own, imported only when one of its commands is given. `terminal` says what a command is, connects to the daemon, and
turns values into the words and columns that are printed.
"""
