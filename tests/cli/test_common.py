"""What commands have in common: the bar is for terminals, and one for all that is to be done."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

from scl_fairseq.cli.common import part_of
from tests import runs

CODE = """
import time
from scl_fairseq.cli.common import byte_bar
with byte_bar() as show:
    for done in range(0, 1001, 100):
        show(done, 1000)
        time.sleep(0.05)
"""


def run_in_terminal():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", CODE], stderr=theirs, env=runs.ENVIRONMENT)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # how Linux says that the other end was closed
            data = b""
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_a_terminal_shows_how_far_it_is():
    shown = run_in_terminal()
    assert "%|" in shown
    assert "1.00k" in shown


def test_elsewhere_it_is_quiet():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, env=runs.ENVIRONMENT, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_pieces_of_work_are_one_progress():
    told = []
    for place in range(3):
        show = part_of(lambda done, total: told.append((done, total)), place, 3)
        for done in (1, 4):
            show(done, 4)
    assert told == [(1, 12), (4, 12), (5, 12), (8, 12), (9, 12), (12, 12)]
