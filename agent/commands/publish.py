"""`publish RUN --github --pr N`: a stored run's report as a review of a pull request."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import make_command
from review_agent.agent.errors import ForgeDenied, TargetError, UsageError
from review_agent.agent.markers import Checkpoint
from review_agent.agent.models import Report
from review_agent.agent.progress import Progress
from review_agent.prompts import say

if TYPE_CHECKING:
    from review_agent.agent.publish import Published
    from review_agent.tools.forges.github import GitHub

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MAX_REPORT = 4 * 1024 * 1024  # bytes of a report from a file


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A report, and the commit that it is about."""

    report: Report
    head: str
    checkpoint: Checkpoint | None = None


def command(lang: str) -> click.Command:
    def help_of(key: str) -> str:
        return say(lang, "publish_help", key)

    params: list[click.Parameter] = [
        click.Argument(["run"], metavar="RUN"),
        click.Option(["--github"], is_flag=True, help=help_of("github")),
        click.Option(["--pr", "pr"], metavar="N", help=help_of("pr")),
        click.Option(["--repo", "repo"], metavar="OWNER/NAME", help=help_of("repo")),
        click.Option(["--head", "head"], metavar="SHA", help=help_of("head")),
        click.Option(["--dry-run", "dry_run"], is_flag=True, help=help_of("dry_run")),
    ]
    return make_command(lang, "publish", params, _callback)


@click.pass_obj
def _callback(environ: Mapping[str, str], /, **given: object) -> int:
    from review_agent.agent.reports.masked import masked

    if not given["github"]:
        raise UsageError("errors_forge.which_forge")
    number = pull_number(given["pr"])
    reviewed = _load(str(given["run"]), str(given["head"] or ""), number, environ)
    reviewed = replace(reviewed, report=masked(reviewed.report))
    progress = Progress(sys.stderr, reviewed.report.lang)
    try:
        hub = open_forge(str(given["repo"] or ""), number, environ)
    except ForgeDenied as exc:  # no token
        if given["dry_run"]:
            raise
        return _without(reviewed.report, "no_token", exc, environ, progress)
    return asyncio.run(_publish(hub, reviewed, environ, progress, dry=bool(given["dry_run"])))


def pull_number(value: object) -> int:
    text = str(value or "")
    if not (text.isascii() and text.isdigit() and int(text[:10]) > 0 and len(text) < 10):
        raise UsageError("errors_forge.pull_number", value=text[:40])
    return int(text)


def open_forge(repository: str, number: int, environ: Mapping[str, str]) -> GitHub:
    """The client of one pull request; this process reaches nothing else from now on.

    The token comes from the environment only: a command line is seen by every user of the machine. Raises
    ForgeDenied where there is none.
    """
    from review_agent.tools.endpoints import confine
    from review_agent.tools.forges.github import GitHub, api_endpoint
    from review_agent.tools.proxies import peer_of, proxy_of

    repository = repository or environ.get("GITHUB_REPOSITORY", "")
    if not repository:
        raise UsageError("errors_forge.no_repository")
    endpoint = api_endpoint(environ.get("GITHUB_API_URL", ""))
    token = (environ.get("GITHUB_TOKEN") or environ.get("GH_TOKEN") or "").strip()
    if not token:
        raise ForgeDenied("errors_forge.no_token")
    if not token.isascii() or not token.isprintable():
        raise UsageError("errors_forge.bad_token")
    proxy = proxy_of(endpoint, environ)
    confine([], endpoint, peer_of(proxy) if proxy else None)
    return GitHub(endpoint, repository, number, token, proxy=proxy)


async def _publish(
    hub: AbstractAsyncContextManager[GitHub],
    reviewed: Reviewed,
    environ: Mapping[str, str],
    progress: Progress,
    *,
    dry: bool,
) -> int:
    from review_agent.agent import publish

    report, lang = reviewed.report, reviewed.report.lang
    async with hub as forge:
        try:
            if dry:
                _tell_plan(await publish.preview(forge, report, reviewed.head), lang)
                return 0
            done = await publish.publish(forge, report, reviewed.head, reviewed.checkpoint)
        except ForgeDenied as exc:
            if exc.fields.get("status") != 403 or dry:
                raise
            return _without(report, "read_only", exc, environ, progress)
    _write_outputs(report, done, environ)
    _tell(done, progress, lang)
    return 0


def _without(
    report: Report, why: str, denied: ForgeDenied, environ: Mapping[str, str], progress: Progress
) -> int:
    """What a token that may only read still can: annotations and the job's summary. For runners only."""
    from review_agent.agent.display import inline
    from review_agent.agent.output import print_json
    from review_agent.agent.reports.markdown import render_markdown
    from review_agent.agent.runner import add_summary, as_annotations, is_runner, write_outputs

    if not is_runner(environ):
        raise denied
    lines, more = as_annotations(report)
    print_json("".join(f"{line}\n" for line in lines))
    summarised = add_summary(environ, render_markdown(report), say(report.lang, "publish", "cut"))
    found = len(lines) + more
    said = {"detail": inline(str(denied.fields.get("detail", "")))} if why == "read_only" else {}
    write_outputs(environ, [*_counts(0, found, 0), *_facts(report)])
    progress.text(say(report.lang, "publish", why, count=len(lines), more=more, **said))
    if not summarised:
        progress.text(say(report.lang, "publish", "no_summary"))
    return 0


