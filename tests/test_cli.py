"""The command `fastgd`: what it reads, what it finds, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import feather, parquet
from session import differences
from typer.testing import CliRunner

import fastgd as fg
from fastgd import _table_fit, _tables
from fastgd._demo import houses
from fastgd._design import Design
from fastgd._table_fit import Gathered, free_memory, held_out
from fastgd.cli import app, bytes_of, listed

DOCS = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
ROWS = 700


def fastgd(*arguments: Any) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="fastgd")


def succeeded(*arguments: Any) -> str:
    done = fastgd(*arguments)
    assert done.exit_code == 0, done.stderr or done.exception
    return done.stdout


def as_json(*arguments: Any) -> Any:
    return json.loads(succeeded(*arguments, "--json"), parse_constant=pytest.fail)


def refused(*arguments: Any) -> str:
    """The one line that it says."""
    done = fastgd(*arguments)
    assert done.exit_code == 2, done.stdout or done.exception
    assert done.stdout == ""
    assert done.stderr.startswith("fastgd: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("fastgd: ").rstrip("\n")


def process(*arguments: Any, code: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, or Python code with these arguments."""
    start = ["-m", "fastgd"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"} | environment,
    )


def table(n: int = ROWS) -> pa.Table:
    """Numbers of all kinds, a category, and a target in the middle."""
    rng = np.random.default_rng(7)
    size, rooms = rng.uniform(30, 200, n).round(2), rng.integers(1, 7, n)
    new, city = rng.random(n) < 0.5, np.array(["Oslo", "Bergen", "Tromsø"])[rng.integers(0, 3, n)]
    price = 3.0 * size - 5.0 * rooms + 20.0 * new + 40.0 * (city == "Oslo") + 7.0 + rng.standard_normal(n)
    return pa.table({"size": size, "city": city, "price": price, "rooms": rooms, "new": new.astype(np.int8)})


def matrix(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """What the command is to make of it, here by hand."""
    city = np.array(rows["city"].to_pylist())
    columns = [rows["size"], city == "Oslo", city == "Tromsø", rows["rooms"], rows["new"]]
    return np.column_stack([np.asarray(column, np.float64) for column in columns]), np.asarray(rows["price"])


NAMES = ["size", "city=Oslo", "city=Tromsø", "rooms", "new"]


def write_delimited(rows: pa.Table, path: Path, delimiter: str = ",") -> None:
    with pa.output_stream(str(path), compression="detect") as file:
        arrow_csv.write_csv(rows, file, arrow_csv.WriteOptions(delimiter=delimiter))


def write_stream(rows: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), rows.schema) as file:
        file.write_table(rows, max_chunksize=100)


def write_structured(rows: pa.Table, path: Path) -> None:
    frame = rows.to_pandas()
    frame["city"] = frame["city"].astype("U6")
    np.save(path, frame.to_records(index=False, column_dtypes={"city": "U6", "size": ">f8"}))


