"""llama.cpp's own server, as a user would start it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAME = "smollm2-135m"
_SERVER = """
import sys, xllamacpp
gguf, name, key, context, slots = sys.argv[1:]
p = xllamacpp.CommonParams()
p.model.path, p.model_alias = gguf, {name}
p.hostnames, p.port, p.api_keys = ["127.0.0.1"], 0, [key] if key else []
p.n_ctx, p.n_parallel, p.use_jinja, p.verbosity = int(context) * int(slots), int(slots), True, 1
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def llama_server(gguf: str, *, context: int, slots: int = 1, key: str = "") -> Iterator[str]:
    """Its address. `context` tokens for each of `slots`; with a `key` it answers nobody else."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVER, gguf, NAME, key, str(context), str(slots)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        yield next(line.strip() for line in lines if line.startswith("http"))
    finally:
        process.kill()
        process.communicate()
