"""The console script. `--version` answers before anything heavy is imported."""

from __future__ import annotations

import sys


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        from review_agent.agent.version import __version__

        print(f"review-agent {__version__}")
        return
    if sys.platform == "win32":
        print("review-agent 暂不支持原生 Windows，请在 WSL2 中使用。", file=sys.stderr)
        sys.exit(2)
    import os

    if sys.argv[1:3] == ["hook", "run"] and os.environ.get("REVIEW_AGENT_SKIP") == "1":
        from review_agent.prompts import DEFAULT_LANG, LANGS, say

        lang = os.environ.get("REVIEW_AGENT_LANG", "")
        print(say(lang if lang in LANGS else DEFAULT_LANG, "hook", "skipped"), file=sys.stderr)
        return
    try:
        from review_agent.agent.cli import run

        code = run(sys.argv[1:], os.environ)
    except KeyboardInterrupt:  # before the command line could handle it
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