def write_npz(rows: pa.Table, path: Path) -> None:
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    columns["city"] = columns["city"].astype("U")
    columns["rooms"] = columns["rooms"][:, None]
    np.savez_compressed(path, **columns)


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "t.csv": write_delimited,
    "t.CSV.gz": write_delimited,
    "t.csv.bz2": write_delimited,
    "t.tsv": lambda rows, path: write_delimited(rows, path, "\t"),
    "t.tab.zst": lambda rows, path: write_delimited(rows, path, "\t"),
    "t.parquet": lambda rows, path: parquet.write_table(rows, path, row_group_size=128),
    "dictionary.parquet": lambda rows, path: parquet.write_table(
        rows.set_column(1, "city", rows["city"].dictionary_encode()), path
    ),
    "t.feather": lambda rows, path: feather.write_feather(rows, str(path), chunksize=128),
    "t.arrow": write_stream,
    "t.npy": write_structured,
    "t.npz": write_npz,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of many batches, without many rows."""
    monkeypatch.setattr("fastgd._text_table.TEXT_BYTES", 4096)
    monkeypatch.setattr("fastgd._table.BATCH_BYTES", 4096)
    monkeypatch.setattr("fastgd._table.LEAST_ROWS", 32)
    monkeypatch.setattr(_table_fit, "PANEL_BYTES", 10_000)


# ---- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.usefixtures("small_batches")
def test_a_fit_of_any_format_is_that_of_the_arrays(folder: Path, name: str) -> None:
    rows = table()
    WRITERS[name](rows, folder / name)
    X, y = matrix(rows)
    expected = fg.fit(X, y)
    found = as_json("fit", name, "--target", "price", "--categorical", "city")
    assert list(found["coef"]) == NAMES
    assert found["features"] == ["size", "city", "rooms", "new"]
    assert found["in_memory"] and found["converged"]
    np.testing.assert_array_equal(list(found["coef"].values()), expected.coef)
    assert found["intercept"] == expected.intercept
    assert found["train"] == {
        "n_rows": ROWS,
        "mse": pytest.approx(expected.loss, rel=1e-12),
        "r2": pytest.approx(1 - expected.loss / y.var()),
    }
    assert found["test"] is None

    streamed = as_json("fit", name, "--target", "price", "--categorical", "city", "--memory", "0")
    assert not streamed["in_memory"]
    np.testing.assert_allclose(list(streamed["coef"].values()), expected.coef, rtol=1e-11)
    assert streamed["train"] == pytest.approx(
        found["train"], rel=1e-9
    )  # moments hold the variance of y, 1e5 times as much


@pytest.mark.usefixtures("small_batches")
def test_the_rows_that_are_held_out_are_the_same_however_they_are_read(folder: Path) -> None:
    rows = table()
    for name in ("t.csv", "t.parquet"):
        WRITERS[name](rows, folder / name)
    X, y = matrix(rows)
    held = held_out(0, ROWS, 0.25)
    expected = fg.fit(X[~held], y[~held])
    mse = np.mean((expected.predict(X[held]) - y[held]) ** 2)
    for name in ("t.csv", "t.parquet"):
        for memory in ("0", "20k", "1G"):
            found = as_json(
                "fit", name, "--target", "price", "--categorical", "city", "--memory", memory, "--test-fraction", "0.25"
            )
            assert found["in_memory"] == (memory == "1G")
            np.testing.assert_allclose(list(found["coef"].values()), expected.coef, rtol=1e-11)
            assert found["train"]["n_rows"] == (~held).sum()
            assert found["test"] == pytest.approx({"n_rows": held.sum(), "mse": mse, "r2": 1 - mse / y[held].var()})


def test_rows_are_held_out_by_a_hash_of_their_numbers() -> None:
    """SplitMix64, as its authors have it; and about as many as were asked for."""

    def splitmix(state: int) -> int:
        z = state * 0x9E3779B97F4A7C15 % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    expected = [splitmix(row + 1) / 2**64 < 0.3 for row in range(1000)]
    np.testing.assert_array_equal(held_out(0, 1000, 0.3), expected)
    np.testing.assert_array_equal(held_out(400, 600, 0.3), expected[400:])
    assert held_out(0, 100_000, 0.3).mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 100_000))
    assert not held_out(0, 1000, 0.0).any()


def test_features_come_in_the_order_they_are_asked_for(folder: Path) -> None:
    rows = table()
    write_delimited(rows, folder / "t.csv")
    X, y = matrix(rows)
    found = as_json("fit", "t.csv", "--target", "price", "--features", "new, size", "--categorical", "city")
    order = [4, 0, 1, 2]
    assert list(found["coef"]) == [NAMES[place] for place in order]
    np.testing.assert_array_equal(list(found["coef"].values()), fg.fit(np.ascontiguousarray(X[:, order]), y).coef)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"l1": 0.5}, ["--l1", "0.5"]),
        ({"l2": 0.5}, ["--l2", "0.5"]),
        ({"solver": "cg"}, ["--solver", "cg"]),
        ({"solver": "gd", "max_iter": 7}, ["--solver", "gd", "--max-iter", "7"]),
        ({"solver": "gd", "lr": 1e-5, "max_iter": 9}, ["--solver", "gd", "--lr", "1e-5", "--max-iter", "9"]),
    ],
)
@pytest.mark.filterwarnings("ignore::fastgd.ConvergenceWarning")
def test_options_reach_the_fit(folder: Path, options: dict[str, Any], arguments: list[str]) -> None:
    rows = table()
    write_delimited(rows, folder / "t.csv")
    X, y = matrix(rows)
    expected = fg.fit(X, y, **options)
    found = as_json("fit", "t.csv", "--target", "price", "--categorical", "city", *arguments)
    np.testing.assert_array_equal(list(found["coef"].values()), expected.coef)
    assert found["solver"] == expected.solver and found["loss"] == expected.loss
    assert found["converged"] == expected.converged
    assert bool(found["warnings"]) == (not expected.converged)


def test_l2_reaches_a_fit_that_streams(folder: Path) -> None:
    rows = table()
    write_delimited(rows, folder / "t.csv")
    X, y = matrix(rows)
    expected = fg.fit(X, y, l2=0.5)
    found = as_json("fit", "t.csv", "--target", "price", "--categorical", "city", "--l2", "0.5", "--memory", "0")
    np.testing.assert_allclose(list(found["coef"].values()), expected.coef, rtol=1e-11)
    assert found["loss"] == pytest.approx(expected.loss, rel=1e-9)
    assert found["train"]["mse"] == pytest.approx(np.mean((expected.predict(X) - y) ** 2), rel=1e-9)


@pytest.mark.usefixtures("small_batches")
def test_l1_reaches_a_fit_that_streams(folder: Path) -> None:
    """The same columns leave, and both losses are within the bounds that they come with."""
    rows = table()
    write_delimited(rows, folder / "t.csv")
    X, y = matrix(rows)
    held = held_out(0, ROWS, 0.25)
    expected = fg.fit(X[~held], y[~held], l1=15.0, l2=0.001)
    arguments = ("--categorical", "city", "--l1", "15", "--l2", "0.001", "--test-fraction", "0.25")
    found = as_json("fit", "t.csv", "--target", "price", *arguments, "--memory", "0")
    assert not found["in_memory"] and found["converged"] and found["warnings"] == []
    assert found["options"]["l1"] == 15.0
    assert abs(found["loss"] - expected.loss) <= found["gap_bound"] + expected.gap_bound + 1e-11 * expected.loss
    np.testing.assert_array_equal(np.array(list(found["coef"].values())) == 0, expected.coef == 0)
    assert 0 < np.count_nonzero(expected.coef) < len(NAMES)
    np.testing.assert_allclose(list(found["coef"].values()), expected.coef, rtol=1e-6)
    mse = np.mean((expected.predict(X[held]) - y[held]) ** 2)
    assert found["test"]["mse"] == pytest.approx(mse, rel=1e-6)


def test_many_columns_stream_too(folder: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((900, 600)), rng.standard_normal(900)
    np.savez(folder / "wide.npz", X=X, y=y)
    found = as_json("fit", "wide.npz", "--target", "y", "--memory", "0")
    assert list(found["coef"])[:2] == ["X0", "X1"]
    np.testing.assert_allclose(list(found["coef"].values()), fg.fit(X, y).coef, rtol=1e-8, atol=1e-10)


def test_matrices_of_any_order(folder: Path) -> None:
    rng = np.random.default_rng(0)
    M = rng.standard_normal((200, 3))
    expected = fg.fit(M[:, :2].copy(), M[:, 2].copy())
    np.save(folder / "c.npy", M)
    np.save(folder / "f.npy", np.asfortranarray(M))
    np.savez(folder / "f.npz", x=np.asfortranarray(M))
    for name in ("c.npy", "f.npy", "f.npz"):
        found = as_json("fit", name, "--target", "x2")
        assert list(found["coef"].values()) == expected.coef.tolist()


def test_memory_stays_bounded() -> None:
    """40 times as many rows as may be held."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    gathered = Gathered(64, 0.1, 2_000_000)
    total = 0
    for _ in range(160):
        X = rng.standard_normal((1000, 64))
        gathered.add(X, X[:, 0])
        total += X.nbytes
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 80e6
    assert peak < 2e6 + 5 * _table_fit.PANEL_BYTES < total / 1.8
    gathered.condense()
    assert gathered.train.n_samples + gathered.test.n_samples == 160_000


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.arrow", "t.npz"])
def test_a_file_is_read_in_pieces(folder: Path, name: str) -> None:
    """Of Parquet also where the file is one row group."""
    x = np.random.default_rng(0).standard_normal((300_000, 8)).round(2)
    if name == "t.npz":
        np.savez(folder / name, x=x)
    else:
        rows = pa.table({f"x{place}": x[:, place] for place in range(8)})
        {"t.csv": write_delimited, "t.parquet": parquet.write_table, "t.arrow": write_stream}[name](rows, folder / name)
    before, most, n_rows = pa.total_allocated_bytes(), 0, 0
    tracemalloc.start()
    for batch in _tables.open_table(name).batches([f"x{place}" for place in range(8)], []):
        most = max(most, pa.total_allocated_bytes() - before)
        n_rows += batch.n_rows
        assert 0 < batch.done <= 1
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n_rows == len(x) and batch.done > 0.99
    # of text pyarrow reads up to 32 MiB ahead, and this file is shorter
    assert most < (x.nbytes if name == "t.csv" else x.nbytes / 2)
    assert traced < x.nbytes / 2


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_the_limit_of_address_space_is_seen() -> None:
    code = """
import resource
from fastgd._table_fit import free_memory
resource.setrlimit(resource.RLIMIT_AS, (2_000_000_000, resource.RLIM_INFINITY))
print(free_memory())
"""
    assert 0 < int(process(code=code).stdout) < 2e9
    assert free_memory() > 0


def test_categories_of_test_rows_alone_are_told(folder: Path) -> None:
    row = int(np.flatnonzero(held_out(0, 40, 0.3))[0])
    lines = [f"{place},{'z' if place == row else 'ab'[place % 2]},{place * 2.0}" for place in range(40)]
    (folder / "t.csv").write_text("x,c,y\n" + "\n".join(lines))
    done = fastgd("fit", "t.csv", "--target", "y", "--categorical", "c", "--test-fraction", "0.3")
    assert done.exit_code == 0
    assert done.stderr == "fastgd: warning: no training row has c=z, so its coefficient is 0\n"


def test_a_target_that_does_not_vary_has_no_r2(folder: Path) -> None:
    (folder / "t.csv").write_text("x,y\n1,5\n2,5\n3,5\n")
    assert as_json("fit", "t.csv", "--target", "y")["train"]["r2"] is None


def test_what_csv_may_hold(folder: Path) -> None:
    """A byte order mark, blank lines, quotes with line breaks and delimiters, spaces, carriage returns."""
    text = '\ufeff"a, b",text,y\r\n\r\n 1 ,"one\r\nor ""two"", three",1.5e0\r\n\r\n"2",x,+2\r\n3.,"NA",.5\r\n'
    (folder / "t.csv").write_bytes(text.encode())
    found = as_json("fit", "t.csv", "--target", "y", "--features", '"a, b"')
    expected = fg.fit([[1.0], [2.0], [3.0]], [1.5, 2.0, 0.5])
    assert found["coef"] == {"a, b": expected.coef[0]}
    found = as_json("fit", "t.csv", "--target", "y", "--features", "text", "--categorical", "text")
    assert found["categories"] == {"text": ["NA", 'one\r\nor "two", three', "x"]}


