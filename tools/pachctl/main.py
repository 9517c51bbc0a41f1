"""The entry point of `pachctl`: finds a command, imports its module, runs it, makes failures one sentence.

The exit status is 0, or 1 for any failure, usage errors included.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from pachctl import registry
from pachctl.terminal.command import Command, UsageError, parse
from pfsd.errors import PfsError
from pfsd.redact import redacted
from pfsd.runtime.logs import log_to_stderr

_GLOBAL_OPTIONS = ("-v", "--verbose", "--no-metrics")
_HELP_OPTIONS = ("-h", "--help")

_logger = logging.getLogger(__name__)

_INTRODUCTION = """\
Access a pfsd daemon: versioned repos of files, and pipelines over them.

usage: pachctl [OPTIONS] COMMAND [ARGUMENTS]
"""

_CONCLUSION = """\
options, before or after the command:
  -v, --verbose          log what is done to standard error
  --no-metrics           accepted for compatibility: no metrics are ever sent
  -h, --help             show this help, or the command's

environment:
  ADDRESS=HOST:PORT      the daemon to connect to (default 127.0.0.1:30650)

example:
  $ pachctl create-repo images
  $ pachctl put-file images master liberty.png -c -f liberty.png
  $ pachctl list-file images master

Run 'pachctl COMMAND --help' for a command's arguments, options and examples."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status or, where `argv` is not given, ends the process with it."""
    for stream in (sys.stdout, sys.stderr):
        # Names are UTF-8 whatever the locale says.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Ending a transfer must undo what is half made, as Ctrl-C does.
        signal.signal(number, signal.default_int_handler)
    status = _guarded(list(sys.argv[1:] if argv is None else argv))
    if argv is None:
        # Everything is flushed and closed. What is left, such as unloading grpc and joining a thread that
        # hangs in a read, would cost a quarter of a short command's time, or never end.
        os._exit(status)
    return status


def _guarded(arguments: list[str]) -> int:
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _fail("interrupted")
    except BrokenPipeError:
        # Whoever read the output has gone: nobody is left to tell.
        status = 1
    except PfsError as error:
        status = _fail(str(error))
    except UnicodeEncodeError as error:
        status = _fail(f"{ascii(error.object)[:200]} is not UTF-8, as all names in pfsd are")
    except OSError as error:
        status = _fail(_os_sentence(error))
    except Exception as error:
        # A defect of ours: the user is spared the traceback, -v shows it.
        _logger.info("defect", exc_info=True)
        status = _fail(f"this is a defect of pachctl: {type(error).__name__}: {error} (-v shows where)")
    return status


def _run(arguments: list[str]) -> int:
    leading = []
    while arguments and arguments[0] in _GLOBAL_OPTIONS:
        leading.append(arguments.pop(0))
    if not arguments or arguments[0] in _HELP_OPTIONS:
        return _overview()
    name, *rest = arguments
    if name == "help":
        if not rest:
            return _overview()
        name, *rest = *rest, "--help"
    if name.startswith("-"):
        raise UsageError(f"unknown flag: {name}\nRun 'pachctl --help' for usage.")
    entry = registry.ENTRIES.get(name)
    if entry is None:
        raise UsageError(f'Error: unknown command "{name}" for "pachctl"\nRun \'pachctl --help\' for usage.')
    commands = _commands(entry.module)
    command = commands[name]
    try:
        parsed = parse(name, command, [*leading, *rest])
    except SystemExit:
        return 0
    if parsed.verbose:
        log_to_stderr(logging.INFO)
    return command.run(parsed) or 0


def _commands(module: str) -> dict[str, Command]:
    # Nothing that an import makes is garbage: looking for some costs a tenth of a short command's time.
    gc.disable()
    commands: dict[str, Command] = import_module(f"pachctl.{module}").COMMANDS
    gc.freeze()
    gc.enable()
    return commands


def _overview() -> int:
    print(_INTRODUCTION)
    for group in registry.GROUPS:
        print(f"{group.title}:")
        for entry in group.entries:
            print(f"  {entry.name:<22} {entry.summary}")
        print()
    print(_CONCLUSION)
    return 0


def _fail(sentence: str) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        # The output has gone already, and the sentence tells of the first failure.
        pass
    print(redacted(sentence), file=sys.stderr)
    return 1


def _os_sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    reason = reason[:1].lower() + reason[1:]
    if error.filename is None:
        return f"writing the output failed: {reason}"
    return f"open {os.fsdecode(error.filename)}: {reason}"


if __name__ == "__main__":
    sys.exit(main())
