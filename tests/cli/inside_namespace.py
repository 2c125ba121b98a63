"""Run in a network namespace: a mock model server on the given port, then the given command.

    python inside_namespace.py PORT COMMAND...

Ends with the command's exit code; 99 when the namespace does have a network.
"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

MOCK = Path(__file__).parents[1] / "harness" / "mock_llm.py"


def alone() -> bool:
    """An address for documentation cannot be reached, and no name means anything."""
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex(("192.0.2.1", 80)) != errno.ENETUNREACH:
            return False
    with suppress(OSError):
        socket.getaddrinfo("example.com", 80)
        return False
    return True


def main() -> int:
    port, *command = sys.argv[1:]
    if not alone():
        return 99
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, str(MOCK), "--port", port], stdout=quiet, stderr=quiet) as server:
        for _ in range(100):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
                break
            time.sleep(0.1)
        code = subprocess.run(command).returncode
        server.terminate()
    return code


if __name__ == "__main__":
    sys.exit(main())
