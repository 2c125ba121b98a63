"""The number and the head of the pull request that an event is about, as outputs of the step.

`pull_request` events hold them. A `workflow_run` event of a fork names only the repository, the branch and
the commit: the open pull request from there is asked of GitHub, and must stand at that very commit. Without
one (it was closed, or went on) the outputs are empty and nothing is published.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

MAX_ANSWER = 8 * 1024 * 1024  # bytes
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Stay(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that the runner named, and to no other."""

    def redirect_request(self, *_: object) -> None:
        return None


def ask(path: str, query: dict[str, str]) -> Any:
    url = f"{os.environ['GITHUB_API_URL']}{path}?{urllib.parse.urlencode(query)}"
    token = os.environ["GITHUB_TOKEN"]
    headers = {"Accept": "application/vnd.github+json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=30) as answer:
            return json.loads(answer.read(MAX_ANSWER))
    except (OSError, ValueError) as exc:  # no connection, or an answer that is none
        status = getattr(exc, "code", type(exc).__name__)
        sys.exit(f"review-agent: GitHub did not say which pull request this is ({status})")


def of_run(run: dict[str, Any]) -> tuple[int, str] | None:
    """The one open pull request whose head is the commit of the finished workflow run."""
    home, head = run["head_repository"], run["head_sha"]
    query = {
        "state": "open",
        "head": f"{home['owner']['login']}:{run['head_branch']}",
        "per_page": "100",
    }
    pulls = ask(f"/repos/{os.environ['GITHUB_REPOSITORY']}/pulls", query)
    found = [
        pull
        for pull in pulls
        if pull["head"]["sha"] == head and (pull["head"]["repo"] or {}).get("full_name") == home["full_name"]
    ]
    return (found[0]["number"], head) if len(found) == 1 else None


def main() -> None:
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
    pull, run = event.get("pull_request"), event.get("workflow_run")
    if pull:
        found = (pull["number"], pull["head"]["sha"])
    elif run:
        found = of_run(run)
    else:
        sys.exit("review-agent: this event is about no pull request (use on: pull_request or workflow_run)")
    if found is None:
        print(
            "::notice::review-agent: no open pull request stands at the reviewed commit: nothing to publish"
        )
        return
    number, head = int(found[0]), str(found[1])
    if not _COMMIT.fullmatch(head):
        sys.exit("review-agent: the event names no commit")
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as stream:
        stream.write(f"number={number}\nhead={head}\n")


if __name__ == "__main__":
    main()
