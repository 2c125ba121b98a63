"""Starts the `claude` program with an environment of its own. Run as a script, with nothing of ours imported.

The SDK hands its whole environment on and can only add to it. So it starts this file instead, which keeps the
variables that `REVIEW_AGENT_KEEP` names, leaves the terminal's group of processes (Ctrl-C is for the review,
which then ends the program), asks Linux to end the program with its parent, and becomes it.
"""

import os
import sys

if __name__ == "__main__":
    kept = set(os.environ.get("REVIEW_AGENT_KEEP", "").split(","))
    program = os.environ["REVIEW_AGENT_PROGRAM"]
    if os.getpgrp() != os.getpid():
        os.setsid()
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != int(os.environ["REVIEW_AGENT_PARENT"]):  # the parent ended before that
            sys.exit(1)
    os.execve(program, [program, *sys.argv[1:]], {k: v for k, v in os.environ.items() if k in kept})  # noqa: S606
