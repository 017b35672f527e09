"""Show results, questions, errors, hints and QR codes to a person. The only module that prints.

Results go to stdout, everything else to stderr, so that a script can read one without the other.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import termios
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TextIO

from pam_softtoken import null_device
from pam_softtoken.program_errors import EnrolmentFailed, OutputClosed, ProgramError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_NUDGE_S = 0.2
_stopping: list[signal.Signals] = []
_interrupted_by: list[int] = []


class Terminal:
    """The terminal, or the pipes, that connect a program to a person.

    Args:
        program: the name before `error:` and `hint:`.
        results: the stream for results. None: it is closed.
    """

    def __init__(self, program: str, *, results: TextIO | None) -> None:
        self._program = program
        self._results = results

    def show(self, text: str = "") -> None:
        """Print a result.

        Raises:
            EnrolmentFailed: it could not be written. `OutputClosed` if the reader has gone.
        """
        self.require_open()
        try:
            print(text, file=self._results, flush=True)
        except BrokenPipeError as error:
            raise _lost(os.strerror(error.errno or 0), OutputClosed) from None
        except OSError as error:
            raise _lost(os.strerror(error.errno or 0)) from None

    def require_open(self) -> None:
        """Check that results have somewhere to go.

        Raises:
            EnrolmentFailed: they have not.
        """
        if self._results is None:
            raise _lost("it is closed")

    def tell(self, text: str = "") -> None:
        """Print text that is not a result."""
        try:
            print(text, file=sys.stderr, flush=True)
        except (OSError, ValueError):
            pass  # nobody is left to read it

    def ask(self, question: str, *, hidden: bool = False) -> str:
        """Ask for one line. Signals interrupt a program only here and at `checkpoint`.

        Args:
            question: the text of the question.
            hidden: do not show what is typed.

        Raises:
            EnrolmentFailed: the input has ended.
            KeyboardInterrupt: the user, or somebody else, wants the program to stop.
        """
        with _echo(sys.stdin, not hidden):
            print(question, end=" ", file=sys.stderr, flush=True)
            line = _read_line(sys.stdin)
        if hidden:
            self.tell()
        if not line:
            self.tell()
            raise EnrolmentFailed(
                "the input ended before an answer; nothing was changed",
                hint="start again, and answer the questions",
            )
        return line.rstrip("\r\n")

    def ask_person(self, question: str) -> str | None:
        """Ask for one hidden line on the terminal itself, even if stdin and stderr are redirected.

        Returns:
            The line. None if there is no terminal or no answer.

        Raises:
            KeyboardInterrupt: the user, or somebody else, wants the program to stop.
        """
        try:
            descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return None
        # A file object for both directions would try to seek.
        with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape") as stream:
            with _echo(stream, False):
                os.write(descriptor, f"{question} ".encode())
                line = _read_line(stream)
            os.write(descriptor, b"\n")
        return line.rstrip("\r\n") if line else None

    def error(self, error: ProgramError) -> None:
        """Print an error and what helps."""
        self.tell(f"{self._program}: error: {visible(error.message)}")
        self.tell(f"{self._program}: hint: {visible(error.hint)}")

    def can_show_blocks(self) -> bool:
        """Return whether the results' encoding has block characters."""
        encoding = self._results.encoding if self._results is not None else ""
        return encoding.lower().replace("-", "") == "utf8"

    def spell(self, text: str) -> str:
        """Return a text with escapes for characters that the results' encoding lacks. Any name can then be shown."""
        encoding = self._results.encoding if self._results is not None else "ascii"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def is_terminal(self) -> bool:
        """Return whether results go to a terminal."""
        return self._results is not None and self._results.isatty()

    def has_colour(self) -> bool:
        """Return whether colours can and may be used."""
        return self.is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def columns(self) -> int:
        """Return the width of the terminal in columns. For other outputs, return a usual width."""
        if self._results is None or not self.is_terminal():
            return 80
        try:
            return os.get_terminal_size(self._results.fileno()).columns or 80
        except OSError:
            return shutil.get_terminal_size().columns


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Allow signals to interrupt the program for as long as the block lasts.

    Raises:
        KeyboardInterrupt: one did.
    """
    heeded = (*SIGNALS, *_stopping)
    with _nudged():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heeded)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, heeded)


@contextlib.contextmanager
def _nudged() -> Iterator[None]:
    """Wake the program again and again for as long as the block lasts.

    The interpreter only notes a signal, and handles it before its next step. A signal that comes just before a read
    begins would be handled after the read, which may never end.
    """
    handler = signal.signal(signal.SIGALRM, lambda number, frame: None)
    blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    timer = signal.setitimer(signal.ITIMER_REAL, _NUDGE_S, _NUDGE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGALRM, handler)


def _read_line(stream: TextIO | None) -> str:
    with interruptible():
        try:
            return stream.readline() if stream is not None else ""
        except OSError:
            return ""  # the terminal is gone


@contextlib.contextmanager
def _echo(stream: TextIO | None, shown: bool) -> Iterator[None]:
    """Show what is typed, or hide it, for as long as the block lasts."""
    if shown or stream is None or not stream.isatty():
        yield
        return
    try:
        before = termios.tcgetattr(stream)
        quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        termios.tcsetattr(stream, termios.TCSADRAIN, quiet)
    except termios.error:  # the terminal is gone
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(stream, termios.TCSADRAIN, before)


def _lost(why: str, kind: type[EnrolmentFailed] = EnrolmentFailed) -> EnrolmentFailed:
    return kind(
        f"cannot write the result: {why}; nothing was changed", hint="let the output go where it can be written"
    )


def visible(text: str) -> str:
    """Return a text with control characters made visible, so that it cannot control the terminal."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def width(text: str) -> int:
    """Return how many columns a text takes: two for wide characters, none for combining marks."""
    return sum(
        0 if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 2 if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )  # fmt: skip


