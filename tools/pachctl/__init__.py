"""The command line client.

`main` dispatches, `registry` lists the commands without importing them, `command` says what a command is.
Each group of commands is a module of its own, imported only when one of its commands is given; `connection`
speaks to the daemon, `format` turns values into the words and columns that are printed.
"""
