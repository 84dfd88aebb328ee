"""An HTTP proxy that fails when it is told to, in front of storage that does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["500", "503", "cut", "truncate", "hang"]
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class _Planned:
    fault: Fault
    left: float
    matching: str


class FaultyProxy:
    """Forwards requests to `upstream`, but for those that are to fail.

    Attributes
    ----------
    upstream : (str, int)
        Host and port of the real server.
    requests : list of str
        Method and path of every request, failed ones too.
    """

    def __init__(self) -> None:
        self.upstream = ("127.0.0.1", 0)
        self.requests: list[str] = []
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients find the storage."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients of S3 find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        """Stop answering."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def failing(
        self, fault: Fault, times: float = float("inf"), matching: str = ""
    ) -> Iterator[None]:
        """Let the next requests fail.

        Parameters
        ----------
        fault : {'500', '503', 'cut', 'truncate', 'hang'}
            The answer is this status; the connection is cut; half of the body arrives; nothing
            is answered.
        times : float
            So many requests fail; by default all within the block.
        matching : str
            Only requests with this in ``METHOD /path`` fail.
        """
        planned = _Planned(fault, times, matching)
        with self._lock:
            self._planned.append(planned)
        try:
            yield
        finally:
            with self._lock:
                self._planned.remove(planned)

    def fault_of(self, request: str) -> Fault | None:
        """Note a request; return how it fails."""
        with self._lock:
            self.requests.append(request)
            for planned in self._planned:
                if planned.left > 0 and planned.matching in request:
                    planned.left -= 1
                    return planned.fault
        return None

    def hang(self) -> None:
        """Return when the proxy is closed."""
        self._closing.wait()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self._body()
        fault = self.proxy.fault_of(f"{self.command} {self.path}")
        if fault == "hang":
            self.proxy.hang()
        if fault in ("hang", "cut"):
            self.close_connection = True
            return
        if fault in ("500", "503"):
            self._send(int(fault), {}, b"")
            return
        connection = HTTPConnection(*self.proxy.upstream, timeout=60)
        headers = {n: v for n, v in self.headers.items() if n.lower() not in _HOP_BY_HOP}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        headers = {n: v for n, v in response.getheaders() if n.lower() not in _HOP_BY_HOP}
        if fault == "truncate":
            self.close_connection = True
            self._send(response.status, headers, content, len(content) // 2)
        else:
            self._send(response.status, headers, content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, n_sent: int | None = None
    ) -> None:
        self.send_response_only(status)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:n_sent])

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *of: Any) -> None:
        """Say nothing: a request log would bury what tests print."""
