"""`run`, `resume`, `report`, `runs`: what a user meets, against a mock server."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from driver import Cli, Server, free_port, steady

Start = Callable[..., Server]


def test_a_tree_is_reviewed_and_reported(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server(review="*")
    report = cli.json("run", demo, "--base-url", server.url)
    assert report["verdict"] == "issues"
    coverage = report["coverage"]
    assert isinstance(coverage, dict)
    assert coverage["files_failed"] == 0
    assert coverage["files_reviewed"] == coverage["files_selected"] - coverage["files_skipped"]
    assert coverage["changed_lines"] == coverage["changed_lines_reviewed"] > 500
    findings = report["findings"]
    assert isinstance(findings, list)
    for finding in findings:
        lines = (demo / finding["path"]).read_bytes().decode("utf-8").split("\n")
        assert finding["start_line"] <= len(lines)
        if finding["source"] == "model":
            shown = finding["evidence"][0]
            quoted = shown["lines"][finding["start_line"] - shown["start_line"]]
            assert (
                "<secret:" in quoted or quoted.strip() in lines[finding["start_line"] - 1] or "\\u" in quoted
            )


def test_both_protocols_give_the_same_findings(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server(review="*")
    ollama = cli.json("run", demo, "--base-url", server.url, "--backend", "ollama")
    openai = cli.json("run", demo, "--base-url", f"{server.url}/v1", "--backend", "openai")
    assert ollama["findings"] == openai["findings"]


def test_same_input_same_answers_same_bytes(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server(review="*", slots=4, latency=0.02)
    first = cli.json("run", demo, "--base-url", server.url, "--fresh")
    second = cli.json("run", demo, "--base-url", server.url, "--fresh", "--concurrency", "4")
    third = cli.json("run", demo, "--base-url", server.url)
    dumped = [json.dumps(steady(report), ensure_ascii=False) for report in (first, second, third)]
    assert dumped[0] == dumped[1] == dumped[2]


def test_a_second_run_sends_only_what_changed(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server(review="*")
    cli.json("run", demo, "--base-url", server.url)
    before = len(server.requests())
    cli.json("run", demo, "--base-url", server.url)
    assert len(server.requests()) == before
    changed = next(demo.rglob("*.py"))
    changed.write_text(changed.read_text() + "\nEXTRA = 1\n")
    cli.json("run", demo, "--base-url", server.url)
    new = server.prompts()[before:]
    assert len(new) == 1
    assert "EXTRA = 1" in new[0]


def test_preview_asks_no_model(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server()
    done = cli.run("run", demo, "--base-url", server.url, "--preview")
    assert done.returncode == 0
    assert server.requests() == []
    assert "个请求" in done.stdout.decode()


FAULTS = ["http500", "http429", "malformed", "garbage", "empty", "reset", "truncate", "html"]


@pytest.mark.parametrize("backend", ["ollama", "openai"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_server_never_passes(
    cli: Cli, start_server: Start, tmp_path: Path, fault: str, backend: str
) -> None:
    server = start_server(fault=fault)
    repo = small_repo(tmp_path, 3)
    started = time.monotonic()
    done = cli.run(
        "run", repo, "--base-url", server.url, "--backend", backend, "--max-seconds", "20", "--format", "json"
    )
    seconds = time.monotonic() - started
    report = json.loads(done.stdout)
    assert done.returncode in (1, 4)
    assert report["verdict"] in ("incomplete", "not_reviewed")
    assert report["coverage"]["files_reviewed"] == 0
    assert seconds < 25
    units = sum(file["units"] for file in report["files"])
    if fault in ("malformed", "garbage", "empty", "html"):
        assert len(server.requests()) <= 2 * units
    text = cli.run("report", report["run_id"]).stdout.decode()
    assert "通过" not in text


def test_a_silent_server_is_left_at_the_deadline(cli: Cli, start_server: Start, tmp_path: Path) -> None:
    server = start_server(fault="hang")
    started = time.monotonic()
    done = cli.run("run", small_repo(tmp_path, 3), "--base-url", server.url, "--max-seconds", "3")
    assert done.returncode == 4
    assert time.monotonic() - started < 8
    assert "未" in done.stdout.decode()


def test_an_absent_server_is_one_clear_line(cli: Cli, demo: Path) -> None:
    started = time.monotonic()
    done = cli.run("run", demo, OLLAMA_HOST=f"127.0.0.1:{free_port()}")
    seconds = time.monotonic() - started
    assert done.returncode == 1
    assert done.stdout == b""
    assert "ollama pull qwen2.5-coder:7b" in done.stderr.decode()
    assert seconds < 3  # a bound for a busy machine; benchmarks/startup.py prints the figure


def test_a_file_that_fails_is_named_and_the_rest_is_kept(
    cli: Cli, start_server: Start, tmp_path: Path
) -> None:
    server = start_server(fault="garbage", fault_first=4)
    report = cli.json("run", small_repo(tmp_path, 6, lines=150), "--base-url", server.url, code=4)
    coverage = report["coverage"]
    assert isinstance(coverage, dict)
    assert 0 < coverage["files_failed"] < 6
    assert coverage["files_reviewed"] + coverage["files_failed"] == 6
    assert report["verdict"] == "incomplete"


def test_interrupt_leaves_a_report_and_the_resume_command(
    cli: Cli, start_server: Start, tmp_path: Path
) -> None:
    server = start_server(review="*", latency=1.0)
    repo = small_repo(tmp_path, 8, lines=150)
    extra = {
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "PYTHONIOENCODING": "gbk",
    }
    process = cli.start("run", str(repo), "--base-url", server.url, "--concurrency", "1", **extra)
    assert process.stderr is not None
    seen = b""
    while "2/" not in seen.decode("gbk", "replace"):
        line = process.stderr.readline()
        assert line, seen.decode("gbk", "replace")
        seen += line
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "未完成" in out.decode("gbk")
    command = re.search(r"review-agent (resume \S+)", err.decode("gbk"))
    assert command is not None
    assert seen.decode("gbk").count("发现 [") >= 2
    answered = [row for row in server.requests() if row.get("status") == 200]
    server.configure(latency=0.0)
    done = cli.run(*command.group(1).split(), "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    hashes = [row["sha"] for row in server.requests() if row.get("status") == 200]
    assert len(hashes) == len(set(hashes))
    assert len(hashes) > len(answered)


def test_term_ends_with_143(cli: Cli, start_server: Start, tmp_path: Path) -> None:
    server = start_server(fault="hang")
    process = cli.start("run", small_repo(tmp_path, 2), "--base-url", server.url)
    assert process.stderr is not None
    while "计划" not in process.stderr.readline().decode():
        pass
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [("--max-files", "2", "limit_max_files"), ("--max-tokens", "4000", "limit_max_tokens")],
)
def test_limits_are_incomplete_and_say_so(
    cli: Cli, start_server: Start, tmp_path: Path, limit: str, value: str, reason: str
) -> None:
    server = start_server()
    report = cli.json(
        "run", small_repo(tmp_path, 6, lines=150), "--base-url", server.url, limit, value, code=4
    )
    reasons = {file["reason_key"] for file in report["files"] if file["status"] == "failed"}  # type: ignore[attr-defined]
    assert reasons == {reason}
    usage = report["usage"]
    assert isinstance(usage, dict)
    if limit == "--max-tokens":
        assert usage["prompt_tokens"] + usage["completion_tokens"] <= int(value)


def test_the_next_run_with_a_limit_comes_further(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server(review="*")
    seen: list[int] = []
    ids: set[object] = set()
    for _ in range(3):
        report = cli.json("run", demo, "--base-url", server.url, "--max-files", "4", code=4)
        coverage = report["coverage"]
        assert isinstance(coverage, dict)
        seen.append(coverage["files_reviewed"])
        ids.add(report["run_id"])
    assert seen == [4, 8, 12]
    assert len(ids) == 1  # each goes on where the one before it had to stop


def test_fail_on_wins_over_incomplete(cli: Cli, start_server: Start, tmp_path: Path) -> None:
    server = start_server(review="*")
    repo = small_repo(tmp_path, 4, lines=150)
    done = cli.run("run", repo, "--base-url", server.url, "--max-files", "2", "--fail-on", "medium")
    assert done.returncode == 3
    done = cli.run("run", repo, "--base-url", server.url, "--max-files", "2", "--fail-on", "high", "--fresh")
    assert done.returncode == 4


def test_nothing_to_review_needs_no_engine(cli: Cli, tmp_path: Path) -> None:
    repo = small_repo(tmp_path, 1)
    git(repo, "init", "-q")
    git(repo, "add", ".")
    git(repo, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one")
    report = cli.json("run", repo, "--staged", OLLAMA_HOST=f"127.0.0.1:{free_port()}")
    assert report["verdict"] == "not_reviewed"
    assert "通过" not in cli.run("run", repo, "--staged", OLLAMA_HOST="127.0.0.1:1").stdout.decode()


def test_a_remote_endpoint_is_refused(cli: Cli, demo: Path) -> None:
    done = cli.run("run", demo, "--base-url", "http://192.0.2.1:11434")
    assert done.returncode in (1, 2)
    assert "allowed_hosts" in done.stderr.decode()


def test_report_renders_again_without_a_model(cli: Cli, start_server: Start, demo: Path) -> None:
    server = start_server(review="*")
    done = cli.run("run", demo, "--base-url", server.url, "--format", "markdown")
    run = re.search(r"\d{8}-\d{6}-[0-9a-f]{6}", cli.run("runs", "list").stdout.decode())
    assert run is not None
    server.stop()
    assert cli.run("report", run.group(), "--format", "markdown").stdout == done.stdout
    assert cli.run("report", run.group(), "--format", "sarif").returncode == 0


def test_a_killed_run_still_has_a_report(cli: Cli, start_server: Start, tmp_path: Path) -> None:
    server = start_server(review="*", latency=0.5)
    process = cli.start("run", small_repo(tmp_path, 6, lines=150), "--base-url", server.url)
    assert process.stderr is not None
    while "1/" not in process.stderr.readline().decode():
        pass
    process.kill()
    process.communicate()
    row = cli.run("runs", "list").stdout.decode().split()
    text = cli.run("report", row[0], "--format", "json")
    report = json.loads(text.stdout)
    assert report["verdict"] == "incomplete"
    assert report["coverage"]["files_reviewed"] >= 1


def small_repo(tmp_path: Path, files: int, lines: int = 40) -> Path:
    """Python files that are all different and without findings of any check."""
    repo = tmp_path / "small"
    repo.mkdir()
    for number in range(files):
        body = "".join(f"def f{number}_{at}(value):\n    return value + {at}\n\n" for at in range(lines))
        (repo / f"module_{number}.py").write_text(body)
    return repo


def git(repo: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=repo, check=True, capture_output=True)


def test_resume_goes_past_the_limit_that_stopped_the_run(
    cli: Cli, start_server: Start, tmp_path: Path
) -> None:
    server = start_server(review="*")
    repo = small_repo(tmp_path, 4)
    first = cli.json("run", repo, "--base-url", server.url, "--max-files", "1", code=4)
    assert first["verdict"] == "incomplete"
    report = cli.json("resume", str(first["run_id"]))
    assert report["run_id"] == first["run_id"]
    assert report["coverage"]["files_reviewed"] == 4  # type: ignore[index]
    hashes = [row["sha"] for row in server.requests()]
    assert len(hashes) == len(set(hashes))


def test_a_change_is_the_whole_repositorys_from_any_folder(
    cli: Cli, start_server: Start, tmp_path: Path
) -> None:
    server = start_server()
    repo = small_repo(tmp_path, 1)
    git(repo, "init", "-q")
    (repo / "deep").mkdir()
    git(repo, "add", ".")
    done = cli.run("run", "--staged", "--base-url", server.url, "--format", "json", cwd=repo / "deep")
    assert [file["path"] for file in json.loads(done.stdout)["files"]] == ["module_0.py"]
    done = cli.run("run", ".", "--staged", "--base-url", server.url, "--format", "json", cwd=repo / "deep")
    report = json.loads(done.stdout)
    assert (report["files"], report["target"]) == ([], "staged:deep/")


def test_a_fresh_run_is_resumed_with_its_own_results_only(
    cli: Cli, start_server: Start, tmp_path: Path
) -> None:
    server = start_server(review="*")
    repo = small_repo(tmp_path, 3)
    cli.json("run", repo, "--base-url", server.url)
    asked = len(server.requests())
    stopped = cli.json("run", repo, "--base-url", server.url, "--fresh", "--max-files", "1", code=4)
    fresh = len(server.requests()) - asked
    assert fresh >= 1
    cli.json("resume", str(stopped["run_id"]))
    assert len(server.requests()) > asked + fresh
