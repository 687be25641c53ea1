"""The benchmarks run with whatever peers are installed, and write all their figures. No time is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from measure import Report, interleave, ratio, read_options

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(script: str, directory: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Run a benchmark quickly; return what it wrote and what it printed."""
    file = directory / "figures.json"
    command = [sys.executable, str(BENCHMARKS / script), "--quick", "--json", str(file), *arguments]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(file.read_text(encoding="utf-8")), outcome.stdout


def test_dispatch_measures_every_case_with_every_peer_that_is_installed(tmp_path: Path) -> None:
    figures, printed = run("dispatch.py", tmp_path)
    cases = figures["cases"]
    assert list(cases) == ["plaintext", "parameter", "json", "middlewares", "404", "form", "html"]
    peers = {"bare callable", "prologue", "werkzeug alone", "falcon", "falcon with msgspec"}
    peers |= {"bottle", "flask", "django", "pyramid"}
    for rows in cases.values():
        assert rows.keys() | set(figures["missing"]) == peers
        assert not rows.keys() & set(figures["missing"])
        assert rows.keys() >= {"bare callable", "prologue", "werkzeug alone", "flask", "django"}
        assert all(0 < row["best"] <= row["median"] for row in rows.values())
        assert rows["prologue"]["ratio"] == 1
    assert figures["versions"].keys() >= {"CPython", "prologue", "werkzeug"}
    assert [bar["limit"] for bar in figures["bars"]] == [0.45, 0.45, 0.35, 1.0]
    assert all(name in printed for name in (*peers, *cases))


def test_router_measures_lists_sizes_and_builds(tmp_path: Path) -> None:
    routes = [
        {"method": "GET", "template": "/a", "template_werkzeug": "/a", "probe": "/a", "expect": {}},
        {
            "method": "POST",
            "template": "/a/{id}",
            "template_werkzeug": "/a/<id>",
            "probe": "/a/x1",
            "expect": {"id": "x1"},
        },
    ]
    (tmp_path / "github.json").write_text(json.dumps({"routes": routes}), encoding="utf-8")
    figures, printed = run("router.py", tmp_path, "--data", str(tmp_path))
    assert list(figures["cases"]) == [
        "github, all",
        "github, with parameters",
        "100 routes",
        "200 routes",
        "growth",
        "every path of the set, in random order",
        "build 100 routes",
        "memory of 100 routes",
        "build 200 routes",
        "memory of 200 routes",
    ]
    assert figures["cases"]["github, all"].keys() >= {"prologue", "werkzeug"}
    assert {"gplus", "parse", "static"} <= set(figures["missing"])
    assert "not measured: gplus: there is no gplus.json" in printed


def test_router_refuses_to_time_a_wrong_answer(tmp_path: Path) -> None:
    route = {"method": "GET", "template": "/a", "template_werkzeug": "/a", "probe": "/b", "expect": {}}
    (tmp_path / "github.json").write_text(json.dumps({"routes": [route]}), encoding="utf-8")
    script = str(BENCHMARKS / "router.py")
    command = [sys.executable, script, "--quick", "--cases", "github", "--data", str(tmp_path)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode == 1
    assert "prologue finds ('', {}) at /b, not /a with {}" in outcome.stderr


def test_imports_measures_fresh_interpreters_and_finds_no_extra(tmp_path: Path) -> None:
    figures, _printed = run("imports.py", tmp_path, "--cases", "flask")
    cases = figures["cases"]
    assert list(cases) == ["import, interpreter included", "import alone", "extras"]
    assert list(cases["import, interpreter included"]) == ["empty interpreter", "prologue", "flask"]
    assert list(cases["import alone"]) == ["prologue", "flask"]
    assert cases["extras"] == {"prologue": {"imported": 0}}


def test_pool_measures_cycles_loads_and_a_spike(tmp_path: Path) -> None:
    figures, _printed = run("pool.py", tmp_path, "--cases", "cycle,16 threads hold 1 ms,spike")
    cases = figures["cases"]
    assert list(cases) == ["cycle", "16 threads hold 1 ms, 4 connections", "spike"]
    for rows in cases.values():
        assert rows.keys() >= {"prologue", "psycopg_pool"}
    load = cases["16 threads hold 1 ms, 4 connections"]
    assert load["prologue"].keys() == {"cycles/s", "ratio", "p50 ms", "p99 ms", "p99.9 ms", "Jain"}
    assert load["prologue"]["ratio"] == 1
    assert 0 < load["prologue"]["Jain"] <= 1
    assert load["no pool"]["cycles/s"] > 0
    assert load["hand-off alone"].keys() == load["prologue"].keys()
    assert cases["spike"]["prologue"]["connections"] >= 5
    assert [bar["limit"] for bar in figures["bars"]][:2] == [0.4, 1.0]
    assert figures["bars"][-2]["limit"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "plaintext,none"], "no case none; there are plaintext, json"),
        (["--rounds", "0"], "--rounds must be 1 or more, not 0"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        read_options("x", "", ["plaintext", "json"], 10, arguments=arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


def test_candidates_take_turns_in_another_order_each_round() -> None:
    order: list[str] = []

    def candidate(name: str, seconds: float) -> Any:
        def measure(calls: int) -> float:
            order.append(name)
            return seconds * calls

        return measure

    options = read_options("x", "", ["a"], 3, slot=0.004, arguments=[])
    seconds = interleave({"a": candidate("a", 0.004), "b": candidate("b", 0.002)}, options)
    assert order[-6:] == ["a", "b", "b", "a", "a", "b"]
    assert seconds == {"a": [0.004] * 3, "b": [0.002] * 3}


def test_a_ratio_is_the_median_of_those_within_the_rounds() -> None:
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 1.0]) == 0.5


