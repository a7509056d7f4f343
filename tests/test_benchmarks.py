"""The harness of the benchmarks; not their numbers."""

import itertools
import sys

import pytest
from conftest import ROOT

from vindr_det.exceptions import InputError

sys.path.append(str(ROOT / "benchmarks"))
import bench
import comparison

NAMES = [path.stem.removeprefix("bench_") for path in sorted((ROOT / "benchmarks").glob("bench_*.py"))]


@pytest.mark.parametrize("ours, peer, per, expected", [
    ([1, 2, 4], [2, 2, 2], None, (2, 2, 1, .5, 2)),
    ([.5, .5, .5], [1, 2, 3], 10, (20, 5, 4, 2, 6)),  # images/s
    ([2], [1], None, (2, 1, .5, .5, .5)),
])
def test_ratios_of_turns(ours, peer, per, expected):
    row = comparison.of_turns("step", ("ours", ours), ("peer", peer), per=per, target=1.5)
    assert (row.ours_value, row.peer_value, row.ratio, row.low, row.high) == expected
    assert ("missed" in row.verdict) == (expected[2] < 1.5)
    assert comparison.from_json(comparison.as_json([row])) == [row]


def test_both_take_turns_and_the_first_turn_does_not_count():
    calls, clock = [], itertools.count()

    def measure(work):
        work()
        return 1 + 100 * (next(clock) < 2)

    row = comparison.alternate("step", ("a", lambda: calls.append("a")), ("b", lambda: calls.append("b")),
                               turns=3, measure=measure)
    assert "".join(calls) == "baabbaab" and (row.ratio, row.high, row.ours_value) == (1, 1, 1)


def test_a_table_tells_what_is_missed():
    rows = [comparison.of_turns("s", ("o", [1.0]), ("p", [3.0]), target=target) for target in (2, 4, None)]
    assert [line.split("|")[-2].strip() for line in bench.table(rows).splitlines()[2:]] == [
        "2 reached", "4 missed", ""]


@pytest.mark.parametrize("peer, verdict", [
    ([2.0, 3, 4], "2 reached"), ([1.0, 3, 4], "2 reached by the median"), ([1.0, 1, 4], "2 missed")])
def test_a_target_is_reached_by_every_turn_or_by_the_median(peer, verdict):
    assert comparison.of_turns("s", ("o", [1.0] * 3), ("p", peer), target=2).verdict == verdict


@pytest.mark.parametrize("options", [[], ["--quick"]])
def test_a_table_of_some_steps_replaces_no_file(options, monkeypatch, tmp_path, capsys):
    row = comparison.of_turns("s", ("o", [1.0]), ("p", [3.0]))
    monkeypatch.setattr(bench, "HERE", tmp_path)
    (tmp_path / "bench_some.py").touch()
    monkeypatch.setattr(bench, "_rows_of", lambda name, quick: [row])
    bench.main([*options, "--only", "some"])
    assert not (tmp_path / "RESULTS.md").exists() and "| s | o | p |" in capsys.readouterr().out
    bench.main([])
    assert (tmp_path / "RESULTS.md").is_file()


def test_an_unknown_step_is_refused():
    with pytest.raises(InputError, match="--only nope: expected of annotations, "):
        bench.main(["--only", "nope"])


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "packed" else pytest.mark.exhaustive)
                                  for name in NAMES])
def test_each_step_gives_its_rows(name, tmp_path, capsys):
    bench.main(["--quick", "--only", name, "--out", str(tmp_path / "r.md")])
    page = (tmp_path / "r.md").read_text()
    assert "these numbers say nothing" in page and f"--only {name}" in page
    assert len([line for line in page.splitlines() if line.startswith("| ")]) > 1
    assert str(tmp_path / "r.md") in capsys.readouterr().out
