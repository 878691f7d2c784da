"""One process that imports fairseq, of which the workers on a CPU are copies that start at once.

Only workers of one thread are copied: torch's threads would not survive it, nor would a GPU's
state. The server ends when the sweep's process is gone.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from scl_fairseq.experiments.own_package import python_code

CODE = "from scl_fairseq.experiments.worker_server import serve; serve({fd})"
LONGEST = 1 << 10  # bytes of a message
START, LOOK, WAIT = "start", "look", "wait"


class WorkerServer:
    """Starts workers as copies of a process that is ready.

    Args:
        environment: variables of server and workers.
        inherited: numbers of files that they have open besides.
    """

    def __init__(self, environment: Mapping[str, str], inherited: Sequence[int] = ()):
        self._environment, self._inherited = dict(environment), tuple(inherited)
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._connection: socket.socket | None = None

    def __enter__(self) -> WorkerServer:
        return self

    def __exit__(self, *exc_info) -> None:
        with self._lock:
            self._end()

    def begin(self) -> None:
        """Let it import, which takes seconds, while other things are done."""
        with self._lock:
            if self._process is None:
                self._begin()

    def start(self, complaints: IO[bytes]) -> Copy:
        """A new worker.

        Args:
            complaints: receives its standard error.

        Raises:
            OSError: there is none.
        """
        (read_tasks, tasks), (events, write_events) = os.pipe(), os.pipe()
        try:
            fds = [read_tasks, write_events, complaints.fileno()]
            pid = self._ask({"what": START}, fds)
        except BaseException:
            os.close(tasks)
            os.close(events)
            raise
        finally:
            os.close(read_tasks)
            os.close(write_events)
        return Copy(self, pid, tasks, events)

    def code(self, pid: int, what: str) -> int | None:
        """How a worker has ended, as ``Popen.returncode``; None if it runs and one only looks."""
        try:
            return self._ask({"what": what, "pid": pid}, [])
        except OSError:
            return 1  # nobody knows: the server has been ended

    def _ask(self, message: Mapping[str, Any], fds: list[int]) -> Any:
        with self._lock:
            if self._process is None:
                self._begin()
            try:
                socket.send_fds(
                    self._connection, [json.dumps(message, allow_nan=False).encode()], fds
                )
                answer = self._connection.recv(LONGEST)
            except OSError:
                answer = b""
            if not answer:
                self._end()
                raise OSError("the process that workers are copies of has ended")
            return json.loads(answer)

    def _begin(self) -> None:
        self._connection, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", python_code(CODE.format(fd=other.fileno()))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[other.fileno(), *self._inherited],
                env=self._environment,
                start_new_session=True,
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._connection.close()
            process.kill()
            process.wait()


class Copy:
    """A worker, with what ``Popen`` has of it."""

    def __init__(self, server: WorkerServer, pid: int, tasks: int, events: int):
        self._server, self.pid, self._code = server, pid, None
        self.stdin = os.fdopen(tasks, "w", encoding="utf-8")
        self.stdout = os.fdopen(events, encoding="utf-8")

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._ended(LOOK)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._ended(WAIT)

    def _ended(self, what: str) -> int | None:
        if self._code is None:
            self._code = self._server.code(self.pid, what)
        return self._code


def serve(fd: int) -> None:
    """Be the server at the other end of a connection, until it is closed."""
    import torch

    from scl_fairseq.experiments import warm_training  # noqa: F401 (what workers find imported)

    # The first optimizer imports for a second. No gradient here: autograd does not survive copying.
    torch.optim.SGD([torch.zeros(1)], lr=1.0)
    gc.collect()
    gc.freeze()  # a collection in a copy would copy all that it looks at
    ended: dict[int, int] = {}
    with socket.socket(fileno=fd) as connection:
        while True:
            message, fds, _, _ = socket.recv_fds(connection, LONGEST, 3)
            if not message:
                return
            request = json.loads(message)
            if request["what"] == START:
                answer = os.fork()
                ended.pop(answer, None)
                if answer == 0:
                    connection.close()
                    _work(fds)
                # Here too: who asks may end the group before the copy has come to it.
                with contextlib.suppress(OSError):
                    os.setpgid(answer, answer)
                for number in fds:
                    os.close(number)
            else:
                options = os.WNOHANG if request["what"] == LOOK else 0
                answer = ended.get(request["pid"])  # two threads may ask, and one process has died
                if answer is None:
                    pid, status = os.waitpid(request["pid"], options)
                    if pid:
                        answer = ended[pid] = os.waitstatus_to_exitcode(status)
            connection.send(json.dumps(answer, allow_nan=False).encode())


def _work(fds: list[int]) -> None:
    """Be a worker, in the copy; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        from scl_fairseq.experiments import worker

        code = worker.main()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)
