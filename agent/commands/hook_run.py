"""`hook run pre-push`: a review for each pushed ref, and what git is told: go on, or do not."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from review_agent.agent.cli import guarded
from review_agent.agent.config import Loaded, load, user_config_file
from review_agent.agent.coverage import COULD_NOT, FINDINGS, LIMITS
from review_agent.agent.display import inline
from review_agent.agent.errors import GitError, ModelUnavailable
from review_agent.agent.hook_text import findings_of, result_of
from review_agent.agent.models import FileStatus, Report, Severity
from review_agent.agent.push_range import Span, spans
from review_agent.agent.pushed import Push, from_pre_commit, read_push
from review_agent.agent.settings import OnError
from review_agent.agent.target import Target
from review_agent.prompts import say
from review_agent.tools.git import EMPTY_TREES, Location, Repository

MAX_SECONDS = 120  # for all refs of a push together, where nobody says otherwise
MOST_TOLD = 10  # refs for which the same reason is told one by one
MOST_LATE = 3  # refs that are begun, for a second each, when time is up: the next push goes on with them
_TO_CLOSE = 3  # seconds that a review may take beyond its limit to end by itself
_SHOWN_LINE = 200
_LOGIN = re.compile(r"//[^/@]*@")  # of an address; it may be a password
_INTERRUPTED = (129, 130, 143)
_GO_ON, _END = 0, 1


def pre_push(
    remote: str, lines: str, flags: Mapping[str, object], environ: Mapping[str, str], *, lang: str
) -> int:
    """0 lets the push go on, 1 ends it. `lines` are all of git's; `remote` is a name or an address."""
    loaded: list[Loaded] = []

    def read() -> None:  # the user's; what a repository asks for is read from the base of each range
        user = user_config_file()
        given = load(flags=flags, environ=environ, user_file=user, repo_text=None, repo_name="")
        loaded.append(given)

    if guarded(read, lang):
        teller = Teller(lang)
        teller.line("bad_config")
        teller.line("way_out")
        return _END
    return PrePush(_LOGIN.sub("//", remote), dict(flags), environ, loaded[0]).answer(lines)


