"""`audit [RUN]`: what left this machine in a run, and which tools its agent called."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from review_agent.agent.cli import make_command
from review_agent.agent.commands.runs import opened, status_of
from review_agent.agent.errors import StoreError, UsageError
from review_agent.checkpoints.store import RunRow, Store
from review_agent.prompts import messages, say

if TYPE_CHECKING:
    from review_agent.agent.audit import Audit, Call, Total
    from review_agent.agent.models import Egress

_DAMAGED = 1
# Columns: their titles stand in `[audit]`, each behind `title_`.
_TOTAL = ("host", "path", "count", "bytes", "redactions")
_EGRESS = ("time", "host", "path", "lines", "bytes", "redactions", "model", "turn")
_CALL = ("time", "turn", "tool", "decision", "reason", "error", "seconds", "bytes_out", "arguments", "call")


def command(lang: str) -> click.Command:
    @click.pass_obj
    def audit(environ: Mapping[str, str], /, run: str | None, as_json: bool) -> int:
        from review_agent.agent.audit import document, masked_audit, read_audit
        from review_agent.agent.display import json_text
        from review_agent.agent.output import print_json, print_text

        with opened(environ) as store:
            row = _wanted(store, run, environ)
            found = masked_audit(read_audit(store, row.run_id))
            status = status_of(row, store)
        if as_json:
            print_json(json_text(json.dumps(document(found), ensure_ascii=False, indent=2)) + "\n")
        else:
            print_text("\n".join(report(found, row, status, lang)) + "\n")
        return 0 if found.intact else _DAMAGED

    params: list[click.Parameter] = [
        click.Argument(["run"], required=False, metavar="[RUN]"),
        click.Option(["--json", "as_json"], is_flag=True, help=say(lang, "help", "json")),
    ]
    return make_command(lang, "audit", params, audit)


def _wanted(store: Store, run: str | None, environ: Mapping[str, str]) -> RunRow:
    """A run whose row is damaged, too: its ledgers stand for themselves."""
    if run is not None:
        try:
            return store.run(run, believed=False)
        except StoreError as exc:
            if exc.key in ("run_unknown", "run_ambiguous"):
                raise UsageError(exc.key, **exc.fields) from exc
            raise
    from review_agent.agent.session import repository_key, trusting
    from review_agent.agent.target import Target

    here = repository_key(trusting(Target("tree", str(Path.cwd())), environ))
    rows = store.runs(limit=1, repository=here)
    if not rows:
        raise UsageError("audit.no_runs", path=here)
    return rows[0]


# --- for people ---


def report(audit: Audit, row: RunRow, status: str, lang: str) -> Iterator[str]:
    """Lines for a terminal. What others chose is made harmless here."""
    from review_agent.agent.display import path_text
    from review_agent.tools.redact import mask

    label = path_text(mask(row.label))
    yield say(
        lang, "audit", "run", run=path_text(audit.run_id), status=say(lang, "runs", status), target=label
    )
    yield ""
    yield from _egress_lines(audit, lang)
    yield ""
    yield from _call_lines(audit, lang)


def _egress_lines(audit: Audit, lang: str) -> Iterator[str]:
    from review_agent.agent.audit import totals

    rows = audit.egress
    if not audit.egress_intact:
        yield say(lang, "audit", "egress_damaged")
    if not rows:
        yield say(lang, "audit", "egress_none")
        return
    size, redactions = sum(row.bytes for row in rows), sum(row.redactions for row in rows)
    yield say(lang, "audit", "egress", count=len(rows), bytes=size, redactions=redactions)
    yield from _table(lang, _TOTAL, [_total_cells(total, lang) for total in totals(rows)])
    yield say(lang, "audit", "each")
    yield from _table(lang, _EGRESS, [_egress_cells(row, lang) for row in rows])


def _total_cells(total: Total, lang: str) -> list[str]:
    name = say(lang, "audit", "all") if total.path is None else _name(total.path, lang)
    return [total.host, name, str(total.count), str(total.bytes), str(total.redactions)]


def _egress_cells(row: Egress, lang: str) -> list[str]:
    counts = [str(row.bytes), str(row.redactions)]
    return [row.time, row.host, _name(row.path, lang), row.lines, *counts, row.model, _turn(row.turn)]


def _call_lines(audit: Audit, lang: str) -> Iterator[str]:
    if not audit.calls_intact:
        yield say(lang, "audit", "calls_damaged")
    if not audit.calls:
        yield say(lang, "audit", "calls_none")
        return
    counts = Counter(call.decision for call in audit.calls)
    decided = {name: counts[name] for name in ("allowed", "denied", "unknown")}
    yield say(lang, "audit", "calls", count=len(audit.calls), **decided)
    yield from _table(lang, _CALL, [_call_cells(call, lang) for call in audit.calls])


def _call_cells(call: Call, lang: str) -> list[str]:
    decision = say(lang, "audit", call.decision)
    # A reason is a sentence, or the key of one without fields.
    reason = messages(lang)["reasons"].get(call.reason, call.reason)
    failed = say(lang, "audit", "yes") if call.error else ""
    what = [call.time, _turn(call.turn), call.tool, decision, reason, failed]
    return [*what, f"{call.seconds:.2f}", str(call.bytes_out), call.arguments_sha256, call.tool_use_id]


def _turn(turn: int) -> str:
    return str(turn) if turn else ""


def _table(lang: str, titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    from review_agent.agent.display import aligned, path_text

    head = [say(lang, "audit", f"title_{title}") for title in titles]
    for line in aligned([head, *([path_text(cell) or "-" for cell in row] for row in rows)]):
        yield f"  {line}"


def _name(path: str, lang: str) -> str:
    return path or say(lang, "audit", "no_file")