def test_csv_of_other_systems(folder: Path) -> None:
    """Carriage returns alone, several members of gzip, and no line break at the end."""
    expected = as_json_of(GOOD, folder / "t.csv")
    assert as_json_of(GOOD.replace("\n", "\r"), folder / "t.csv") == expected
    assert as_json_of(GOOD.rstrip(), folder / "t.csv") == expected
    middle = GOOD.index("2,3")
    parts = [gzip.compress(part.encode()) for part in (GOOD[:middle], GOOD[middle:])]
    (folder / "t.csv.gz").write_bytes(b"".join(parts))
    assert as_json("fit", "t.csv.gz", "--target", "y")["coef"] == expected


def as_json_of(text: str, path: Path) -> Any:
    path.write_bytes(text.encode())
    return as_json("fit", path, "--target", "y")["coef"]


def test_names_of_any_kind(folder: Path) -> None:
    x = np.random.default_rng(0).standard_normal((20, 5))
    names = ["a b", "c,d", "e[1]", 'q"q', "two\nlines"]
    write_delimited(pa.table(dict(zip(names, x.T, strict=True))), folder / "t.csv")
    found = as_json("fit", "t.csv", "--target", "a b")
    assert list(found["coef"]) == names[1:]
    found = as_json("fit", "t.csv", "--target", "a b", "--features", '"c,d",e[1]', "--features", 'q"q')
    assert list(found["coef"]) == names[1:4]
    assert r"two\nlines" in succeeded("fit", "t.csv", "--target", "a b")


def test_the_text_of_a_fit(folder: Path) -> None:
    write_delimited(table(), folder / "t.csv")
    text = succeeded("fit", "t.csv", "--target", "price", "--categorical", "city", "--test-fraction", "0.2")
    for words in (
        "t.csv: 700 rows, in memory",
        "differences from 'Bergen'",
        "city=Tromsø",
        "train",
        "test",
        "R² 0.9",
        "converged: loss ",
    ):
        assert words in text
    np.savez(folder / "wide.npz", X=np.random.default_rng(0).standard_normal((90, 31)), y=np.arange(90.0))
    assert "and 11 more, which --json shows" in succeeded("fit", "wide.npz", "--target", "y")


def test_a_plot_is_drawn(folder: Path) -> None:
    write_delimited(table(), folder / "t.csv")
    for features, solver in (("size,rooms", "gd"), ("size", "gd"), ("size", "auto")):
        text = succeeded(
            "fit", "t.csv", "--target", "price", "--features", features, "--solver", solver, "--plot", "loss.png"
        )
        assert text.endswith("plot         loss.png\n")
        assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
        (folder / "loss.png").unlink()


# ---- models and predictions ------------------------------------------------------------------------------------------


@pytest.fixture
def model(folder: Path) -> fg.FitResult:
    """That of the table, in model.safetensors; the table is in t.csv."""
    write_delimited(table(), folder / "t.csv")
    succeeded("fit", "t.csv", "--target", "price", "--categorical", "city", "--out", "model.safetensors")
    return fg.load(folder / "model.safetensors")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.usefixtures("small_batches")
def test_predictions_of_any_format(folder: Path, model: fg.FitResult, name: str) -> None:
    rows = table().select(["new", "city", "rooms", "size", "price"])
    WRITERS[name](
        rows.append_column("other", rows["city"]) if name != "t.npy" and name != "t.npz" else table(), folder / name
    )
    expected = model.predict(matrix(table())[0]).tolist()
    assert as_json("predict", "model.safetensors", name)["predictions"] == pytest.approx(expected, rel=1e-14)
    header, *lines = succeeded("predict", "model.safetensors", name).splitlines()
    assert header == "prediction"
    assert list(map(float, lines)) == pytest.approx(expected, rel=1e-14)
    told = succeeded("predict", "model.safetensors", name, "--out", "predictions.csv")
    assert told == "700 predictions written to predictions.csv\n"
    assert (folder / "predictions.csv").read_text().splitlines() == [header, *lines]
    assert as_json("predict", "model.safetensors", name, "--out", "predictions.csv")["n_rows"] == ROWS
    assert not list(folder.glob(".*"))


def test_a_model_knows_its_columns(model: fg.FitResult) -> None:
    assert model.feature_names == tuple(NAMES)
    assert model.categories == {"city": ("Bergen", "Oslo", "Tromsø")}
    assert model.options["target"] == "price"
    design = Design.of_model(model)
    assert design is not None and design.features == ("size", "city", "rooms", "new")


def test_inspect(model: fg.FitResult) -> None:
    text = succeeded("inspect", "model.safetensors")
    for words in ("price", "size, city, rooms, new", "city=Tromsø", f"{model.intercept:.6g}", model.explain()):
        assert words in text
    found = as_json("inspect", "model.safetensors")
    assert found["coef"] == dict(zip(NAMES, model.coef.tolist(), strict=True))
    assert found["options"]["solver"] == "auto"


