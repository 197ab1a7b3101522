"""The benchmark suite runs, counts nobody in who is absent or wrong, and its gate tells a slower case from noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import compare
import contest
import numpy as np
import plan
import pytest
import readme
import targets
from cases import CASES
from problems import Data, Problem, sparse
from scipy.sparse import csr_array

BENCH = Path(__file__).resolve().parents[1] / "bench"

# ---- the runner ------------------------------------------------------------------------------------------------------


def test_quick_run(tmp_path):
    """All cases, with peers that are absent, and one that is there but broken."""
    (tmp_path / "numba.py").write_text("raise ImportError('there is no numba')")
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "jax.py").write_text("raise ImportError('there is no jax')")
    (tmp_path / "glum.py").write_text("raise ImportError('there is no glum')")
    (tmp_path / "autograd.py").write_text("raise ImportError('there is no autograd')")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}  # run.py has modules
    done = subprocess.run(
        [sys.executable, BENCH / "run.py", "--quick", "--threads", "2", "--out", tmp_path / "results"],
        env={**environment, "PYTHONPATH": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("there is no numba") == 1
    assert "pip install numba" in done.stdout

    results = json.loads((tmp_path / "results" / "results.json").read_text())
    assert not results["failures"]
    assert {"fastgd", "NumPy", "scikit-learn", "pure Python"} <= set(results["versions"])
    assert set(results["absent"]) == {"Numba", "JAX", "glum", "autograd"}
    cases = {row["case"] for row in results["rows"]}
    assert {"gradient", "gradient function", "step", "moments", "fit", "engine overhead"} <= cases
    assert {row["threads"] for row in results["rows"]} == {1, 2}
    for row in results["rows"]:
        for name, result in row["results"].items():
            assert ("failed" in result) == name.startswith("PyTorch"), (name, result)
            assert name.startswith("PyTorch") or 0 < result["low"] <= result["median"] <= result["high"]

    table = (tmp_path / "results" / "table.md").read_text()
    assert table in done.stdout
    assert "tiny float64 4×2" in table
    assert "AttributeError" in table  # PyTorch's cells
    assert "Not installed: Numba" in table


def test_an_interpreted_contestant_is_scaled_up():
    runs = {"whole": contest.Run(lambda: sum(range(10_000))), "part": contest.Run(lambda: sum(range(1_000)), rows=10)}
    data = Data(Problem("few", 100, 1, "float64"))
    results = contest.hold(runs, lambda answer, rows: 0.0, 0.0, data, contest.Effort(0.01, 5, 5, 0.0))
    assert results["part"].median == pytest.approx(results["whole"].median, rel=0.9)


def test_a_wrong_answer_is_not_timed():
    data = Data(Problem("few", 40, 3, "float64"))
    right = (2 / 40) * data.X.T @ (data.X @ data.w - data.y)
    case, truth = CASES["gradient"], CASES["gradient"].truth(data)
    answers = {"right": right, "off": right * (1 + 1e-6), "NaN": right * np.nan, "one number": right[:1]}
    runs = {name: contest.Run(lambda answer=answer: answer) for name, answer in answers.items()}
    results = contest.hold(runs, lambda a, _: case.error(a, truth), case.tolerance["float64"], data, contest.QUICK)
    assert results["right"].failed is None
    assert results["right"].median > 0
    for name in ("off", "NaN", "one number"):
        assert "WRONG" in results[name].failed
        assert results[name].median is None


def test_who_uses_more_threads_is_found_out(monkeypatch):
    runs, data = {"two": contest.Run(lambda: time.sleep(0.03), answer=None)}, Data(Problem("few", 4, 2, "float64"))
    monkeypatch.setattr(time, "process_time", lambda: 2 * time.perf_counter())
    for threads, failed in (1, "TOO MANY THREADS: 2.0 cores were busy, not 1"), (2, None):
        data.threads = threads
        results = contest.hold(runs, lambda answer, rows: 0.0, 0.0, data, contest.Effort(0.1, 2, 2, 0.0))
        assert results["two"].failed == failed


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_data_is_of_its_kind_and_varies(dtype, order):
    data = Data(Problem("", 300_000, 7, dtype, order))
    assert data.X.dtype == data.y.dtype == data.w.dtype == dtype
    assert data.X.flags.c_contiguous == (order == "C")
    assert np.isfinite(data.X).all()
    assert data.nbytes == data.X.nbytes
    assert np.linalg.cond(data.X) < 3
    assert len(np.unique(data.X)) > 300_000


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-5), ("float64", 1e-12)])
def test_sparse_data_is_csr(dtype, atol):
    data = Data(sparse("", 300, 200, dtype, 0.05))
    assert data.X.data.dtype == data.y.dtype == data.w.dtype == dtype
    X = csr_array((data.X.data, data.X.indices, data.X.indptr), shape=data.X.shape)
    X.check_format()
    assert X.has_canonical_format
    assert 0.04 < X.nnz / (300 * 200) < 0.06
    r = X @ data.w - data.y
    np.testing.assert_allclose(data.product(data.w) - data.y, r, atol=atol)
    np.testing.assert_allclose(data.transposed_product(r), X.T @ r, atol=atol)


def planned_rows():
    """What the full run will measure, as rows without results."""
    return [
        {"case": case, "problem": entry.problem.as_dict(), "threads": 1 + entry.all_cores}
        for entry in plan.PLANS["FULL"][0]
        for case in entry.cases
    ]


def test_the_full_run_has_every_row_that_is_told_of():
    rows = planned_rows()
    assert {row["case"] for row in rows} == set(CASES)
    assert sum(map(readme.is_chosen, rows)) == len(readme.CHOSEN)
    assert len({json.dumps(row) for row in rows}) == len(rows)
    for target in targets.TARGETS:
        assert any(map(target.rows, rows)), target.text


def test_the_readme_has_a_place_for_its_table(tmp_path):
    page = tmp_path / "README.md"
    page.write_text((BENCH.parent / "README.md").read_text())
    machine = {"processor": "P", "cores": 2, "caches": "L1", "system": "S"}
    row = {
        "case": "gradient",
        "problem": {"name": "tiny", "d": 2, "dtype": "float64", "order": "C", "label": "tiny float64 4×2"},
        "threads": 1,
        "bytes": 64,
        "results": {"fastgd": {"median": 1e-6}, "NumPy": {"median": 5e-6}, "Numba": {"failed": "no"}},
    }
    readme.write({"machine": machine, "versions": {"NumPy": "2"}, "rows": [row]}, page)
    assert "| gradient | tiny float64 4×2 | 1.00 µs | 5.00× | no |" in page.read_text()
    assert page.read_text().endswith((BENCH.parent / "README.md").read_text().partition(readme.END)[2])


# ---- the gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_noise_alone_is_not_called_slower(noise):
    rng = np.random.default_rng(0)
    verdicts = [compare.settle(lambda: np.exp(noise * rng.standard_normal()), 7) for _ in range(1000)]
    assert not any(verdict.slower for verdict in verdicts)


@pytest.mark.parametrize(("noise", "factor"), [(0.0, 1.1), (0.02, 1.15), (0.1, 1.6)])
def test_a_slower_case_is_called_slower(noise, factor):
    rng = np.random.default_rng(0)
    verdicts = [compare.settle(lambda: factor * np.exp(noise * rng.standard_normal()), 7) for _ in range(1000)]
    assert sum(verdict.slower for verdict in verdicts) >= 950


def test_little_or_lone_slowness_is_not_called_slower():
    assert not compare.judge([1.09] * 7).slower
    assert not compare.judge([1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0]).slower
    assert not compare.judge([0.5] * 7).slower
