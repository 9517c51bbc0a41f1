"""What a command is, and how its line is read.

The operands are counted here rather than by argparse, so that options and operands may come in any order and
a wrong count reads "expected 2 to 3 arguments, got 1".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pachctl.terminal import format
from pfsd.errors import PfsError

Arguments = Any
"""What a command gets: an argparse.Namespace whose `operands` are what is not an option, `given` of them."""


class UsageError(PfsError):
    """A command line that can't be understood."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


@dataclass(frozen=True)
class Command:
    """One command."""

    run: Callable[[Arguments], int | None]
    """Does the work; the exit status, None for 0."""
    description: str
    examples: tuple[str, ...]
    """Command lines; one that begins with '#' is the remark to the next."""
    operands: tuple[str, ...] = ()
    """`NAME` must be given, `[NAME]` may be, `NAME...` and `[NAME...]` take all that follow."""
    options: Callable[[argparse.ArgumentParser], None] | None = None
    """Declares the options."""


def parse(name: str, command: Command, arguments: Sequence[str]) -> Arguments:
    """The options and operands of `arguments`; raises UsageError, or SystemExit(0) once help is printed.

    Operands that may be left out and were are empty strings.
    """
    parser = _parser(name, command)
    parser.add_argument("operands", nargs="*", help=argparse.SUPPRESS)
    try:
        parsed = parser.parse_intermixed_args(arguments)
        parsed.given = len(parsed.operands)
        parsed.operands = _counted(command.operands, parsed.operands)
    except UsageError as error:
        raise UsageError(f"{error}\n{usage(name, command)}; see pachctl {name} --help") from error
    return parsed


def usage(name: str, command: Command) -> str:
    """One line with the command and its operands."""
    options = " [OPTIONS]" if command.options is not None else ""
    return " ".join([f"usage: pachctl {name}{options}", *command.operands])


def add_global_options(parser: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is done to standard error")
    parser.add_argument(
        "--no-metrics", action="store_true", help="accepted for compatibility: no metrics are ever sent"
    )


def add_raw_option(parser: argparse.ArgumentParser) -> None:
    """The option `--raw` of the commands that print messages."""
    parser.add_argument("--raw", action="store_true", help="disable pretty printing, print raw JSON")


MOST = (1 << 63) - 1
"""The largest number that a message takes."""


def positive(text: str) -> int:
    """An argparse type: an integer of at least 1."""
    return _at_least(text, 1)


def not_negative(text: str) -> int:
    """An argparse type: an integer of at least 0."""
    return _at_least(text, 0)


def port(text: str) -> int:
    """An argparse type: a TCP port, or 0."""
    value = _at_least(text, 0)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return value


def _at_least(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}, or is too large")
    return value


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Breaks prose, keeps examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return format.filled(text, indent)


def _parser(name: str, command: Command) -> Parser:
    examples = "\n".join(f"  {line}" if line.startswith("#") else f"  $ {line}" for line in command.examples)
    parser = Parser(
        prog=f"pachctl {name}",
        usage=format.filled(usage(name, command)).removeprefix("usage: ").replace("\n", "\n       "),
        description=command.description,
        epilog=f"examples:\n{examples}",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    if command.options is not None:
        command.options(parser)
    add_global_options(parser)
    return parser


def _counted(declared: tuple[str, ...], given: list[str]) -> list[str]:
    least = sum(not operand.startswith("[") for operand in declared)
    endless = any("..." in operand for operand in declared)
    if len(given) < least or (len(given) > len(declared) and not endless):
        if endless:
            wanted = f"at least {least}"
        elif least == len(declared):
            wanted = str(least)
        else:
            wanted = f"{least} to {len(declared)}"
        noun = "argument" if wanted in ("1", "at least 1") else "arguments"
        raise UsageError(f"expected {wanted} {noun}, got {len(given)}")
    if endless:
        return given
    return given + [""] * (len(declared) - len(given))
