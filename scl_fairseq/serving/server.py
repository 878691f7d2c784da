"""A small web server for one reader on this machine, of the standard library alone.

It listens on the loopback address and serves four paths that are in memory. Pages of other sites,
which a browser on this machine may show too, get nothing: a request must name this address as its
host, so that no name of theirs can point here, and questions must be JSON, which they may not send.
"""

from __future__ import annotations

import json
import socketserver
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from scl_fairseq.serving.page import SCRIPT, STYLE, page
from scl_fairseq.serving.service import MOST_BYTES, BusyError, Service

ADDRESS = "127.0.0.1"
_NAMES = (ADDRESS, "localhost")
_READ_BUT_REFUSED = 8 * MOST_BYTES  # a browser shows an answer only when its question is read
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class PageServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Serves a model's page; ``server_address[1]`` is its port.

    Args:
        service: answers.
        title: of the page.
        about: a sentence below it.
        port: 0 takes a free one.

    Raises:
        OSError: the port cannot be had.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 16

    def __init__(self, service: Service, title: str, about: str, port: int):
        self.service = service
        self.files = {
            "/": ("text/html", page(title, about, service.takes_pairs)),
            "/page.css": ("text/css", STYLE),
            "/page.js": ("text/javascript", SCRIPT),
        }
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who went away is no news; all else is a fault of the program, with traceback."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = 30  # seconds without a byte
    server_version, sys_version = "scl-predict", ""

    def do_GET(self) -> None:
        if not self._is_for_us():
            return
        if self.path not in self.server.files:
            self._tell(HTTPStatus.NOT_FOUND, f"there is no {self.path[:80]} here")
            return
        kind, text = self.server.files[self.path]
        self._send(HTTPStatus.OK, f"{kind}; charset=utf-8", text.encode("utf-8"))

    def do_POST(self) -> None:
        if not self._is_for_us():
            return
        if self.path != "/predict":
            self._tell(HTTPStatus.NOT_FOUND, f"there is no {self.path[:80]} here")
            return
        body = self._body()
        if body is None:
            return
        try:
            asked = json.loads(body)
            text = asked["texts"] if isinstance(asked, dict) else None
            if not isinstance(text, str):
                raise KeyError
            text.encode("utf-8")  # half a surrogate pair is no text
        except (ValueError, KeyError, RecursionError):
            self._tell(HTTPStatus.BAD_REQUEST, 'expected {"texts": "..."} in JSON')
            return
        try:
            self._send_json(HTTPStatus.OK, self.server.service.answer(text))
        except ValueError as error:
            self._tell(HTTPStatus.UNPROCESSABLE_ENTITY, " ".join(str(error).split()))
        except BusyError:
            self._tell(HTTPStatus.SERVICE_UNAVAILABLE, "other questions are at work; ask again")

    def _is_for_us(self) -> bool:
        port = self.server.server_address[1]
        ours = {f"{name}:{port}" for name in _NAMES} | (set(_NAMES) if port == 80 else set())
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in ours and origin in (
            None,
            *(f"http://{name}" for name in ours),
        ):
            return True
        self._tell(HTTPStatus.FORBIDDEN, f"this page is at {self.server.url} alone")
        return False

    def _body(self) -> bytes | None:
        """The question; None where it was refused."""
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self._tell(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
            return None
        size = int(length[:20])
        if size > MOST_BYTES:
            left = size if size <= _READ_BUT_REFUSED else 0
            while left > 0 and (block := self.rfile.read(min(left, 1 << 16))):
                left -= len(block)
            self._tell(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"{size / 1e6:.1f} MB of text; the page takes {MOST_BYTES / 1e6:.0f} MB at once. A "
                "file of any length goes through scl-predict --input FILE",
            )
            return None
        body = self.rfile.read(size)
        if kind != "application/json":
            self._tell(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
            return None
        if len(body) < size:
            self._tell(HTTPStatus.BAD_REQUEST, "the question ends early")
            return None
        return body

    def _tell(self, status: HTTPStatus, error: str) -> None:
        self._send_json(status, {"error": error})

    def _send_json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        self._send(status, "application/json; charset=utf-8", text.encode("utf-8"))

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: texts are the reader's own."""