def test_models_of_arrays(folder: Path) -> None:
    """They know no names: the columns are taken as they come; several targets make several columns."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    Y = np.column_stack([X @ [1.0, 2.0], X @ [3.0, -1.0]])
    result = fg.fit(X, Y)
    result.save(folder / "m.safetensors")
    np.save(folder / "x.npy", X)
    header, *lines = succeeded("predict", "m.safetensors", "x.npy").splitlines()
    assert header == "prediction_0,prediction_1"
    np.testing.assert_array_equal([list(map(float, line.split(","))) for line in lines], result.predict(X))
    text = succeeded("inspect", "m.safetensors")
    assert "2, without names" in text and "x1" in text
    np.save(folder / "wide.npy", rng.standard_normal((30, 3)))
    message = refused("predict", "m.safetensors", "wide.npy")
    assert message == "m.safetensors knows no names of columns, only that there are 2; wide.npy has 3"


def test_a_category_of_one_value_is_not_to_have_another(folder: Path) -> None:
    (folder / "t.csv").write_text("x,c,y\n1,a,2\n2,a,3\n3,a,5\n")
    succeeded("fit", "t.csv", "--target", "y", "--categorical", "c", "--out", "m.safetensors")
    (folder / "p.csv").write_text("x,c\n1,a\n2,b\n")
    assert "row 2 (line 3): column 'c' holds 'b', which the model has not seen" in refused(
        "predict", "m.safetensors", "p.csv"
    )


def test_a_prediction_that_fails_leaves_what_was_there(folder: Path, model: fg.FitResult) -> None:  # noqa: ARG001
    (folder / "bad.csv").write_text("size,city,rooms,new\n1,Oslo,1,1\n1,Oslo,1,\n")
    (folder / "out.csv").write_text("precious")
    refused("predict", "model.safetensors", "bad.csv", "--out", "out.csv")
    assert (folder / "out.csv").read_text() == "precious"
    assert not list(folder.glob(".*"))


# ---- errors ----------------------------------------------------------------------------------------------------------

GOOD = "x,y\n1,2\n2,3\n3,5\n"


def as_parquet(rows: pa.Table) -> bytes:
    file = io.BytesIO()
    parquet.write_table(rows, file)
    return file.getvalue()


def as_arrow(rows: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    return file.getvalue()


PARQUET, ARROW = (write(pa.table({"x": [1.0, 2.0, 3.0], "y": [2.0, 3.0, 5.0]})) for write in (as_parquet, as_arrow))

#: Of each case the files, the arguments, and the message.
ERRORS: dict[str, tuple[dict[str, str | bytes], str, str]] = {
    "wrong target": (
        {"t.csv": "size,price\n1,2\n2,3\n"},
        "fit t.csv --target Prize",
        "--target 'Prize' is no column of t.csv; did you mean 'price'?",
    ),
    "target like no column": (
        {"t.csv": GOOD},
        "fit t.csv --target weight",
        "--target 'weight' is no column of t.csv; it has 'x', 'y'",
    ),
    "wrong feature": (
        {"t.csv": "size,price\n1,2\n2,3\n"},
        "fit t.csv --target price --features siz",
        "--features 'siz' is no column of t.csv; did you mean 'size'?",
    ),
    "wrong category": (
        {"t.csv": GOOD},
        "fit t.csv --target y --categorical z",
        "--categorical 'z' is no column of t.csv; it has 'x', 'y'",
    ),
    "target among the features": (
        {"t.csv": GOOD},
        "fit t.csv --target y --features x,y",
        "--target 'y' cannot be a feature as well",
    ),
    "target among the categories": (
        {"t.csv": GOOD},
        "fit t.csv --target y --categorical y",
        "--target 'y' cannot be a feature as well",
    ),
    "nothing but the target": (
        {"t.csv": "y\n1\n2\n"},
        "fit t.csv --target y",
        "t.csv has no column but the target 'y'",
    ),
    "a column named with spaces": (
        {"t.csv": "x, y\n1, 2\n"},
        "fit t.csv --target y",
        "--target 'y' is no column of t.csv; did you mean ' y'?",
    ),
    "a feature that is not there, among some": (
        {"t.csv": GOOD},
        "fit t.csv --target y --features x,zz",
        "--features 'zz' is no column of t.csv; it has 'x', 'y'",
    ),
    "a target twice": (
        {"t.csv": "x,y,y\n1,2,3\n"},
        "fit t.csv --target y",
        "--target 'y' is the name of 2 columns of t.csv",
    ),
    "decimal comma": (
        {"t.csv": 'x,y\n"1,5",2\n"2,5",3\n'},
        "fit t.csv --target y",
        "t.csv, row 1 (line 2): column 'x' holds the text '1,5' (numbers are written as 1234.5); declare it with *",
    ),
    "percentages": (
        {"t.csv": "x,y\n5%,2\n"},
        "fit t.csv --target y",
        "*'5%' (numbers are written as 1234.5)*",
    ),
    "dates": (
        {"t.csv": "x,y\n2020-01-31,2\n"},
        "fit t.csv --target y",
        ("t.csv, row 1 (line 2): column 'x' holds the text '2020-01-31'; declare it with --categorical x, or choose "
         "others with --features"),
    ),
    "booleans": (
        {"t.csv": "x,y\ntrue,2\n"},
        "fit t.csv --target y",
        "t.csv, row 1 (line 2): column 'x' holds the text 'true'; declare it with --categorical x, or *",
    ),
    "UTF-16": ({"t.csv": GOOD.encode("utf-16")}, "fit t.csv --target y", "t.csv: its header is not in UTF-8"),
    "UTF-16 without a mark": (
        {"t.csv": GOOD.encode("utf-16-le")},
        "fit t.csv --target y",
        "t.csv: its header is not in UTF-8",
    ),
    "wrong delimiter": (
        {"t.csv": "x;y\n1;2\n"},
        "fit t.csv --target y",
        "--target 'y' is no column of t.csv; the header is one name, 'x;y': its values must be separated by ','",
    ),
    "no header": (
        {"t.csv": "1.5,2\n1,2\n"},
        "fit t.csv --target y",
        "--target 'y' is no column of t.csv; the first line must hold names, and holds 1.5, 2",
    ),
    "a name twice": (
        {"t.csv": "x,x,y\n1,2,3\n"},
        "fit t.csv --target y",
        "the feature 'x' is the name of 2 columns of t.csv",
    ),
    "a column without a name": (
        {"t.csv": ",x,y\n0,1,2\n1,2,3\n"},
        "fit t.csv --target y",
        "column 1 of t.csv has no name: choose the columns with --features",
    ),
    "undeclared text": (
        {"t.csv": "x,c,y\n1,2,2\n\n2,Oslo,3\n"},
        "fit t.csv --target y",
        ("t.csv, row 2 (line 4): column 'c' holds the text 'Oslo'; declare it with --categorical c, or choose "
         "others with --features"),
    ),
    "target that is text": (
        {"t.csv": "x,y\n1,2\n2,much\n"},
        "fit t.csv --target y",
        "t.csv, row 2 (line 3): target 'y' holds the text 'much'; it must hold numbers",
    ),
    "missing number": (
        {"t.csv": "x,y\n1,2\n2,3\n,4\n,5\n"},
        "fit t.csv --target y",
        "t.csv, row 3 (line 4): column 'x' has no value",
    ),
    "missing number, compressed": (
        {"t.csv.gz": gzip.compress(b"x,y\n1,2\n2,3\nNA,4\n")},
        "fit t.csv.gz --target y",
        "t.csv.gz, row 3 (line 4): column 'x' has no value",
    ),
    "missing target": (
        {"t.csv": "x,y\n1,2\n2,nan\n"},
        "fit t.csv --target y",
        "t.csv, row 2 (line 3): target 'y' has no value",
    ),
    "missing number in quotes": (
        {"t.csv": 'x,y\n1,2\n"",3\n'},
        "fit t.csv --target y",
        "t.csv, row 2 (line 3): column 'x' has no value",
    ),
    "missing category": (
        {"t.csv": "x,c,y\n1,a,2\n2,,3\n"},
        "fit t.csv --target y --categorical c",
        "t.csv, row 2 (line 3): column 'c' has no value",
    ),
    "missing category in quotes": (
        {"t.csv": 'x,c,y\n1,a,2\n2,"",3\n'},
        "fit t.csv --target y --categorical c",
        "t.csv, row 2 (line 3): column 'c' has no value",
    ),
    "infinite": (
        {"t.csv": "x,y\n1,2\n-inf,3\n"},
        "fit t.csv --target y",
        "t.csv, row 2 (line 3): column 'x' is infinite",
    ),
    "short row": (
        {"t.csv": "x,z,y\n1,2,3\n1,2\n"},
        "fit t.csv --target y",
        "t.csv, line 3: 2 values where the header has 3",
    ),
    "long row after a line break in quotes": (
        {"t.csv": 'x,c,y\n1,"a\nb",3\n\n1,2,3,4\n'},
        "fit t.csv --target y --features x",
        "t.csv, line 5: 4 values where the header has 3",
    ),
    "long row, tabs": (
        {"t.tsv": "x\ty\n1\t2\t3\n"},
        "fit t.tsv --target y",
        "t.tsv, line 2: 3 values where the header has 2",
    ),
    "empty file": ({"t.csv": ""}, "fit t.csv --target y", "t.csv is empty"),
    "blank file": ({"t.csv": "\n\n"}, "fit t.csv --target y", "t.csv is empty"),
    "nothing in the archive": ({"t.csv.gz": gzip.compress(b"")}, "fit t.csv.gz --target y", "t.csv.gz is empty"),
    "header only": ({"t.csv": "x,y\n"}, "fit t.csv --target y", "t.csv has no rows"),
    "header only, with categories": (
        {"t.csv": "x,c,y\n"},
        "fit t.csv --target y --categorical c",
        "t.csv has no rows",
    ),
    "one row": (
        {"t.csv": "x,y\n1,2\n"},
        "fit t.csv --target y",
        "a fit needs at least two rows, and there is 1 row to train with",
    ),
    "one row, streamed": (
        {"t.csv": "x,y\n1,2\n"},
        "fit t.csv --target y --memory 0",
        "a fit needs at least two rows, and there is 1 row to train with",
    ),
    "no row to test with": (
        {"t.csv": GOOD},
        "fit t.csv --target y --test-fraction 0.001",
        "--test-fraction 0.001 of 3 rows leaves none to test with",
    ),
    "no row to train with": (
        {"t.csv": GOOD},
        "fit t.csv --target y --test-fraction 0.999",
        "a fit needs at least two rows, and there are 0 rows to train with",
    ),
    "categories of one value": (
        {"t.csv": "c,y\na,1\na,2\n"},
        "fit t.csv --target y --categorical c",
        "no feature is left: each of the categories has one value only",
    ),
    "a value that is a column": (
        {"t.csv": "c,c=b,y\na,1,1\nb,2,2\n"},
        "fit t.csv --target y --categorical c",
        "the value of a category and a column are both named 'c=b'; rename the column",
    ),
    "the first value that is a column": (
        {"t.csv": "c=a,c,y\n1,a,1\n2,b,2\n"},
        "fit t.csv --target y --categorical c",
        "the value of a category and a column are both named 'c=a'; rename the column",
    ),
    "no such file": ({}, "fit t.csv --target y", "t.csv: No such file or directory"),
    "a folder": ({"t.csv/x": ""}, "fit t.csv --target y", "t.csv: Is a directory"),
    "unknown ending": (
        {"t.xlsx": GOOD},
        "fit t.xlsx --target y",
        ("t.xlsx: the name tells no kind of table that is known: .csv, .tsv, .tab, .parquet, .pq, .arrow, .feather, "
         ".ipc, .npy, .npz, or text ending in .gz"),
    ),
    "no ending": ({"t": GOOD}, "fit t --target y", "t: the name tells no kind of table that is known: *"),
    "compressed, of no kind": ({"t.gz": GOOD}, "fit t.gz --target y", "t.gz: the name tells no kind of table*"),
    "not compressed": ({"t.csv.gz": GOOD}, "fit t.csv.gz --target y", "t.csv.gz cannot be read: *"),
    "cut short": (
        {"t.csv.gz": gzip.compress(b"x,y\n" + b"1,2\n" * 9999, mtime=0)[:-30]},
        "fit t.csv.gz --target y",
        "t.csv.gz cannot be read: *",
    ),
    "not in UTF-8": (
        {"t.csv": "x,ÿ\n1,2\n".encode("latin-1")},
        "fit t.csv --target y",
        "t.csv: its header is not in UTF-8",
    ),
    "category not in UTF-8": (
        {"t.csv": "x,c,y\n1,a,2\n2,ÿ,3\n".encode("latin-1")},
        "fit t.csv --target y --categorical c",
        "t.csv, row 2 (line 3): column 'c' is not in UTF-8",
    ),
    "quote not closed": (
        {"t.csv": 'x,y\n1,"2\n' + "2,3\n" * 5000},
        "fit t.csv --target y",
        ("t.csv, row 1 (line 2): target 'y' holds the text "
         r"'2\n2,3\n2,3\n2,3\n2,3\n2,3\n2,3\n2,3\n2,3\n2,3...' (is a quote not closed?); it must hold numbers"),
    ),
    "quote not closed in a long file": (
        {"t.csv": 'x,y\n1,2\n1,"2\n' + "2,3\n" * 500_000},
        "fit t.csv --target y",
        "t.csv, row 2 (line 3): *is a quote not closed?*",
    ),
    "long row": (
        {"t.csv": "x,y\n" + "1,2\n" * 9 + "1" * 3_000_000 + ",2\n"},
        "fit t.csv --target y",
        "t.csv: a row has more than 1,048,576 bytes, or a quote is not closed",
    ),
    "not Parquet": ({"t.parquet": GOOD}, "fit t.parquet --target y", "t.parquet cannot be read: *"),
    "not Arrow": ({"t.arrow": GOOD}, "fit t.arrow --target y", "t.arrow cannot be read: *"),
    "Parquet, cut short": (
        {"t.parquet": PARQUET[: len(PARQUET) // 2]},
        "fit t.parquet --target y",
        "t.parquet cannot be read: *",
    ),
    "Parquet, damaged": (
        {"t.parquet": PARQUET[:4] + b"\xff" * 60 + PARQUET[64:]},
        "fit t.parquet --target y",
        "t.parquet cannot be read: *",
    ),
    "Parquet without rows": (
        {"t.parquet": as_parquet(pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}))},
        "fit t.parquet --target y",
        "t.parquet has no rows",
    ),
    "Parquet, a name twice": (
        {"t.parquet": as_parquet(pa.Table.from_arrays([pa.array([1.0]), pa.array([1.0])], names=["x", "x"]))},
        "fit t.parquet --target x",
        "--target 'x' is the name of 2 columns of t.parquet",
    ),
    "a file of Arrow, cut short": (
        {"t.arrow": ARROW[:-50]},
        "fit t.arrow --target y",
        "t.arrow cannot be read: *",
    ),
    "a stream of Arrow, cut short": (
        {"t.arrow": ARROW[8 : len(ARROW) // 2]},
        "fit t.arrow --target y",
        "t.arrow cannot be read: *",
    ),
    "Feather of version 1": (
        {"t.feather": b"FEA1" + bytes(99)},
        "fit t.feather --target y",
        "t.feather cannot be read: it is in version 1 of Feather: write it anew in version 2",
    ),
    "not NPY": ({"t.npy": GOOD}, "fit t.npy --target y", "t.npy cannot be read: *"),
    "not NPZ": ({"t.npz": GOOD}, "fit t.npz --target y", "t.npz cannot be read: File is not a zip file"),
    "gd of rows that stream": (
        {"t.csv": GOOD},
        "fit t.csv --target y --memory 10 --solver gd",
        ("--solver gd needs the rows of t.csv in memory, where they may take 10 bytes and take more; raise --memory, "
         "choose fewer --features, or leave --solver out to fit from second moments"),
    ),
    "fista of rows that stream": (
        {"t.csv": GOOD},
        "fit t.csv --target y --memory 1k --memory 0 --solver fista --l1 0.1",
        "--solver fista needs the rows of *",
    ),
    "l1 of a solver that has no use for it": (
        {},     # found before there is a file
        "fit t.csv --target y --memory 0 --solver moments --l1 0.1",
        "--solver moments has no use for --l1; it is for 'fista', 'sgd', 'saga'",
    ),
    "a rule that is another solver's": (
        {},
        "fit t.csv --target y --solver sgd --lr bb",
        "--solver sgd has no use for --lr='bb'; it is for 'gd'",
    ),
    "a step below 0": (
        {},
        "fit t.csv --target y --solver gd --lr -1",
        "--lr must be a finite number above 0, got -1.0",
    ),
    "no size": (
        {"t.csv": GOOD},
        "fit t.csv --target y --memory much",
        "--memory must be a size such as 500M or 2G, got 'much'",
    ),
    "bad fraction": (
        {"t.csv": GOOD},
        "fit t.csv --target y --test-fraction 1",
        "--test-fraction must be at least 0 and below 1, got 1",
    ),
    "fraction that is none": (
        {"t.csv": GOOD},
        "fit t.csv --target y --test-fraction nan",
        "--test-fraction must be at least 0 and below 1, got nan",
    ),
    "no such solver": ({"t.csv": GOOD}, "fit t.csv --target y --solver newton", "--solver must be one of 'auto', *"),
    "no iterations": (
        {"t.csv": GOOD},
        "fit t.csv --target y --max-iter 0",
        "--max-iter must be an integer of at least 1, got 0",
    ),
    "a step that the solver does not take": (
        {"t.csv": GOOD},
        "fit t.csv --target y --lr 0.1",
        "--solver auto has no use for --lr; it is for 'gd', 'sgd', 'saga'",
    ),
    "negative penalty": (
        {"t.csv": GOOD},
        "fit t.csv --target y --l2 -1",
        "--l2 must be a finite number of at least 0, got -1.0",
    ),
    "step that diverges": (
        {"t.csv": GOOD},
        "fit t.csv --target y --solver gd --lr 9",
        "*lr=9*2/λmax*",
    ),
    "no such rule": (
        {"t.csv": GOOD},
        "fit t.csv --target y --solver gd --lr fast",
        "--lr must be a number or one of auto, *, got 'fast'",
    ),
    "overflow": ({"t.csv": "x,y\n1e200,1\n-1e200,2\n"}, "fit t.csv --target y", "*overflow*"),
    "no folder for the model": (
        {"t.csv": GOOD},
        "fit t.csv --target y --out no/m.safetensors",
        "no/m.safetensors cannot be written: there is no folder no",
    ),
    "a folder in the model's place": (
        {"t.csv": GOOD, "m/x": ""},
        "fit t.csv --target y --out m",
        "m cannot be written: it is a folder",
    ),
    "no folder for predictions": (
        {},
        "predict m t.csv --out no/p.csv",
        "no/p.csv cannot be written: there is no folder no",
    ),
    "the model in the place of the data": (
        {"t.csv": GOOD},
        "fit t.csv --target y --out ./t.csv",
        "--out must be another file: t.csv is what is read",
    ),
    "the picture in the place of the model": (
        {"t.csv": GOOD},
        "fit t.csv --target y --out m.png --plot m.png",
        "--plot must be another file: m.png is what --out writes",
    ),
    "the predictions in the place of the data": (
        {"t.csv": GOOD},
        "predict m.safetensors t.csv --out t.csv",
        "--out must be another file: t.csv is what is read",
    ),
    "no folder for the houses": (
        {},
        "demo --data no/houses.csv",
        "no/houses.csv cannot be written: there is no folder no",
    ),
    "a folder for a model": ({"m/x": ""}, "inspect m", "m: Is a directory"),
    "no such kind of picture": (
        {"t.csv": GOOD},
        "fit t.csv --target y --plot p.xyz",
        "--plot must end in .png, .pdf or .svg, got p.xyz",
    ),
    "features that name nothing": ({"t.csv": GOOD}, "fit t.csv --target y --features=", "--features names no column"),
    "no such model": ({"t.csv": GOOD}, "predict m.safetensors t.csv", "m.safetensors: No such file or directory"),
    "no model": (
        {"m.safetensors": GOOD, "t.csv": GOOD},
        "predict m.safetensors t.csv",
        "m.safetensors is no fastgd model *",
    ),
    "nothing to inspect": (
        {"m.safetensors": b"\0" * 99},
        "inspect m.safetensors",
        "m.safetensors is no fastgd model *",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_wrong_is_said_in_one_line(folder: Path, case: str) -> None:
    files, arguments, expected = ERRORS[case]
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refused(*arguments.split())
    place = 0
    for part in expected.split("*"):  # in this order, and without a star nothing between
        found = message.find(part, place)
        assert found >= 0, message
        place = found + len(part)
    assert "*" in expected or message == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "size,city,rooms,new\n1,Paris,2,1\n",
            ("*row 1 (line 2): column 'city' holds 'Paris', which the model has not seen; it "
             "knows 'Bergen', 'Oslo', 'Tromsø'"),
        ),
        (
            "size,city,romms,new\n1,Oslo,2,1\n",
            "the model's feature 'rooms' is no column of p.csv; did you mean 'romms'?",
        ),
        (
            "size,city,rooms,new\n1,Oslo,two,1\n",
            "*row 1 (line 2): column 'rooms' holds the text 'two'; the model has it as a number",
        ),
        ("size,city,rooms,new\n", "p.csv has no rows"),
        ("size,city,rooms,new\n1,,2,1\n", "p.csv, row 1 (line 2): column 'city' has no value"),
    ],
)
@pytest.mark.usefixtures("model")
def test_what_is_wrong_with_data_to_predict_from(folder: Path, content: str, message: str) -> None:
    (folder / "p.csv").write_text(content)
    said = refused("predict", "model.safetensors", "p.csv")
    assert said.endswith(message.lstrip("*")) if message.startswith("*") else said == message


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pa.array([1.0, None, 3.0]), "t.parquet, row 2: column 'x' has no value"),
        (pa.array([1.0, 2.0, np.nan]), "t.parquet, row 3: column 'x' has no value"),
        (pa.array([1.0, np.inf, np.nan]), "t.parquet, row 2: column 'x' is infinite"),
        (pa.array([None, None, None]), "t.parquet, row 1: column 'x' has no value"),
        (
            pa.array(["1", "2", "3"]),
            "t.parquet, row 1: column 'x' holds the text '1'; declare it with --categorical x, or",
        ),
        (
            pa.array([1, 2, 3], pa.timestamp("ms")),
            "t.parquet, row 1: column 'x' holds timestamp[ms], '1970-01-01 00:00:00.001000';",
        ),
        (pa.array([[1], [2], [3]]), "t.parquet, row 1: column 'x' holds list<"),
        (pa.array([{"a": 1}] * 3), "t.parquet, row 1: column 'x' holds struct<a: int64>, "),
        (pa.array([b"1", b"2", b"3"]), "t.parquet, row 1: column 'x' holds binary, "),
        (pa.array([1, 2, 3], pa.date32()), "t.parquet, row 1: column 'x' holds date32[day], '1970-01-02';"),
        (
            pa.array(["a", "b", "a"]).dictionary_encode(),
            "t.parquet, row 1: column 'x' holds the text 'a'; declare it with --categorical x, or",
        ),
    ],
)
def test_types_that_are_no_numbers(folder: Path, column: pa.Array, problem: str) -> None:
    parquet.write_table(pa.table({"x": column, "y": [1.0, 2.0, 4.0]}), folder / "t.parquet")
    assert refused("fit", "t.parquet", "--target", "y").startswith(problem)


def test_types_that_are_numbers(folder: Path) -> None:
    for kind in (pa.bool_(), pa.uint8(), pa.int64(), pa.float16(), pa.float32(), pa.decimal128(9, 2)):
        column = (
            pa.array(np.array([0, 1, 0], np.int8)).cast(kind)
            if kind != pa.float16()
            else pa.array(np.array([0, 1, 0], np.float16))
        )
        parquet.write_table(pa.table({"x": column, "y": [1.0, 2.0, 3.0]}), folder / "t.parquet")
        assert as_json("fit", "t.parquet", "--target", "y")["coef"]["x"] == pytest.approx(0.0, abs=1e-12)


def test_categories_need_be_no_text(folder: Path) -> None:
    parquet.write_table(pa.table({"x": [3, 3, 10, 10], "y": [1.0, 2.0, 4.0, 5.0]}), folder / "t.parquet")
    found = as_json("fit", "t.parquet", "--target", "y", "--categorical", "x")
    assert found["categories"] == {"x": ["10", "3"]}
    assert found["coef"]["x=3"] == pytest.approx(-3.0)
    parquet.write_table(pa.table({"x": [[1], [2]], "y": [1.0, 2.0]}), folder / "t.parquet")
    message = refused("fit", "t.parquet", "--target", "y", "--categorical", "x")
    assert message.startswith("t.parquet: column 'x' holds list<") and message.endswith("which are no categories")


def test_an_identifier_is_no_category(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastgd._design.MOST_CATEGORIES", 3)
    (folder / "t.csv").write_text("x,y\na,1\nb,1\nc,1\nd,1\n")
    message = refused("fit", "t.csv", "--target", "y", "--categorical", "x")
    assert message == "t.csv: column 'x' has more than 3 values; is it an identifier?"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, "t.npz: its arrays have different numbers of rows"),
        (
            {"a": np.zeros((2, 2, 2))},
            "t.npz cannot be read: its array 'a' has shape (2, 2, 2); it must have one or two axes",
        ),
        ({"a": np.array(3.0), "y": np.zeros(3)}, "t.npz cannot be read: its array 'a' has shape (); it must have"),
        ({}, "--target 'y' is no column of t.npz; it has no columns"),
        (
            {"a": np.zeros(3, [("v", float, 2), ("y", float)])},
            "t.npz: column 'v' holds arrays of shape (2,), which are not read",
        ),
        (
            {"a": np.zeros(3, [("v", [("u", float)]), ("y", float)])},
            "t.npz: column 'v' holds [('u', '<f8')] elements, which are not read",
        ),
        (
            {"a": np.zeros(3, "M8[D]"), "y": np.zeros(3)},
            "t.npz, row 1: column 'a' holds date32[day], '1970-01-01'; declare it",
        ),
        ({"a": np.array([None, 1])}, "t.npz cannot be read: its array 'a' holds Python objects, which are not read"),
        (
            {"a": np.zeros(3, complex), "y": np.zeros(3)},
            "t.npz: column 'a' holds complex128 elements, which are not read",
        ),
    ],
)
def test_arrays_that_make_no_table(folder: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(folder / "t.npz", **arrays)
    assert refused("fit", "t.npz", "--target", "y").startswith(message)


def test_a_file_that_may_not_be_read(folder: Path) -> None:
    (folder / "t.csv").write_text(GOOD)
    (folder / "t.csv").chmod(0)
    try:
        (folder / "t.csv").read_text()
    except PermissionError:
        assert refused("fit", "t.csv", "--target", "y") == "t.csv: Permission denied"
    else:  # the user may read everything
        succeeded("fit", "t.csv", "--target", "y")


def test_too_little_memory_is_said_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise MemoryError

    (folder / "t.csv").write_text(GOOD)
    monkeypatch.setattr("fastgd.cli.gather", exhausted)
    assert refused("fit", "t.csv", "--target", "y") == "not enough memory: choose fewer columns"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fit", "missing argument 'DATA'; see fastgd fit --help"),
        ("fit t.csv", "missing option '--target'; see fastgd fit --help"),
        ("fit t.csv --target", "option '--target' requires an argument; see fastgd fit --help"),
        ("fit t.csv --tagret y", "there is no option --tagret; did you mean --target?"),
        ("fit t.csv --target y --test 0.2", "there is no option --test; did you mean --test-fraction?"),
        ("fit t.csv --target y --xyz 1", "there is no option --xyz; see fastgd fit --help"),
        ("fit t.csv --target y --json=yes", "option '--json' does not take a value; see fastgd fit --help"),
        ("fit t.csv more.csv --target y", "got unexpected extra argument*"),
        ("fit t.csv --target y --l1 few", "--l1 must be a number, got 'few'; see fastgd fit --help"),
        ("fit t.csv --target y --l2 much", "--l2 must be a number, got 'much'; see fastgd fit --help"),
        ("fit t.csv --target y --max-iter 1.5", "--max-iter must be a whole number, got '1.5'; see fastgd fit --help"),
        ("fit t.csv --target y --test-fraction 10%", "--test-fraction must be a number, got '10%'; see *"),
        ("predict m", "missing argument 'DATA'; see fastgd predict --help"),
        ("inspect", "missing argument 'MODEL'; see fastgd inspect --help"),
        ("info --jsn", "there is no option --jsn; did you mean --json?"),
        ("info more", "got unexpected extra argument*"),
        ("walk", "there is no command 'walk'; see fastgd --help"),
        ("pred m t.csv", "there is no command 'pred'; did you mean predict?"),
        ("--verson", "there is no option --verson; did you mean --version?"),
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments: str, message: str) -> None:
    said = refused(*arguments.split())
    assert said.startswith(message[:-1]) if message.endswith("*") else said == message


def test_help() -> None:
    """Of every command, in 80 columns; without a command that is an error."""
    done = fastgd()
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == succeeded("--help") == succeeded("-h")
    assert succeeded("--version") == f"fastgd {fg.__version__}\n"
    for command, known in OPTIONS.items():
        text = CliRunner(env={"COLUMNS": "80"}).invoke(app, [command, "--help"]).stdout
        assert f"fastgd {command} [OPTIONS]" in text and max(map(len, text.splitlines())) <= 80
        assert re.findall(r"^ +(?:-h, )?--([a-z0-9-]+)", text, re.MULTILINE) == [*known.split(), "help"]
        assert command in done.stderr


def test_messages_are_short_and_do_nothing_to_the_terminal(folder: Path) -> None:
    (folder / "t.csv").write_text("n" * 100_000 + ",\x1b[31mred,y\n1,\x1b[2J,2\n2,3,3\n")
    message = refused("fit", "t.csv", "--target", "z")
    assert len(message) < 200 and "'\\x1b[31mred', 'y'" in message
    assert "holds the text '\\x1b[2J'" in refused("fit", "t.csv", "--target", "y", "--features", "\x1b[31mred")
    np.savez(folder / "wide.npz", X=np.random.default_rng(0).standard_normal((90, 1000)), y=np.arange(90.0))
    assert max(map(len, succeeded("fit", "wide.npz", "--target", "y").splitlines())) < 200


def test_a_folder_that_may_not_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before any work; also where the user may write everywhere."""
    (folder / "closed").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed")
    message = refused("fit", "t.csv", "--target", "y", "--out", "closed/m.safetensors")
    assert message == "closed/m.safetensors cannot be written: no permission to write in the folder closed"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes with names")
