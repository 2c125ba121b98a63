"""One conversation, as a program: python once.py URL FOLDER"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "harness")]

from converse import Address, Place, converse  # noqa: E402


def main() -> None:
    url, folder = sys.argv[1:]
    talk = asyncio.run(converse(Address(url), Place.make(Path(folder))))
    if talk.result is None or talk.result.is_error:
        sys.exit(f"no result: {talk}")


if __name__ == "__main__":
    main()
