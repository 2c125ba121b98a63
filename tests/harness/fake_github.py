"""A fake GitHub: the REST and GraphQL calls of a reviewer, over a real git repository.

It refuses what the real one refuses, with its words: lines that are not in the diff, ranges that leave their
hunk, bodies that are too long, tokens that may only read, too many requests. Sources:
https://docs.github.com/rest/pulls/reviews, https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api,
https://docs.github.com/graphql/reference/mutations#resolvereviewthread; messages as quoted in issue trackers.

    fake = FakeGitHub(repo, base, head)
    with fake.serving() as url: ...

`python fake_github.py --repo DIR --base REF --head REF [--port N]` serves until it is interrupted and prints its
state at `GET /__fake/state`; `POST /__fake/head {"sha": …}` moves the head.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

BODY_LIMIT = 65536
DOCS = "https://docs.github.com/rest"
HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+(\d+)(?:,(\d+))? @@")
# Of the schema, what a reviewer may ask for. `databaseId` has 32 bits and goes in 2027; here it is gone.
FIELDS = set(
    "query repository owner name pullRequest number reviewThreads reviews comments first after pageInfo hasNextPage endCursor nodes id isResolved "
    "isOutdated path line totalCount fullDatabaseId body url viewerDidAuthor author editor login".split()
)
BLANK = "Pull request review thread diff hunk can't be blank"


class Refused(Exception):
    def __init__(self, status: int, message: str, errors: Any = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"message": message, "documentation_url": DOCS, "status": str(status)}
        if errors is not None:
            self.body["errors"] = errors


@dataclass
class Token:
    """`write`: may comment. `contents`: may resolve threads (GitHub asks for `contents: write` there)."""

    login: str
    write: bool = True
    contents: bool = True


@dataclass
class Fault:
    """The next `times` requests whose method and path match get this answer; `after` = once it was carried out.

    With `hold` there is no answer until that is set, or none at all; `reached` is set when the request is there.
    """

    match: str
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after: bool = False
    hold: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)


@dataclass
class Thread:
    id: str
    comment_id: int
    author: str
    path: str
    line: int | None
    start_line: int | None
    body: str
    text: list[str]
    replies: int = 0
    resolved: bool = False
    resolved_by: str = ""
    outdated: bool = False


class FakeGitHub:
    def __init__(
        self,
        root: Path,
        base: str,
        head: str,
        *,
        repo: str = "team/app",
        number: int = 7,
        max_comments: int = 60,
        page_size: int = 100,
        tokens: dict[str, Token] | None = None,
        large_files: tuple[str, ...] = (),
    ) -> None:
        self.root, self.repo, self.number = root, repo, number
        self.max_comments, self.page_size, self.large_files = max_comments, page_size, large_files
        self.tokens = tokens or {
            "token-bot": Token("github-actions[bot]"),
            "token-no-contents": Token("github-actions[bot]", contents=False),
            "token-read": Token("github-actions[bot]", write=False, contents=False),
            "token-human": Token("mallory"),
        }
        self.base, self.head = self.git("rev-parse", base).strip(), self.git("rev-parse", head).strip()
        self.threads: list[Thread] = []
        self.reviews: list[dict[str, Any]] = []
        self.comments: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []
        self.lock = threading.Lock()
        self.next_id = 3_000_000_000  # more than 32 bits hold, as the real ones
        self.pending: set[str] = set()  # who has a review that is not submitted
        self._listed: tuple[str, str, list[dict[str, Any]]] = ("", "", [])
        self.url = ""
        self.head_repo = repo  # of a fork: its name
        self.open = True

    # --- the repository ---

    def git(self, *args: str) -> str:
        env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(["git", *args], cwd=self.root, env=env, check=True, capture_output=True)
        return done.stdout.decode("utf-8", "replace")

    def files(self) -> list[dict[str, Any]]:
        """As `GET /pulls/N/files` lists them: the patch starts at the first hunk, and large ones have none."""
        if self._listed[:2] == (self.base, self.head):
            return [{name: value for name, value in row.items() if name != "patch" or row["filename"] not in self.large_files} for row in self._listed[2]]
        self._listed = (self.base, self.head, self._read_files())
        return self.files()

    def _read_files(self) -> list[dict[str, Any]]:
        raw = self.git("-c", "core.quotePath=false", "diff", "-M", "--full-index", f"{self.base}...{self.head}")
        found = []
        for part in re.split(r"(?m)^(?=diff --git )", raw)[1:]:
            head, at, hunks = part.partition("\n@@ ")
            new = re.search(r"(?m)^\+\+\+ b/(.*?)\t?$", head)
            old = re.search(r"(?m)^--- a/(.*?)\t?$", head)
            moved = re.search(r"(?m)^rename to (.*)$", head), re.search(r"(?m)^rename from (.*)$", head)
            name = (new or moved[0] or old)
            if name is None:
                name = re.search(r"^diff --git a/.* b/(.*)$", head, re.M)
            status = "added" if "\nnew file" in head else "removed" if "\ndeleted file" in head else "renamed" if moved[0] else "modified"
            entry: dict[str, Any] = {"sha": "0" * 40, "filename": name[1], "status": status, "additions": 0, "deletions": 0, "changes": 0}
            if moved[1]:
                entry["previous_filename"] = moved[1][1]
            if at:
                entry["patch"] = f"@@ {hunks}".rstrip("\n")
            found.append(entry)
        return found

    def hunks(self, path: str) -> list[range] | None:
        """New-side lines of each hunk; None for a file that the pull request does not touch."""
        for entry in self.files():
            if entry["filename"] == path:
                rows = HUNK.findall(entry.get("patch", ""))
                return [range(int(a), int(a) + (int(n) if n else 1)) for a, n in rows]
        return None

    def lines(self, path: str, start: int, end: int) -> list[str]:
        return self.git("show", f"{self.head}:{path}").splitlines()[start - 1 : end]

    def push(self, head: str) -> None:
        """The branch moves, by a push or a forced one; threads follow their lines, or are outdated."""
        self.head = self.git("rev-parse", head).strip()
        for thread in self.threads:
            hunks = self.hunks(thread.path)
            at = self._find(thread) if hunks is not None else None
            shown = at is not None and any(at in hunk for hunk in hunks or [])
            thread.line, thread.outdated = (at, False) if shown else (None, True)

    def _find(self, thread: Thread) -> int | None:
        try:
            lines = self.git("show", f"{self.head}:{thread.path}").splitlines()
        except subprocess.CalledProcessError:
            return None
        size = len(thread.text)
        places = [n for n in range(len(lines) - size + 1) if lines[n : n + size] == thread.text]
        return places[0] + size if places else None

    # --- requests ---

    def answer(self, method: str, url: str, auth: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(url)
        held: Fault | None = None
        with self.lock:
            if parts.path.startswith("/__fake/"):
                return self._control(method, parts.path, body)
            said = f"{method} {parts.path} {json.dumps(body, ensure_ascii=False)}"
            held = next((fault for fault in self.faults if fault.hold and fault.times and re.search(fault.match, said)), None)
            if held:
                held.times -= 1
        if held and not held.after:
            self._wait(held)
        answer = self._answer(method, url, auth, body)
        if held and held.after:
            self._wait(held)
        return answer

    def _wait(self, fault: Fault) -> None:
        assert fault.hold is not None
        fault.reached.set()
        fault.hold.wait(30)

    def _answer(self, method: str, url: str, auth: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(url)
        with self.lock:
            after: Fault | None = None
            for fault in self.faults:
                if fault.times and not fault.hold and re.search(fault.match, f"{method} {parts.path} {json.dumps(body, ensure_ascii=False)}"):
                    fault.times -= 1
                    if fault.after:
                        after = fault
                        break
                    self.log.append((method, parts.path, fault.status))
                    return fault.status, fault.body or {"message": "fault"}, fault.headers
            try:
                status, answer, headers = self._route(method, parts.path, parse_qs(parts.query), self._token(auth), body)
            except Refused as exc:
                status, answer, headers = exc.status, exc.body, exc.headers
            if after is not None:
                status, answer, headers = after.status, after.body or {"message": "fault"}, after.headers
            self.log.append((method, parts.path, status))
            return status, answer, headers

    def _control(self, method: str, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
        if path == "/__fake/head" and method == "POST":
            self.push(body["sha"])
        threads = [vars(thread) for thread in self.threads]
        state = {"head": self.head, "threads": threads, "comments": self.comments, "reviews": self.reviews, "log": self.log}
        return 200, state, {}

    def _token(self, auth: str) -> Token:
        kind, _, value = auth.partition(" ")
        if not auth:
            raise Refused(401, "Requires authentication")
        if kind.lower() not in ("bearer", "token") or value not in self.tokens:
            raise Refused(401, "Bad credentials")
        return self.tokens[value]

    def _route(self, method: str, path: str, query: dict[str, list[str]], token: Token, body: Any) -> tuple[int, Any, dict[str, str]]:
        if path == "/graphql" and method == "POST":
            return 200, self._graphql(token, body), {}
        if path == "/user":
            if token.login.endswith("[bot]"):
                raise Refused(403, "Resource not accessible by integration")
            return 200, {"login": token.login}, {}
        home = f"/repos/{self.repo}"
        if not path.startswith(f"{home}/"):
            raise Refused(404, "Not Found")
        rest = path.removeprefix(home)
        if method == "GET" and rest == f"/pulls/{self.number}":
            return 200, self._pull(), {}
        if method == "GET" and rest == "/pulls":
            mine = query.get("head") == [f"{self.head_repo.split('/')[0]}:topic"] and query.get("state", ["open"]) == ["open"]
            return 200, [self._pull()] if mine and self.open else [], {}
        if method == "GET" and rest == f"/pulls/{self.number}/files":
            return self._page(path, query, self.files())
        writing = {
            ("POST", f"/pulls/{self.number}/reviews"): self._review,
            ("POST", f"/issues/{self.number}/comments"): self._comment,
        }
        action = writing.get((method, rest))
        edited = re.fullmatch(r"/(issues|pulls)/comments/(\d+)", rest) if method in ("PATCH", "DELETE") else None
        if action is None and edited is None:
            raise Refused(404, "Not Found")
        if not token.write:
            raise Refused(403, "Resource not accessible by integration")
        if edited is not None:
            if method == "DELETE":
                return self._delete(edited[1], int(edited[2]), token)
            return self._edit(edited[1], int(edited[2]), token, body)
        assert action is not None
        return action(token, body)

    def _pull(self) -> dict[str, Any]:
        repo = {"full_name": self.repo}
        return {
            "number": self.number, "state": "open", "changed_files": len(self.files()),
            "base": {"ref": "main", "sha": self.base, "repo": repo},
            "head": {"ref": "topic", "sha": self.head, "repo": {"full_name": self.head_repo}},
        }

    def _page(self, path: str, query: dict[str, list[str]], rows: list[Any]) -> tuple[int, Any, dict[str, str]]:
        size = min(int(query.get("per_page", ["30"])[0]), 100, self.page_size)
        page = int(query.get("page", ["1"])[0])
        last = max(1, -(-len(rows) // size))
        links = []
        if page < last:
            at = f"{self.url}{path}?per_page={size}&page="
            links = [f'<{at}{page + 1}>; rel="next"', f'<{at}{last}>; rel="last"']
        return 200, rows[(page - 1) * size : page * size], {"Link": ", ".join(links)} if links else {}

    # --- writing ---

    def _review(self, token: Token, body: Any) -> tuple[int, Any, dict[str, str]]:
        comments = body.get("comments", [])
        unknown = set(body) - {"commit_id", "body", "event", "comments"}
        if unknown or body.get("event") not in (None, "COMMENT", "APPROVE", "REQUEST_CHANGES"):
            raise Refused(422, "Invalid request.", [f"{sorted(unknown)} are not permitted keys"])
        if body.get("event") in ("COMMENT", "REQUEST_CHANGES") and not body.get("body"):
            raise Refused(422, "Unprocessable Entity", ["Could not create a review with an empty body"])
        if len(body.get("body") or "") > BODY_LIMIT:
            raise Refused(422, "Unprocessable Entity", ["Body is too long (maximum is 65536 characters)"])
        if body.get("commit_id", self.head) != self.head and not self._in_pull(body["commit_id"]):
            raise Refused(422, "Unprocessable Entity", ["Commit is not part of the pull request"])
        if token.login in self.pending:
            raise Refused(422, "Unprocessable Entity", ["User can only have one pending review per pull request"])
        if len(comments) > self.max_comments:
            raise Refused(422, "Unprocessable Entity", ["Review comments is invalid and Review threads is invalid"])
        for comment in comments:
            self._check(comment)
        review = {"id": self._new_id(), "body": body.get("body"), "author": token.login, "comments": len(comments)}
        review["html_url"] = f"{self.url}/{self.repo}/pull/{self.number}#pullrequestreview-{review['id']}"
        self.reviews.append(review)
        for comment in comments:
            self._thread(token, comment)
        return 200, {"id": review["id"], "html_url": f"{self.url}/{self.repo}/pull/{self.number}#pullrequestreview-{review['id']}"}, {}

    def _in_pull(self, commit: object) -> bool:
        return str(commit) in self.git("rev-list", f"{self.base}..{self.head}").split()

    def _check(self, comment: dict[str, Any]) -> None:
        """All of a review is refused for one comment, and nothing says which."""
        unknown = set(comment) - {"path", "body", "line", "side", "start_line", "start_side"}
        if unknown:
            raise Refused(422, "Invalid request.", [f"{sorted(unknown)} are not permitted keys"])
        text = comment.get("body") or ""
        if not text.strip():
            raise Refused(422, "Unprocessable Entity", ["Pull request review thread body can't be blank"])
        if len(text) > BODY_LIMIT:
            raise Refused(422, "Unprocessable Entity", ["Pull request review thread body is too long (maximum is 65536 characters)"])
        hunks = self.hunks(comment["path"])
        if hunks is None:
            raise Refused(422, "Unprocessable Entity", [f"Pull request review thread path is invalid and {BLANK}"])
        if comment.get("side", "RIGHT") != "RIGHT" or comment.get("start_side", "RIGHT") != "RIGHT":
            raise Refused(422, "Unprocessable Entity", ["Pull request review thread side is not supported by this fake"])
        line, start = comment.get("line"), comment.get("start_line")
        hunk = next((hunk for hunk in hunks if line in hunk), None)
        if hunk is None:
            raise Refused(422, "Unprocessable Entity", [f"Pull request review thread line must be part of the diff and {BLANK}"])
        if start is not None and start >= line:
            raise Refused(422, "Unprocessable Entity", ["Pull request review thread start line must precede the end line."])
        if start is not None and start not in hunk:
            raise Refused(422, "Unprocessable Entity", ["Pull request review thread start line must be part of the same hunk as the line."])

    def _thread(self, token: Token, comment: dict[str, Any]) -> None:
        line, start = comment["line"], comment.get("start_line")
        number = self._new_id()
        text = self.lines(comment["path"], start or line, line)
        self.threads.append(Thread(f"PRRT_{number}", number, token.login, comment["path"], line, start, comment["body"], text))

    def _comment(self, token: Token, body: Any) -> tuple[int, Any, dict[str, str]]:
        self._check_body("IssueComment", body)
        row = {"id": self._new_id(), "body": body["body"], "author": token.login}
        row["html_url"] = f"{self.url}/{self.repo}/pull/{self.number}#issuecomment-{row['id']}"
        self.comments.append(row)
        return 201, {"id": row["id"], "html_url": row["html_url"], "body": row["body"]}, {}

    def _edit(self, kind: str, number: int, token: Token, body: Any) -> tuple[int, Any, dict[str, str]]:
        self._check_body("IssueComment" if kind == "issues" else "PullRequestReviewComment", body)
        if kind == "issues":
            row = next((row for row in self.comments if row["id"] == number), None)
            if row is None:
                raise Refused(404, "Not Found")
            if row["author"] != token.login:
                raise Refused(403, "Resource not accessible by integration")
            row["body"], row["editor"] = body["body"], token.login
            return 200, {"id": row["id"], "html_url": row["html_url"], "body": row["body"]}, {}
        thread = next((thread for thread in self.threads if thread.comment_id == number), None)
        if thread is None:
            raise Refused(404, "Not Found")
        if thread.author != token.login:
            raise Refused(403, "Resource not accessible by integration")
        thread.body = body["body"]
        return 200, {"id": number, "html_url": f"{self.url}/x#discussion_r{number}", "body": thread.body}, {}

    def _delete(self, kind: str, number: int, token: Token) -> tuple[int, Any, dict[str, str]]:
        rows = [(row["author"], row["id"]) for row in self.comments] if kind == "issues" else [(thread.author, thread.comment_id) for thread in self.threads]
        author = next((author for author, own in rows if own == number), None)
        if author is None:
            raise Refused(404, "Not Found")
        if author != token.login:
            raise Refused(403, "Resource not accessible by integration")
        self.comments = [row for row in self.comments if row["id"] != number]
        self.threads = [thread for thread in self.threads if thread.comment_id != number]  # goes with its last comment
        return 204, b"", {}

    def _check_body(self, resource: str, body: Any) -> None:
        text = body.get("body") or ""
        if not text.strip():
            raise Refused(422, "Validation Failed", [{"resource": resource, "code": "missing_field", "field": "body"}])
        if len(text) > BODY_LIMIT:
            message = "Body is too long (maximum is 65536 characters)"
            raise Refused(422, "Validation Failed", [{"resource": resource, "code": "unprocessable", "field": "data", "message": message}])

    def _new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    # --- GraphQL ---

    def _graphql(self, token: Token, body: Any) -> dict[str, Any]:
        query, given = body["query"], body.get("variables", {})
        if "resolveReviewThread" in query:
            return self._resolve(token, given["id"])
        found = f"{given['owner']}/{given['name']}" == self.repo and given["number"] == self.number
        if not found:
            message = f"Could not resolve to a Repository with the name '{given['owner']}/{given['name']}'."
            return {"data": {"repository": None}, "errors": [{"type": "NOT_FOUND", "message": message}]}
        unknown = set(re.findall(r"[A-Za-z]+", re.sub(r"\$\w+(:\w+!?)?", "", query))) - FIELDS
        if unknown:
            message = f"Field '{sorted(unknown)[0]}' doesn't exist on type 'PullRequest'"
            return {"errors": [{"path": ["query"], "extensions": {"code": "undefinedField"}, "message": message}]}
        rows = [self._node(thread, token) for thread in self.threads] if "reviewThreads" in query else [
            {
                "fullDatabaseId": str(row["id"]), "body": row["body"], "url": row["html_url"], "viewerDidAuthor": row["author"] == token.login,
                "author": {"login": row["author"]}, "editor": {"login": row["editor"]} if "editor" in row else None,
            }
            for row in (self.reviews if "reviews(" in query else self.comments)
        ]
        name = "reviewThreads" if "reviewThreads" in query else "reviews" if "reviews(" in query else "comments"
        start = int(given.get("after") or 0)
        end = start + min(100, self.page_size)
        page = {"nodes": rows[start:end], "pageInfo": {"hasNextPage": end < len(rows), "endCursor": str(end)}}
        return {"data": {"repository": {"pullRequest": {name: page}}}}

    def _node(self, thread: Thread, token: Token) -> dict[str, Any]:
        comment = {
            "fullDatabaseId": str(thread.comment_id), "body": thread.body, "url": f"{self.url}/x#discussion_r{thread.comment_id}",
            "viewerDidAuthor": thread.author == token.login,
        }
        return {
            "id": thread.id, "isResolved": thread.resolved, "isOutdated": thread.outdated, "path": thread.path,
            "line": thread.line, "comments": {"totalCount": 1 + thread.replies, "nodes": [comment]},
        }

    def _resolve(self, token: Token, name: str) -> dict[str, Any]:
        if not (token.write and token.contents):
            error = {"type": "FORBIDDEN", "path": ["resolveReviewThread"], "message": "Resource not accessible by integration"}
            return {"data": {"resolveReviewThread": None}, "errors": [error]}
        thread = next((thread for thread in self.threads if thread.id == name), None)
        if thread is None:
            return {"data": {"resolveReviewThread": None}, "errors": [{"type": "NOT_FOUND", "message": f"Could not resolve to a node with the global id of '{name}'"}]}
        thread.resolved, thread.resolved_by = True, token.login
        return {"data": {"resolveReviewThread": {"thread": {"id": name, "isResolved": True}}}}

    # --- serving ---

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[str]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                size = int(self.headers.get("content-length") or 0)
                data = self.rfile.read(size)
                body = json.loads(data) if data else {}
                status, answer, headers = fake.answer(self.command, self.path, self.headers.get("authorization", ""), body)
                text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json; charset=utf-8", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                with suppress(ConnectionError):  # the client was killed
                    self.end_headers()
                    self.wfile.write(text)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            server.shutdown()
            server.server_close()
            thread.join(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--repo", "--base", "--head"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    with FakeGitHub(Path(given.repo), given.base, given.head).serving(given.port) as url:
        print(url, flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