@pytest.mark.usefixtures("model")
def test_predictions_go_into_a_pipe_or_through_a_link_without_replacing_it(folder: Path) -> None:
    expected = succeeded("predict", "model.safetensors", "t.csv")
    (folder / "link.csv").symlink_to("kept.csv")
    (folder / "kept.csv").write_text("old")
    succeeded("predict", "model.safetensors", "t.csv", "--out", "link.csv")
    assert (folder / "link.csv").is_symlink() and (folder / "kept.csv").read_text() == expected
    os.mkfifo(folder / "pipe")
    with subprocess.Popen(["cat", folder / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        succeeded("predict", "model.safetensors", "t.csv", "--out", "pipe")
        assert reader.communicate(timeout=60)[0] == expected
    message = refused("fit", "t.csv", "--target", "price", "--categorical", "city", "--out", "pipe")
    assert message == "pipe cannot be written: it is no regular file, which a model replaces as a whole"
    assert refused("inspect", "pipe") == "pipe is no regular file, and so no model"
    assert (folder / "pipe").is_fifo()


@pytest.mark.usefixtures("model")
def test_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastgd.cli.fit_gathered", interrupted)
    (folder / "m.safetensors").write_text("old")
    done = fastgd("fit", "t.csv", "--target", "price", "--categorical", "city", "--out", "m.safetensors")
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "fastgd: interrupted\n")
    assert (folder / "m.safetensors").read_text() == "old"


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        ("typer", "info", "the command needs typer and rich: pip install 'fastgd[cli]'"),
        ("rich", "info", "the command needs typer and rich: pip install 'fastgd[cli]'"),
        ("pyarrow", "fit t.csv --target y", "reading tables needs pyarrow: pip install 'fastgd[cli]'"),
        ("safetensors", "fit t.csv --target y --out m", "--out needs safetensors: pip install 'fastgd[io]'"),
        (
            "matplotlib.figure",
            "fit t.csv --target y --plot p.png",
            "--plot needs matplotlib: pip install 'fastgd[plot]'",
        ),
    ],
)
def test_an_extra_that_is_missing_is_named_in_one_line(
    folder: Path, missing: str, arguments: str, message: str
) -> None:
    (folder / "t.csv").write_text(GOOD)
    code = f"import sys; sys.modules[{missing!r}] = None; from fastgd.__main__ import main; main()"
    done = process(*arguments.split(), code=code)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"fastgd: {message}\n")


