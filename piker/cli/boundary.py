"""
The one place where an error becomes an exit code: 0 done, 1 failed, 2 misused, 130 interrupted.

A person at a terminal gets one line on stderr that says what was wrong and what to do. A
traceback appears only when asked for with `-l debug`.
"""

import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import typer

from piker import cli
from piker.cli import lifeline
from piker.errors import PikerError, SymbolNotFound, leaves

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def main(program: str, argv: Sequence[str] | None = None) -> int:
    """Run `piker` or `pikerd` with `argv` (default: the process's own) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    lifeline.watch()
    try:
        command = (
            typer.main.get_command(cli.app)
            if program == "piker"
            else cli.load_command(program, cli.PIKERD)
        )
        result = command.main(args, prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except BaseException as err:  # relay: to the operator, as one line and an exit code
        return report(program, err, wants_traceback=asks_for_debug(args))
    return result if isinstance(result, int) else 0


def run_async(body: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run an async command body to its end and return its result."""
    import trio

    return trio.run(body, *args)


def asks_for_debug(args: Sequence[str]) -> bool:
    """Whether `-l debug` stands in a command line, in any of its spellings."""
    joined = " ".join(args)
    return any(
        spelling in joined for spelling in ("-l debug", "-ldebug", "--loglevel debug", "=debug")
    )


def report(program: str, err: BaseException, *, wants_traceback: bool = False) -> int:
    """Print what went wrong as one line on stderr and return the exit code."""
    cause = most_telling(err)
    match cause:
        case SystemExit(code=code):
            return code if isinstance(code, int) else say(program, str(code or ""), FAILED)
        case KeyboardInterrupt() | typer.Abort():
            return INTERRUPTED
        case typer.Exit():
            return cause.exit_code
        case BrokenPipeError():
            # whoever read our output has left (`| head`): nothing to say, nobody to say it to
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
    if wants_traceback:
        traceback.print_exception(err)
    match cause:
        case typer.TyperException() if type(cause).__name__ == "NoArgsIsHelpError":
            print(cause.format_message(), file=sys.stderr)
            return MISUSED
        case typer.TyperException():
            return say(program, f"{cause.format_message()} {see_help(program, cause)}", MISUSED)
        case PikerError():
            return say(program, describe(cause), FAILED)
        case OSError():
            return say(program, describe_os_error(cause), FAILED)
    kind = type(cause).__name__
    return say(program, f"{kind}: {last_line(str(cause))} (`-l debug` shows where)", FAILED)


def say(program: str, text: str, code: int) -> int:
    """Print `text` on stderr, on one line whatever it holds, and return `code`."""
    line = " ".join(text.split())
    if line:
        print(line if line.startswith(f"{program}:") else f"{program}: {line}", file=sys.stderr)
    return code


def see_help(program: str, err: typer.TyperException) -> str:
    """Return where the misused command explains itself."""
    path = getattr(getattr(err, "ctx", None), "command_path", program)
    return f"(see `{path} --help`)"


def most_telling(err: BaseException) -> BaseException:
    """Return the leaf to speak of: an interrupt, then our own words, then the rest."""
    ranks: tuple[type[BaseException], ...] = (KeyboardInterrupt, PikerError, OSError, BaseException)
    found = list(leaves(err))
    return next(leaf for rank in ranks for leaf in found if isinstance(leaf, rank))


def describe(err: PikerError) -> str:
    """Return the text of an error of ours, with the closest names when a market is unknown."""
    text = str(err) or type(err).__name__
    matches = err.matches if isinstance(err, SymbolNotFound) else ()
    if matches and matches[0] not in text:
        return f"{text.rstrip('.')}; closest: {', '.join(matches)}"
    return text


def describe_os_error(err: OSError) -> str:
    """Return `file: reason` of a failed system call."""
    where = f"{err.filename}: " if err.filename else ""
    return f"{where}{err.strerror or err}"


def last_line(text: str) -> str:
    """Return the last line of `text` that says something: the message of a shipped traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t|+-")]
    return lines[-1] if lines else ""