def person_is_there() -> bool:
    """Return whether somebody can answer questions."""
    return sys.stdin is not None and sys.stdin.isatty()


def person_sees_messages() -> bool:
    """Return whether messages go to a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def message_columns() -> int:
    """Return the width of the terminal that shows messages, in columns. For other outputs, return a usual width."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def message_lines() -> int:
    """Return the height of the terminal that shows messages, in lines. For other outputs, return a usual height."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).lines or 24
    except (OSError, ValueError):
        return 24


def discard_typed_ahead() -> None:
    """Discard what was typed or pasted before a question is shown, so that it cannot answer the question."""
    if sys.stdin is not None:
        with contextlib.suppress(termios.error):
            termios.tcflush(sys.stdin, termios.TCIFLUSH)


def interrupt_only_at_questions(signals: Sequence[signal.Signals]) -> None:
    """Block these signals, too, until the program asks something. They keep their default effect."""
    _stopping.extend(signals)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def checkpoint() -> None:
    """Allow a pending signal to interrupt the program here. Afterwards it is too late.

    Raises:
        KeyboardInterrupt: there was one.
    """
    if signal.sigpending() & set(SIGNALS):
        raise KeyboardInterrupt


def run(program: str, body: Callable[[Terminal], None], words: Sequence[str] = ()) -> int:
    """Run a program's body and turn what it raises into an exit status. Only this function does that.

    Args:
        program: its name.
        body: what it does.
        words: its command line, for the advice after an interruption.

    Returns:
        0 done, 1 failed, 2 usage.
    """
    # This process holds keys. No core file may have them, nor a program that receives cores, as it could with a limit
    # of 0.
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    # Signals wait until the program asks for them, so that each step is done completely or not at all.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    if sys.stdin is not None:
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    terminal = Terminal(program, results=sys.stdout)
    status = 0
    try:
        body(terminal)
    except ProgramError as error:
        terminal.error(error)
        status = error.exit_status
    except KeyboardInterrupt:
        terminal.tell()
        again = _command(program, words)
        terminal.error(EnrolmentFailed("interrupted; nothing was changed", hint=f"start again with {again}"))
        status = 1
    finally:
        _let_go(sys.stdout, sys.stderr)
    return status


def _command(program: str, words: Sequence[str]) -> str:
    import shlex  # noqa: PLC0415 - it is slow, and hardly ever needed

    return shlex.join((program, *words))


def _interrupt(number: int, frame: FrameType | None) -> None:
    # One signal is enough. A second one, such as a closing terminal sends, must not interrupt the cleanup.
    if not _interrupted_by:
        _interrupted_by.append(number)
        raise KeyboardInterrupt


def _let_go(*streams: TextIO | None) -> None:
    """Flush the output, and discard what cannot be written. Otherwise the interpreter would complain when it ends."""
    for stream in streams:
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            if stream is not None:
                null_device.lead_nowhere(stream.fileno())