@pytest.mark.parametrize(
    ("arguments", "figure", "status"),
    [
        (["--check"], 0.5, 0),
        (["--check"], 0.51, 1),
        (["--check"], None, 1),
        ([], 0.51, 0),
    ],
)
def test_a_missed_bar_is_an_exit_status_when_it_is_asked_for(
    arguments: list[str],
    figure: float | None,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "results" / "x.json"
    options = read_options("x", "", ["a"], 3, arguments=[*arguments, "--json", str(file)])
    report = Report("x", options, "ours", ["msgspec", "no-such-distribution"])
    report.case("a", {"ours": [0.001, 0.002], "theirs": [0.002, 0.008]})
    assert report.ratio("a", "theirs") == pytest.approx(0.375)
    assert report.ratio("a", "nobody") is None
    assert report.ratio("b", "theirs") is None
    report.bar("ours ÷ theirs", figure, 0.5)
    assert report.finish() == status
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["bars"] == [
        {"bar": "ours ÷ theirs", "figure": figure, "limit": 0.5, "met": figure == 0.5},
    ]
    assert written["versions"].keys() == {"CPython", "prologue", "msgspec"}
    assert ("MISSED" if figure != 0.5 else "met") in capsys.readouterr().out


def test_cache_measures_hits_threads_and_sets(tmp_path: Path) -> None:
    figures, _ = run("cache.py", tmp_path)
    hit, threads, store = figures["cases"].values()
    assert hit.keys() >= {"dict", "functools.lru_cache", "prologue", "prologue, s3-fifo", "prologue, lru"}
    assert threads.keys() >= {"prologue", "prologue, s3-fifo", "prologue, lru"}
    assert store.keys() >= {"prologue", "prologue, s3-fifo", "prologue, lru"}
    assert all(row["median"] > 0 for rows in (hit, threads, store) for row in rows.values())


def test_hit_ratio_measures_made_up_requests_and_traces(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("*\n" + "".join(f"{number}\n" for number in range(30)) * 20, encoding="utf-8")
    figures, printed = run("hit_ratio.py", tmp_path, "--trace", f"{trace}=20")
    assert {"multi1", "loop", "sprite", "gli", "cpp"} <= set(figures["missing"])
    mine = figures["cases"]["trace: 600 requests, room for 20, hit ratio in %"]
    assert 0 == mine["prologue lru"]["hits"] < mine["prologue w-tinylfu"]["hits"]
    assert mine["prologue w-tinylfu"]["hits"] <= mine["optimum"]["hits"] < 70
    assert "zipf 0.9" in printed


def test_http_cache_measures_hits_misses_validations_and_memory(tmp_path: Path) -> None:
    figures, printed = run("http_cache.py", tmp_path, "--cases", "hit,miss,validation,memory")
    assert list(figures["cases"]) == ["hit", "miss", "validation", "memory"]
    ours = {"prologue, no cache", "prologue, cache_middleware", "prologue, HTTPCache"}
    for title in ("hit", "miss", "validation"):
        rows = figures["cases"][title]
        assert rows.keys() >= {*ours, "django's cache middleware"}
        assert rows.keys() | set(figures["missing"]) == {*ours, "django's cache middleware", "flask-caching"}
    assert [bar["limit"] for bar in figures["bars"]] == [6.0, 0.2, 0.2]
    assert "bytes beside the body of a stored response" in printed
