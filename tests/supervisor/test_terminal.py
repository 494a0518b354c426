"""Interactive programs under the command keep the terminal. The tests use a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time

import pytest

from evreload._common.terminal import CLEAR, LEAVE_FULL_SCREEN, clear
from support.app import WARM_TIMEOUT, App
from support.deadline import DEADLINE
from support.processes import have_ended, process_tree, was_forked

if sys.platform == "win32":
    pytest.skip("no pseudo-terminal there", allow_module_level=True)
import pexpect


class Terminal(App):
    """The app on a terminal of its own; the test types on it, and reads from it."""

    terminal: pexpect.spawn | None = None

    def open(self, command: str, *arguments: str, **environment: str) -> pexpect.spawn:
        self.terminal = pexpect.spawn(
            command,
            list(arguments),
            cwd=str(self.directory),
            env={**self.environment, "TERM": "xterm", "PS1": "shell> ", **environment},
            encoding="utf-8",
            timeout=DEADLINE,
            dimensions=(24, 200),
        )
        return self.terminal

    def run(self, *options: str, **environment: str) -> pexpect.spawn:
        return self.open(sys.executable, *self.command, *options, "app.py", **environment)

    @property
    def command(self) -> list[str]:
        return ["-m", "evreload", *(["--warm"] if self.warm else [])]

    def await_warm_start(self) -> None:
        """Look at the processes: the lines that are printed are for the test."""
        deadline = time.monotonic() + WARM_TIMEOUT
        while self._is_cold() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.times_cold += self._is_cold()

    def _is_cold(self) -> bool:
        if not (self.warm and self.terminal and self.terminal.isalive()):
            return False
        return sum(map(was_forked, process_tree(self.terminal.pid))) < 2

    def save(self, value: object) -> None:
        self.write("helper.py", f"VALUE = {value!r}")

    def close(self) -> None:
        super().close()
        if self.terminal is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.terminal.pid, signal.SIGKILL)
            self.terminal.close(force=True)


@pytest.fixture
def app(tmp_path, request):
    app = Terminal(tmp_path)
    app.warm = request.config.getoption("--warm")
    app.save(1)
    yield app
    request.node.user_properties.append(("times cold", app.times_cold))
    app.close()


def test_pdb(app):
    app.write(
        "app.py",
        """
        import helper
        here = "frame"
        breakpoint()
        print("ready", helper.VALUE)
        """,
    )
    terminal = app.run()
    terminal.expect_exact("(Pdb) ")
    terminal.sendline("p here * 2")
    terminal.expect_exact("'frameframe'")
    terminal.expect_exact("(Pdb) ")
    app.save(2)
    terminal.expect_exact("helper.py modified; restarting server")
    terminal.expect_exact("(Pdb) ")
    terminal.sendline("p helper.VALUE + 40")
    terminal.expect_exact("42")
    terminal.sendline("c")
    terminal.expect_exact("ready 2")
    terminal.expect_exact("exited with status 0; waiting for a change")


@pytest.mark.parametrize("line_editor", ["", "import readline"])
def test_input(app, line_editor):
    app.write(
        "app.py",
        f"""
        {line_editor}
        import helper
        while True:
            print("got", input(f"prompt {{helper.VALUE}}> ").upper())
        """,
    )
    terminal = app.run()
    for value in (1, 2, 3):
        terminal.expect_exact(f"prompt {value}> ")
        terminal.sendline("hello" if not line_editor else "ello\x01h")  # Ctrl-A: to the start
        terminal.expect_exact("got HELLO")
        terminal.expect_exact(f"prompt {value}> ")
        app.save(value + 1)


@pytest.mark.parametrize("ending", ["", "1 / 0"])
def test_the_terminal_echoes_again(app, ending):
    """As after getpass, which a restart or a crash ends."""
    app.write(
        "app.py",
        f"""
        import termios
        import helper
        modes = termios.tcgetattr(0)
        print("ready", helper.VALUE, "echo", bool(modes[3] & termios.ECHO))
        modes[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(0, termios.TCSADRAIN, modes)
        print("no echo")
        {ending}
        input()
        """,
    )
    terminal = app.run()
    terminal.expect_exact("ready 1 echo True")
    terminal.expect_exact("no echo")
    if ending:
        terminal.expect_exact("waiting for a change")
        assert terminal.getecho()
    app.save(2)
    terminal.expect_exact("ready 2 echo True")


def test_a_curses_program(app):
    app.write(
        "app.py",
        """
        import curses
        import helper

        def main(screen):
            screen.addstr(5, 5, f"version {helper.VALUE}")
            screen.refresh()
            key = screen.getkey()
            screen.addstr(6, 5, f"pressed {key}")
            screen.refresh()
            screen.getkey()

        curses.wrapper(main)
        """,
    )
    terminal = app.run()
    for value in (1, 2):
        terminal.expect_exact(f"version {value}")
        terminal.send("x")
        terminal.expect_exact("pressed x")
        app.save(value + 1)
    terminal.expect_exact("version 3")
    terminal.send("xy")
    terminal.expect_exact("exited with status 0; waiting for a change")
    assert terminal.getecho()


# A program for the whole screen. Each key ends it in another way.
FULL_SCREEN = """
import os, signal, sys, termios, tty
import helper

os.write(1, b"\\033[?1049h\\033[?25l\\033[?1000h")
cooked = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, f"screen {helper.VALUE}".encode())
while key := os.read(0, 1):
    if key == b"c":
        os.write(1, b"\\033[?1000l\\033[?25h\\033[?1049l")
        termios.tcsetattr(0, termios.TCSADRAIN, cooked)
        os.write(1, b"cooked")
    elif key == b"k":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def leaves_full_screen(terminal):
    """Wait until the display is restored; return what was written before."""
    terminal.expect_exact(LEAVE_FULL_SCREEN.decode())
    return terminal.before


