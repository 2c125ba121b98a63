"""A Hugging Face on loopback, with one model of the smallest file that is accepted as one."""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def gguf() -> bytes:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    pairs += text("llama.context_length") + struct.pack("<II", 4, 4096)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pairs + b"w" * 300_000


@dataclass
class Hub:
    repository: str
    file: str
    url: str = ""
    data: bytes = field(default_factory=gguf)
    fetched: list[str] = field(default_factory=list)

    def answer(self, path: str) -> bytes | None:
        if path.endswith(".gguf"):
            self.fetched.append(path)
            return self.data
        if path != f"/api/models/{self.repository}/revision/main?blobs=true":
            return None
        lfs = {"sha256": hashlib.sha256(self.data).hexdigest(), "size": len(self.data)}
        entry = {"rfilename": self.file, "size": len(self.data), "lfs": lfs}
        return json.dumps({"sha": "0" * 40, "siblings": [entry]}).encode()

    @contextmanager
    def serving(self) -> Iterator[Hub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = hub.answer(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
