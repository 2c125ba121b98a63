#!/usr/bin/env python3
"""The whole of the fault suite: `python tests/faults/all_faults.py [PART ...]` prints a Markdown table.

It takes about 25 minutes on two cores, and exits 1 when anything was lost, asked twice, or crashed. Needs
bubblewrap. `--kills N` takes another number of kills.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import agents
import crowd
import damage
import disk
import kills
import logs
import statements
import stops
from bench import ELSEWHERE, Bench, Tally, make_bench, side_by_side

from review_agent.checkpoints.faultpoint import POINTS

POINTS_HERE = tuple(point for point in POINTS if point not in ELSEWHERE)
SIZES = list(range(disk.STEP, disk.MOST + 1, disk.STEP))
AGENT_KILLS = 20  # each costs the start of two programs
Pair = list[tuple[Bench, str, float]]


@contextmanager
def pair(folder: Path, latency: float = 0.04) -> Iterator[Pair]:
    """Two benches to be used side by side, each with the report of its unbroken run and its seconds."""
    made: list[Bench] = []
    try:
        for number in range(2):
            made.append(make_bench(folder / f"bench{number}", latency=latency))
        yield [(bench, *bench.unbroken()) for bench in made]
    finally:
        for bench in made:
            bench.server.stop()


def kill_points(folder: Path, _: int) -> Tally:
    with pair(folder) as benches:
        jobs = [
            partial(kills.at_points, bench, report, POINTS_HERE[number::2], 7)
            for number, (bench, report, _) in enumerate(benches)
        ]
        return side_by_side(jobs)


def kill_moments(folder: Path, number: int) -> Tally:
    with pair(folder) as benches:
        jobs = [
            partial(kills.at_random, bench, report, -(-number // 2), seconds, seed)
            for seed, (bench, report, seconds) in enumerate(benches)
        ]
        return side_by_side(jobs)


def full_disk(folder: Path, _: int) -> Tally:
    if not disk.have_bwrap():
        return Tally(problems=["bubblewrap is missing or may not make namespaces"])
    with pair(folder, 0.0) as benches:
        kinds: list[dict[str, list[int]]] = [{"tmpfs": SIZES}, {"limit": SIZES}]
        jobs = [
            partial(disk.sizes, bench, report, kind)
            for kind, (bench, report, _) in zip(kinds, benches, strict=True)
        ]
        return side_by_side(jobs)


def torn(folder: Path, _: int) -> Tally:
    tally = logs.torn_wal(folder / "wal")
    tally.add(logs.torn_journal(folder / "journal"))
    return tally


def crowds(folder: Path, _: int) -> Tally:
    tally = crowd.crowds(folder / "reviews", 5)
    for number in range(5):
        for kill in (False, True):
            tally.add(crowd.hammering(folder / f"hammer{number}", 200, kill=kill))
    return tally


def bytes_flipped(folder: Path, _: int) -> Tally:
    tally = damage.flips(folder / "flips", 2000)
    tally.add(damage.rows(folder / "rows"))
    return tally


def command_line(folder: Path, _: int) -> Tally:
    with pair(folder, 0.0) as ((one, report, _), (two, _, _)):
        jobs = [
            partial(damage.commands, one.new_home("damaged"), report, 40),
            partial(damage.carried, two),
        ]
        return side_by_side(jobs)


def stopped(folder: Path, _: int) -> Tally:
    with pair(folder) as benches:
        jobs = [
            partial(_stops, bench, report, label)
            for label, (bench, report, _) in zip("ab", benches, strict=True)
        ]
        tally = side_by_side(jobs)
    for number in range(3):
        for back in (True, False):
            tally.add(stops.server_dies(folder / f"server{number}{back}", comes_back=back))
    return tally


def _stops(bench: Bench, report: str, label: str) -> Tally:
    tally = Tally()
    for number in range(3):
        tally.add(stops.scenarios(bench, report, tuple(stops.SCENARIOS), f"{label}{number}"))
    return tally


def agent(folder: Path, kills: int) -> Tally:
    with agents.agent_benches(folder) as (benches, unbroken, seconds):
        tally = agents.at_points(benches, unbroken, first=True)
        tally.add(agents.at_random(benches, unbroken, min(kills, AGENT_KILLS), seconds))
    return tally


PARTS: dict[str, tuple[str, Callable[[Path, int], Tally]]] = {
    "points": ("每个故障点 kill -9（首次与中途各一次）", kill_points),
    "kills": ("随机时刻 kill -9", kill_moments),
    "disk": ("磁盘写满：tmpfs 与 RLIMIT_FSIZE，64 KiB–2 MiB", full_disk),
    "statements": ("每条语句、每次取行与提交处的 I/O 错误", lambda folder, _: statements.every_step(folder)),
    "logs": ("WAL 与回滚日志每 512 字节截断、清零", torn),
    "crowd": ("8 个进程共用一份记录", crowds),
    "bytes": ("翻转文件头、页首、随机字节，改每张表的一行", bytes_flipped),
    "commands": ("命令行遇到损坏的、外来的记录", command_line),
    "stops": ("信号、服务器被杀、运行锁", stopped),
    "agent": ("智能体复核时 kill -9：写入点与随机时刻", agent),
    "failures": ("智能体接口的每种故障，之后 resume", lambda folder, _: agents.endings(folder)),
}


WORDS = {
    "acknowledged": "确认过的单元",
    "agent requests": "智能体请求",
    "asked again": "重复请求",
    "asked again after the kill": "被杀时在途、重新请求的单元",
    "at a point": "死于故障点",
    "found again": "找回的结果",
    "header bytes": "文件头字节",
    "kills": "kill -9",
    "judgements": "判定",
    "killed with judgements": "死时已有判定",
    "killed without judgements": "死时尚无判定",
    "killed with all stored": "死时已全部保存",
    "killed with none stored": "死时尚无保存",
    "killed with some stored": "死时保存了一部分",
    "many bytes at once": "一次多字节",
    "opened": "打开",
    "page bytes": "页首字节",
    "processes that asked": "出过力的审查进程",
    "processes that worked": "出过力的写入进程",
    "random bytes": "随机字节",
    "refused by SQLite": "SQLite 拒绝写入",
    "requests": "请求",
    "resume": "resume 启动",
    "resume afterwards": "之后 resume",
    "run": "run 启动",
    "run afterwards": "之后 run",
    "set aside": "改名保留并新建",
    "units": "单元",
    "units kept": "保住的单元",
}


def _chinese(what: str) -> str:
    return WORDS.get(
        what, what.replace("exit", "退出码").replace("not opened:", "未打开").replace("said", "报错")
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all when none is named")
    parser.add_argument("--kills", type=int, default=500)
    given = parser.parse_args()
    problems: list[str] = []
    print("| 项目 | 次数 | 问题 | 秒 | 所见 |\n|---|---:|---:|---:|---|")
    for name in given.parts or PARTS:
        title, part = PARTS[name]
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            tally = part(Path(folder), given.kills)
        seen = "，".join(f"{_chinese(what)} {count}" for what, count in sorted(tally.seen.items()))
        seconds = round(time.monotonic() - started)
        print(f"| {title} | {tally.cases} | {len(tally.problems)} | {seconds} | {seen} |", flush=True)
        problems += tally.problems
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