def test_the_screen_of_a_program_is_not_written_on(app):
    app.write("app.py", FULL_SCREEN)
    terminal = app.run(NO_COLOR="1")
    terminal.expect_exact("screen 1")
    for value in (2, 3):
        app.save(value)
        assert "evreload" not in leaves_full_screen(terminal)
        terminal.expect_exact("helper.py modified; restarting server")
        terminal.expect_exact(f"screen {value}")
    app.write("helper.py", "VALUE = (")
    app.write("helper.py", "VALUE = 4")
    assert "evreload" not in leaves_full_screen(terminal)
    terminal.expect_exact("screen 4")
    terminal.send("k")
    assert "evreload" not in leaves_full_screen(terminal)
    terminal.expect_exact("killed by SIGKILL; waiting for a change")
    app.save(5)
    terminal.expect_exact("screen 5")
    terminal.kill(signal.SIGTERM)
    leaves_full_screen(terminal)
    terminal.expect_exact(pexpect.EOF)


def test_lines_that_were_held_back_are_printed_once_the_program_leaves_the_screen(app):
    app.write("app.py", FULL_SCREEN)
    terminal = app.run(NO_COLOR="1")
    terminal.expect_exact("screen 1")
    app.write("helper.py", "VALUE = (")
    time.sleep(1)  # nothing says that the error is held back
    terminal.send("c")
    terminal.expect_exact("cooked")
    assert "evreload" not in terminal.before
    terminal.expect("helper.py:1: SyntaxError: .*; still running")
    app.save(2)
    terminal.expect_exact("helper.py modified; restarting server")
    assert LEAVE_FULL_SCREEN.decode() not in terminal.before
    terminal.expect_exact("screen 2")


BLOCKING = """
import asyncio, logging, os, sys
import evreload
import helper

async def main():
    evreload.start()
    os.set_blocking(0, False)
    os.set_blocking(2, False)
    await asyncio.Event().wait()

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
print("ready", helper.VALUE, *map(os.get_blocking, range(3)), flush=True)
if helper.VALUE == 9:
    os._exit(0)
asyncio.run(main())
"""
AFTERWARDS = "import os; print('after', *map(os.get_blocking, range(3)))"


@pytest.mark.parametrize("stdin", ["terminal", "pipe"])
@pytest.mark.parametrize(
    "mode", [(), ("-m", "evreload", "--until-success")], ids=["start", "command"]
)
def test_standard_streams_block_again_in_the_next_run(app, mode, stdin):
    app.write("app.py", BLOCKING)
    command = shlex.join([sys.executable, *mode, "app.py"])
    afterwards = shlex.join([sys.executable, "-c", AFTERWARDS])
    pipe = "sleep 600 |" if stdin == "pipe" else ""
    app.save(1)
    terminal = app.open("sh", "-c", f"{pipe} {{ {command}; {afterwards}; }}")
    for value in (1, 2, 9):
        if value > 1:
            app.save(value)
        terminal.expect_exact(f"ready {value} True True True")
        if value < 9 and not (mode and value > 1):
            terminal.expect_exact("evreload: watching")
    terminal.expect_exact("after True True True")


SLEEPER = """
import time
import helper
print("ready", helper.VALUE)
time.sleep(3600)
"""


def test_ctrl_c_once_ends_everything_quietly(app):
    app.write("app.py", SLEEPER)
    terminal = app.run("-q")
    terminal.expect_exact("ready 1")
    app.save(2)
    terminal.expect_exact("ready 2")
    terminal.sendintr()
    terminal.expect_exact(pexpect.EOF)
    assert terminal.before.replace("^C", "").strip() == ""
    terminal.wait()
    assert terminal.exitstatus == 130