#: The options of each command, and a run of each that has a key for all that `--json` may say.
OPTIONS = {
    "fit": "target features categorical solver l1 l2 lr max-iter test-fraction memory out plot json",
    "predict": "out json",
    "inspect": "json",
    "demo": "data json",
    "info": "json",
}
RUNS = {
    "fit": "fit t.csv --target price --categorical city",
    "predict": "predict model.safetensors t.csv --out p.csv",
    "inspect": "inspect model.safetensors",
    "demo": "demo",
}

#: The command that gets Ctrl-C's signal half a second after its solver has begun.
INTERRUPTED = """
import os, signal, threading
from fastgd import _table_fit
from fastgd.__main__ import main

signal.signal(signal.SIGINT, signal.default_int_handler)
fit = _table_fit.fit

def fit_then_interrupted(*args, **options):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    return fit(*args, **options)

_table_fit.fit = fit_then_interrupted
main()
"""

# ---- the command as a process ----------------------------------------------------------------------------------------


def test_errors_of_a_process(folder: Path) -> None:
    (folder / "t.csv").write_text("x,y\n1,2\n2\n")
    done = process("fit", "t.csv", "--target", "y", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fastgd: t.csv, line 3: 1 values where the header has 2\n"


def on_a_terminal(*arguments: Any) -> tuple[str, str]:
    """What the command prints on stdout, a pipe, and on stderr, a terminal of 80 columns."""
    import pty

    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "fastgd", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # so Linux says that nobody has it open any more
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    printed = child.communicate(timeout=120)[0]
    assert child.returncode == 0, shown
    return printed.decode(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.mark.skipif(sys.platform == "win32", reason="pseudoterminals")
@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
def test_bars_are_shown_on_a_terminal_and_json_stays_json(folder: Path, name: str) -> None:
    """Of both passes over the file, and of the descent."""
    write = write_delimited if name == "t.csv.gz" else parquet.write_table
    write(table(), folder / name)
    arguments = ("fit", name, "--target", "price", "--categorical", "city", "--json")
    printed, shown = on_a_terminal(*arguments, "--memory", "0")
    assert json.loads(printed)["train"]["n_rows"] == ROWS
    assert re.search(rf"categories of {name} ━+ +100% 700 rows, \S+ left", shown)
    assert re.search(rf"[\r\n]{name} ━+ +100% 700 rows, \S+ left", shown)
    assert max(map(len, re.split(r"[\r\n]+", shown))) <= 80
    printed, shown = on_a_terminal(*arguments, "--solver", "gd")
    assert json.loads(printed)["solver"] == "gd"
    assert re.search(rf"[\r\n]{name} ━+ 100% 700 rows.*[\r\n]iteration [\d,]+ / 1,000 ", shown, re.DOTALL)


def test_no_bars_are_shown_in_a_pipe(folder: Path) -> None:
    write_delimited(table(), folder / "t.csv")
    done = process("fit", "t.csv", "--target", "price", "--categorical", "city", "--solver", "gd", "--json")
    assert json.loads(done.stdout)["solver"] == "gd" and done.stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="the device is Linux's")
@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("arguments", ["predict model.safetensors t.csv", "info --json", "fit --help"])
def test_stdout_that_is_full(arguments: str) -> None:
    done = subprocess.run(
        f'"{sys.executable}" -m fastgd {arguments} > /dev/full', shell=True, stderr=subprocess.PIPE, text=True
    )
    assert (done.returncode, done.stderr) == (2, "fastgd: No space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="the shell's way to close it")
@pytest.mark.usefixtures("model")
def test_stdout_that_is_closed() -> None:
    command = f'"{sys.executable}" -m fastgd predict model.safetensors t.csv >&-'
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "fastgd: stdout is closed: name a file with --out\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_in_the_middle_of_a_fit(folder: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(folder / "t.npy", rng.standard_normal((20_000, 20)))
    options = ["--target", "x0", "--solver", "gd", "--lr", "1e-9", "--max-iter", "100000000", "--out", "m.safetensors"]
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, "fit", "t.npy", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    said = child.communicate(timeout=120)
    assert (child.returncode, *said) == (130, "", "fastgd: interrupted\n")
    assert not [*folder.glob("*m.safetensors*")]


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path, model: fg.FitResult) -> None:  # noqa: ARG001
    write_delimited(table(50_000), folder / "long.csv")
    command = f'"{sys.executable}" -m fastgd predict model.safetensors long.csv | head -1'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout == "prediction\n"
    assert "Traceback" not in done.stderr


# ---- demo, info, words -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_the_demo_finds_the_truth() -> None:
    found = as_json("demo", "--data", "houses.csv")
    for solver in ("gd", "auto"):
        at = [*found[solver]["coef"].values(), found[solver]["intercept"]]
        np.testing.assert_allclose(at, list(found["truth"].values()), rtol=0.1)
    again = as_json("fit", "houses.csv", "--target", "price", "--categorical", "city")
    assert again["coef"] == found["auto"]["coef"]
    assert again["train"]["n_rows"] == len(houses()[2])


def test_info() -> None:
    found = as_json("info")
    assert found["fastgd"] == fg.__version__ and found["NumPy"] == np.__version__
    assert all(f"{name + ':':<17}{value}" in succeeded("info") for name, value in found.items())


def test_words_of_options() -> None:
    assert [bytes_of(text) for text in ("0", "12", "1k", "1.5 MB", "2G", "1t")] == [
        0,
        12,
        1000,
        1_500_000,
        2 * 10**9,
        10**12,
    ]
    for text in ("", "-1", "1X", "G", "1 2"):
        with pytest.raises(ValueError, match="--memory must be a size"):
            bytes_of(text)
    assert listed(None) is None
    assert listed(["a, b", 'c,"d, e"', "a"]) == ["a", "b", "c", "d, e"]


@pytest.mark.usefixtures("model")
def test_the_docs_speak_of_every_option_key_and_format() -> None:
    page = DOCS.read_text(encoding="utf-8")
    options = {option for command in OPTIONS for option in OPTIONS[command].split()} | {"version"}
    assert [option for option in sorted(options) if f"--{option}" not in page] == []
    keys = {key for name in ("fit", "predict", "inspect", "demo") for key in as_json(*RUNS[name].split())}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []
    assert [ending for ending in (*_tables.KINDS, *_tables.COMPRESSIONS) if f"`{ending}`" not in page] == []


def test_the_session_in_the_docs_is_what_happens(tmp_path: Path) -> None:
    assert not differences(DOCS.read_text(encoding="utf-8"), tmp_path)