def _counts(inline: int, skipped: int, failed: int) -> list[tuple[str, object]]:
    return [
        ("comments_total", inline + skipped + failed),
        ("comments_inline", inline),
        ("comments_skipped", skipped),
        ("comments_failed", failed),
    ]


def _facts(report: Report) -> list[tuple[str, object]]:
    from review_agent.agent.increment import range_of
    from review_agent.agent.models import Outcome

    found = sum(verdict.outcome is Outcome.REPORTED for verdict in report.verdicts)
    covered = f"{report.coverage.files_reviewed}/{report.coverage.files_selected}"
    mode, reason = range_of(report)
    return [
        ("findings_count", found),
        ("verdict", report.verdict.value),
        ("coverage", covered),
        ("range_mode", mode),
        ("range_reason", reason),
    ]


def _write_outputs(report: Report, done: Published, environ: Mapping[str, str]) -> None:
    from review_agent.agent.publish import whole
    from review_agent.agent.runner import write_outputs

    planned = done.plan
    skipped = len(planned.apart) + len(planned.known) + len(planned.settled)
    url = done.url if re.fullmatch(r"https?://[!-~]+", done.url) else ""
    write_outputs(
        environ,
        [
            *_counts(done.inline, skipped, len(done.refused)),
            ("summary_comment_url", url),
            *_facts(whole(report, planned)),
            ("checkpoint_after", done.checkpoint.head if done.checkpoint else ""),
        ],
    )


def _tell(done: Published, progress: Progress, lang: str) -> None:
    planned = done.plan
    progress.text(
        say(
            lang,
            "publish",
            "done",
            new=done.inline,
            known=len(planned.known) + len(planned.settled),
            apart=len(planned.apart) + len(done.refused),
            closed=done.closing.closed,
            carried=len(planned.carried),
            url=done.url,
        )
    )
    if done.refused:
        progress.text(say(lang, "publish", "some_refused", count=len(done.refused)))
    if done.closing.denied:
        progress.text(say(lang, "publish", "some_unresolved", count=done.closing.denied))
    if done.closing.left:
        progress.text(say(lang, "publish", "count_left", count=done.closing.left))


def _tell_plan(done: Published, lang: str) -> None:
    from review_agent.agent.display import path_text
    from review_agent.agent.output import print_text
    from review_agent.agent.spans import span

    planned = done.plan
    rows = [
        say(lang, "publish", "dry_row", place=f"{path_text(p.spot.path)}:{span(p.spot.start, p.spot.end)}")
        for p in planned.inline
    ]
    head = say(
        lang,
        "publish",
        "dry_run",
        new=len(planned.inline),
        known=len(planned.known) + len(planned.settled),
        apart=len(planned.apart),
        closed=len(planned.gone),
        carried=len(planned.carried),
    )
    print_text("\n".join([head, *rows]) + "\n")


# --- what to publish ---


def _load(name: str, head: str, number: int, environ: Mapping[str, str]) -> Reviewed:
    if head and not _COMMIT.fullmatch(head):
        raise UsageError("errors_forge.head_form", value=head[:80])
    if name.endswith(".json"):
        if not head:
            raise UsageError("errors_forge.head_missing", path=name)
        return Reviewed(_from_file(Path(name)), head)
    return _from_store(name, head, number, environ)


def _from_file(path: Path) -> Report:
    """A report that another job wrote: it may come from anybody. Raises TargetError, StoreError."""
    from review_agent.agent.reports.json_report import from_json

    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_REPORT + 1)
    except OSError as exc:
        raise TargetError("errors_forge.report_unreadable", path=str(path)) from exc
    if len(data) > MAX_REPORT:
        raise TargetError("errors_forge.report_too_large", path=str(path), limit=MAX_REPORT)
    return from_json(data.decode("utf-8", "replace"))


def _from_store(name: str, head: str, number: int, environ: Mapping[str, str]) -> Reviewed:
    from review_agent.agent.commands.report import rebuild
    from review_agent.agent.config import user_config_file
    from review_agent.agent.increment import checkpoint_for
    from review_agent.agent.reports.json_report import from_json
    from review_agent.agent.session import Trusted, load_settings, open_store, recorded

    store = open_store(load_settings({}, environ, Trusted()).settings, environ)
    if store is None:
        raise UsageError("checkpoints_off", file=str(user_config_file()))
    with store:
        row = store.run(name)
        report = from_json(row.report) if row.report else rebuild(row, store, environ)
    asked = recorded(row)
    if asked.kind not in ("range", "commit", "pr"):
        raise UsageError("errors_forge.not_of_commits", run=name)
    if asked.pull not in (0, number):  # of the same head, but another base: other lines, other checkpoint
        raise UsageError("errors_forge.other_pull", run=name, reviewed=asked.pull, number=number)
    if head and head != asked.head:
        raise UsageError("errors_forge.other_head", run=name, reviewed=asked.head[:12], head=head[:12])
    return Reviewed(report, asked.head, checkpoint_for(asked, report))