def test_a_program_may_take_its_time_after_ctrl_c(app):
    app.write(
        "app.py",
        """
        import asyncio

        async def main():
            try:
                print("ready", flush=True)
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.7)
                print("cleaned up")

        asyncio.run(main())
        """,
    )
    terminal = app.run("--stop-timeout", "20")
    terminal.expect_exact("ready")
    terminal.sendintr()
    terminal.expect_exact("cleaned up")
    terminal.expect_exact(pexpect.EOF)
    assert "Traceback" not in terminal.before
    terminal.wait()
    assert terminal.exitstatus == 130


def test_a_program_that_has_left_the_process_group_gets_the_ctrl_c_too(app):
    app.write(
        "app.py",
        """
        import os, time
        os.setpgid(0, 0)
        try:
            print("ready", flush=True)
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            os.write(1, b"interrupted")
        """,
    )
    terminal = app.run("--stop-timeout", "0")
    terminal.expect_exact("ready")
    terminal.sendintr()
    terminal.expect_exact("interrupted")
    terminal.expect_exact(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 130


def test_ctrl_c_while_nothing_runs(app):
    app.write("app.py", "raise SystemExit(3)")
    terminal = app.run("-q", NO_COLOR="1")
    terminal.expect_exact("waiting for a change")
    terminal.sendintr()
    terminal.expect_exact(pexpect.EOF)
    assert terminal.before.replace("^C", "").strip() == ""
    terminal.wait()
    assert terminal.exitstatus == 130


def test_a_terminal_that_is_closed_ends_everything(app):
    app.write("app.py", "import os\nprint('pid', os.getpid())\n" + SLEEPER)
    terminal = app.run()
    terminal.expect(r"pid (\d+)")
    program = os.pidfd_open(int(terminal.match[1]))
    terminal.expect_exact("ready")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, terminal.child_fd)  # as close does, but that pexpect may close it again
    os.close(null)
    have_ended([program])


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_ctrl_z_and_fg(app):
    app.write(
        "app.py",
        """
        import helper
        while True:
            print("got", input(f"prompt {helper.VALUE}> ").upper())
        """,
    )
    terminal = app.open("bash", "--norc", "--noediting", "-i")
    terminal.expect_exact("shell> ")
    terminal.sendline(f"{shlex.join([sys.executable, *app.command])} app.py")
    terminal.expect_exact("prompt 1> ")
    for value in (1, 2):
        terminal.send("\x1a")
        terminal.expect("Stopped.*\n")
        terminal.expect_exact("shell> ")
        terminal.sendline("echo shell $((20 + 1))")
        terminal.expect_exact("shell 21")
        terminal.expect_exact("shell> ")
        terminal.sendline("fg")
        terminal.sendline("hello")
        terminal.expect_exact("got HELLO")
        app.await_warm_start()  # a stopped command forks nothing
        terminal.send("\x1a")
        terminal.expect_exact("shell> ")
        app.save(value + 1)  # meanwhile
        terminal.sendline("fg")
        terminal.expect_exact(f"prompt {value + 1}> ")
        terminal.sendline("hello")
        terminal.expect_exact("got HELLO")
    terminal.sendintr()
    terminal.expect_exact("shell> ")
    terminal.sendline("echo status $?")
    terminal.expect_exact("status 130")


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_a_program_that_has_passed_the_terminal_to_a_shell(app):
    """The shell takes the foreground, and ends with the program at the restart."""
    app.write(
        "app.py",
        """
        import subprocess
        import helper
        print("got", input(f"prompt {helper.VALUE}> ").upper())
        subprocess.run(["bash", "--norc", "--noediting", "-i"])
        """,
    )
    terminal = app.run("--stop-timeout", "0.2")
    for value in (1, 2, 3):
        terminal.expect_exact(f"prompt {value}> ")
        terminal.sendline("hello")
        terminal.expect_exact("got HELLO")
        terminal.expect_exact("shell> ")
        app.save(value + 1)
    terminal.expect_exact("prompt 4> ")


def test_colours_only_on_a_terminal_and_without_no_color(app):
    app.write("app.py", "print('ready')")
    app.run().expect_exact("\033[36mevreload: program exited with status 0")
    app.close()
    app.run(NO_COLOR="1").expect_exact("\nevreload: program exited with status 0")
    app.close()
    app.run(NO_COLOR="").expect_exact("\033[36mevreload: program exited")


def test_the_terminal_is_cleared_if_asked_for(app):
    app.write("app.py", SLEEPER)
    terminal = app.run("--clear")
    terminal.expect_exact("ready 1")
    app.save(2)
    terminal.expect("\033\\[H\033\\[2J\033\\[3J.*restarting server.*ready 2")


def test_a_file_or_pipe_is_not_cleared(capsys):
    clear()
    assert capsys.readouterr().err == ""


def test_a_terminal_is_cleared(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clear()
    assert capsys.readouterr().err == CLEAR
