"""The embedded engine's process: llama.cpp's own server inside xllamacpp, until the parent lets go.

Started by path with `-P`: nothing of the current folder can be imported. One JSON object comes in on
the first line of stdin (`Launch` in `embedded.py`), one goes out on stdout: `{"url"}` when ready, or
`{"error"}`. Then it stays until stdin ends: a dead parent cannot hold a pipe open.
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with_parent(number: int) -> None:
    """Only while the model loads: xllamacpp holds the GIL then, and nobody could see stdin end.

    Not afterwards, because the kernel sends it when merely the thread that started us ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def main() -> None:
    parent = os.getppid()
    launch = json.loads(sys.stdin.buffer.readline())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever llama.cpp prints is no answer of ours
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return
    try:
        server = start(launch)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the parent tells the user
        print(json.dumps({"error": f"{type(exc).__name__}: {exc}"}), file=answers, flush=True)
        return
    die_with_parent(0)
    print(json.dumps({"url": server.listening_address}), file=answers, flush=True)  # type: ignore[attr-defined]
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)  # at once: requests under way are nobody's any more


def start(launch: dict) -> object:  # type: ignore[type-arg]
    """The running server. It ends when the returned object is collected."""
    import xllamacpp as x

    p = x.CommonParams()
    p.model.path = launch["model"]
    p.model_alias = {launch["alias"]}
    p.hostnames, p.port = ["127.0.0.1"], 0
    p.api_keys = [launch["key"]]
    p.n_parallel = launch["slots"]
    p.n_ctx = launch["context"] * launch["slots"]  # it counts all slots together
    if launch["threads"]:
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = launch["threads"]
    p.use_jinja = True
    p.enable_reasoning = 0  # thinking is not bounded by the schema
    p.ctx_shift = False  # an answer that does not fit ends with "length", it never loses its beginning
    p.cache_ram_mib = 512  # not 8 GiB: prompts share a prefix, and the slots keep that
    p.sse_ping_interval = -1  # silence is how we notice a stall
    p.timeout_read = p.timeout_write = 24 * 3600
    p.ui, p.offline, p.endpoint_slots = False, True, False
    p.verbosity = launch["verbosity"]
    return x.Server(p)


if __name__ == "__main__":
    main()