@dataclass(frozen=True, slots=True)
class Teller:
    """Says things on stderr: git shows them to who pushes."""

    lang: str

    def line(self, key: str, **fields: object) -> None:
        self._echo("line", say(self.lang, "hook", key, **fields))

    def detail(self, key: str, **fields: object) -> None:
        self._echo("detail", say(self.lang, "hook", key, **fields))

    def _echo(self, form: str, text: str) -> None:
        click.echo(inline(say(self.lang, "hook", form, text=text)), err=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the review of one ref went: the exit code that `run` would have had, and its report, if any."""

    code: int
    on_error: OnError
    fail_on: Severity | None = None
    report: Report | None = None

    @property
    def failed(self) -> bool:
        return self.code not in (0, FINDINGS, *_INTERRUPTED)


@dataclass
class PrePush:
    remote: str
    flags: dict[str, object]
    environ: Mapping[str, str]
    loaded: Loaded
    clock: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.settings = self.loaded.settings
        self.tell = Teller(self.settings.lang)
        stated = self.loaded.origins["max_seconds"] != "default"
        self.seconds = self.settings.max_seconds if stated else MAX_SECONDS  # 0 = no limit
        self.root = Path.cwd()
        self.told: Counter[str] = Counter()  # refs for each reason not to review one

    def answer(self, lines: str) -> int:
        push = read_push(self.remote, lines)
        found: list[Span] = []
        code = guarded(lambda: found.extend(self._plan(push)), self.settings.lang)
        outcomes = [self._failure(code)] if code else []
        for line in push.malformed:
            self.tell.line("malformed", line=line[:_SHOWN_LINE])
            outcomes.append(self._failure(COULD_NOT))
        outcomes += self._all(found)
        return self._decide(outcomes)

    def _all(self, found: list[Span]) -> Iterator[Outcome]:
        dead = False  # without an engine the next would fail as well, and say the same again
        late = 0
        for span in found:
            late += bool(span.base and self.seconds and self._left() <= 0)
            why = "not_tried" if dead else "no_time" if late > MOST_LATE else ""
            outcome = self._one(replace(span, problem=why) if span.base else span)
            yield outcome
            if outcome.code in _INTERRUPTED:
                break
            dead = dead or (bool(span.base) and not why and outcome.code == COULD_NOT and not outcome.report)
        for why, count in self.told.items():
            if count > MOST_TOLD:
                self.tell.line("more_refs", count=count - MOST_TOLD, why=why)

    def _left(self) -> float:
        return self.seconds - (time.monotonic() - self.clock)

    def _failure(self, code: int) -> Outcome:
        return Outcome(code, self.settings.on_error)

    # --- what to review ---

    def _plan(self, push: Push) -> list[Span]:
        location = self._location()
        self.root = location.root
        with Repository(location) as repo:
            if not push.refs and not push.malformed:
                branch = self.environ.get("PRE_COMMIT_LOCAL_BRANCH", "")
                head = "" if "PRE_COMMIT_TO_REF" in self.environ else repo.resolve(branch)
                push = from_pre_commit(self.environ, head) or push
                self.remote = _LOGIN.sub("//", push.remote)
            return [self._carried(repo, span) for span in spans(repo, push)]

    def _location(self) -> Location:
        """The repository that git pushes from: of the current folder, or of the work tree given to git."""
        stated = self.environ.get("GIT_DIR")
        found = None
        for folder in (Path.cwd(), Path(self.environ.get("GIT_WORK_TREE") or ".").absolute()):
            target = Target("tree", str(folder), allowed=self.settings.allowed_directories)
            location = target.repository()
            if location and (not stated or Path(stated).resolve() == location.git_dir.resolve()):
                return location
            found = found or location
        if not stated:
            raise GitError("hook.no_repository", path=str(Path.cwd()))
        if found is None:
            raise GitError("hook.bare", path=str(Path(stated).resolve()))
        raise GitError("hook.other_repository", git_dir=stated)

    def _carried(self, repo: Repository, span: Span) -> Span:
        if not span.base:
            return span
        from review_agent.agent.push_carry import carried
        from review_agent.agent.session import open_store, repository_key

        store = open_store(self.settings, self.environ)
        if store is None:
            return span
        with store:
            key = repository_key(self._target())
            return carried(repo, store, span, repository=key, pushed=self._pushed(span))

    def _target(self, base: str = "", head: str = "") -> Target:
        kind = "range" if base else "tree"
        return Target(kind, str(self.root), base, head, allowed=self.settings.allowed_directories)

    def _pushed(self, span: Span) -> str:
        return f"{self.remote} {span.ref.remote_ref}"

    # --- one ref ---

    def _one(self, span: Span) -> Outcome:
        name = span.ref.name
        if span.skip or span.problem:
            why = say(self.settings.lang, "hook_ranges", span.skip or span.problem, **span.fields)
            self.told[why] += 1
            if self.told[why] <= MOST_TOLD:
                self.tell.line("skip" if span.skip else "problem", name=name, why=why)
                if span.problem and span.base:
                    self.tell.detail("later", command=f"`{self._command(span)}`")
            return Outcome(0, "allow") if span.skip else self._failure(COULD_NOT)
        how = say(self.settings.lang, "hook_ranges", span.how, **span.fields)
        self.tell.line("start", name=name, how=how, base=span.base[:12], head=span.head[:12])
        if span.carried:
            self.tell.detail("carried", base=span.base[:12])
        outcome = self._review(span)
        self._report(span, outcome)
        return outcome

    def _review(self, span: Span) -> Outcome:
        import asyncio

        from review_agent.agent.commands.run import Job, execute, make_job

        reports: list[Report] = []
        settings = [self.settings]
        flags = dict(self.flags)
        if self.seconds:
            flags["max_seconds"] = max(1, round(self._left()))

        async def bounded(job: Job) -> int:
            """A review ends at its limit by itself, but a server may accept a connection and say nothing."""
            until = job.settings.max_seconds + _TO_CLOSE if self.seconds else None
            try:
                async with asyncio.timeout(until) as limit:
                    return await execute(job)
            except TimeoutError as exc:
                if not limit.expired():
                    raise
                raise ModelUnavailable("hook.out_of_time", seconds=job.settings.max_seconds) from exc

        def action() -> int:
            job = make_job(self._target(span.base, span.head), flags, self.environ, given={})
            settings.append(job.settings)
            return asyncio.run(bounded(replace(job, outputs=[], pushed=self._pushed(span), reports=reports)))

        code = guarded(action, self.settings.lang)
        return Outcome(code, settings[-1].on_error, settings[-1].fail_on, reports[0] if reports else None)

    def _report(self, span: Span, outcome: Outcome) -> None:
        report = outcome.report
        if report is None:
            self.tell.detail("later", command=f"`{self._command(span)}`")
            return
        self.tell.detail("result", **result_of(report))
        rows, more = findings_of(report)
        for row in rows:
            self.tell.detail("finding", **row)
        if more:
            self.tell.detail("more", count=more)
        kept = self.settings.checkpoint_enabled
        if rows:
            command = f"review-agent report {report.run_id}" if kept else self._command(span)
            self.tell.detail("see_report", command=f"`{command}`")
        failed = [file for file in report.files if file.status is FileStatus.FAILED]
        if failed:
            limited = report.verdict_reason in LIMITS or any(file.reason in LIMITS for file in failed)
            command = f"review-agent resume {report.run_id}" if kept else self._command(span)
            key = "left_limit" if limited and kept else "left_failed"
            self.tell.detail(key, count=len(failed), command=f"`{command}`")

    def _command(self, span: Span) -> str:
        base = (
            span.base if span.base in EMPTY_TREES.values() else span.base[:12]
        )  # git knows it by its whole name only
        return f"review-agent run --from {base} --to {span.head[:12]}"

    # --- what git is told ---

    def _decide(self, outcomes: list[Outcome]) -> int:
        if any(each.code in _INTERRUPTED for each in outcomes):
            self.tell.line("interrupted")
            return _END
        blocking = [each for each in outcomes if each.code == FINDINGS and each.fail_on is not None]
        failed = [each for each in outcomes if each.failed]
        stopping = [each for each in failed if each.on_error == "block"]
        if blocking:
            strictest = max((each.fail_on for each in blocking if each.fail_on), key=lambda each: each.rank)
            severity = say(self.settings.lang, "severity", strictest)
            self.tell.line("blocked", severity=severity, fail_on=str(strictest))
        if failed:
            self.tell.line("failed_blocked" if stopping else "failed_allowed")
        if blocking or stopping:
            self.tell.line("way_out")
            return _END
        if any(each.report is not None and findings_of(each.report)[0] for each in outcomes):
            self.tell.line("advisory")
        return _GO_ON
