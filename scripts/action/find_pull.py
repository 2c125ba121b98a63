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
from typing import Any, NoReturn

from review_agent.agent.errors import ReviewError
from review_agent.agent.runner import as_command
from review_agent.prompts import say
from review_agent.tools.forges.github import api_endpoint

MAX_ANSWER = 8 * 1024 * 1024  # bytes
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Stay(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that the runner named, and to no other."""

    def redirect_request(self, *_: object) -> None:
        return None


def tell(level: str, key: str, value: object = "") -> None:
    lang = "en" if os.environ.get("INPUT_LANGUAGE") == "en" else "zh-CN"
    print(as_command(level, say(lang, "action", key, value=value)))


def stop(key: str, value: object = "") -> NoReturn:
    tell("error", key, value)
    sys.exit(1)


def ask(path: str, query: dict[str, str]) -> Any:
    token = os.environ["GITHUB_TOKEN"]
    if not token:
        stop("no_token")
    headers = {"Accept": "application/vnd.github+json", "Authorization": f"Bearer {token}"}
    try:
        api = api_endpoint(os.environ["GITHUB_API_URL"]).url  # a token goes over TLS only
        request = urllib.request.Request(f"{api}{path}?{urllib.parse.urlencode(query)}", headers=headers)
        with urllib.request.build_opener(Stay).open(request, timeout=30) as answer:
            return json.loads(answer.read(MAX_ANSWER))
    except (OSError, ValueError, ReviewError) as exc:  # no connection, no answer, no address to ask
        stop("not_named", getattr(exc, "code", type(exc).__name__))


def of_run(run: dict[str, Any]) -> tuple[int, str] | None:
    """The one open pull request whose head is the commit of the finished workflow run."""
    home, head = run["head_repository"], run["head_sha"]
    if not home:  # the fork was deleted
        return None
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
    name = os.environ.get("GITHUB_EVENT_NAME", "")
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
    pull, run = event.get("pull_request"), event.get("workflow_run")
    if name == "pull_request_target":
        stop("target_event")
    if name == "merge_group":  # as a required check it must not hold the queue up
        tell("notice", "merge_group")
        return
    if pull:
        found = (pull["number"], pull["head"]["sha"])
    elif run:
        found = of_run(run)
    else:
        stop("no_pull_request", name)
    if found is None:
        tell("notice", "stale")
        return
    number, head = int(found[0]), str(found[1])
    if not _COMMIT.fullmatch(head):
        stop("no_commit")
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as stream:
        stream.write(f"number={number}\nhead={head}\n")


if __name__ == "__main__":
    try:
        main()
    except (KeyError, TypeError, AttributeError) as exc:  # an event or an answer of another form
        stop("not_named", type(exc).__name__)
