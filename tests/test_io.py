"""Files: a saved result comes back to the bit, bad files are named errors, and kills leave a good file behind."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace

import kills as killing
import numpy as np
import onnx
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastgd as fg
from fastgd import _files, io


def problem(n=60, d=4, targets=None, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.arange(1, d + 1) + 1
    w = rng.standard_normal((d,) if targets is None else (d, targets))
    y = X @ w + rng.standard_normal((n,) if targets is None else (n, targets))
    return X.astype(dtype), y.astype(dtype)


def identical(a, b):
    """Whether two results are the same in types and bits, not just in value."""
    for field in fields(fg.FitResult):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if type(mine) is not type(other):
            return False
        pairs = [(mine[key], other[key]) for key in mine] if field.name == "history" else [(mine, other)]
        for left, right in pairs:
            if isinstance(left, np.ndarray):
                if left.dtype != right.dtype or left.shape != right.shape or left.tobytes() != right.tobytes():
                    return False
            elif repr(left) != repr(right):
                return False
    return True


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("options", [{}, {"l1": 0.1}, {"solver": "cg"}, {"solver": "gd", "max_iter": 7, "tol": 0}])
def test_a_saved_result_comes_back_to_the_bit(tmp_path, dtype, targets, options):
    X, y = problem(targets=targets, dtype=dtype)
    r = fg.fit(X, y, **options)
    r.save(tmp_path / "model.safetensors")
    q = fg.load(tmp_path / "model.safetensors")
    assert identical(q, r)
    assert q == r
    assert q.predict(X).tobytes() == r.predict(X).tobytes()
    assert q.explain() == r.explain()


def test_a_path_comes_back(tmp_path):
    r = fg.fit(*problem(), solver="gd", keep_path=True, max_iter=5, tol=0)
    r.save(tmp_path / "m")
    q = fg.load(tmp_path / "m")
    assert q == r
    assert q.path.optimum().tobytes() == r.path.optimum().tobytes()
    for name, value in vars(r.path).items():
        assert type(getattr(q.path, name)) is type(value)
        assert np.array_equal(getattr(q.path, name), value)
    tree = io.tree_of(r)
    for name in ("w", "grad", "hessian", "parameters"):
        _files.write_file(tmp_path / "m", io.KIND, io.VERSION, tree | {"path": tree["path"] | {name: np.ones((2, 2))}})
        with pytest.raises(ValueError, match="path is not what it should be"):
            fg.load(tmp_path / "m")


def test_what_is_not_finite_comes_back(tmp_path):
    r = replace(fg.fit(*problem()), gap_bound=float("nan"), loss=float("inf"), intercept=-0.0, optimality=5e-324)
    r.save(tmp_path / "m")
    assert identical(fg.load(tmp_path / "m"), r)


def test_a_validation_set_s_history_comes_back(tmp_path):
    X, y = problem(200)
    r = fg.fit(X[:100], y[:100], solver="sgd", X_val=X[100:], y_val=y[100:], tol=0, max_iter=5)
    r.save(tmp_path / "m")
    assert "val_loss" in r.history
    assert identical(fg.load(tmp_path / "m"), r)


def test_moments_are_saved_too(tmp_path):
    X, y = problem()
    r = fg.Moments(4).update(X, y).fit(l2=0.5)
    assert r.options == {"l1": 0.0, "l2": 0.5, "fit_intercept": True}
    r.save(tmp_path / "m")
    assert identical(fg.load(tmp_path / "m"), r)


def test_names_categories_and_options_come_back(tmp_path):
    X, y = problem()
    frame = pd.DataFrame(X, columns=["a", "b", "straße", "d.e"])
    r = replace(fg.fit(frame, y, l2=1), categories={"straße": ("$tensor", ""), "$x": ()})
    r.save(tmp_path / "m")
    q = fg.load(tmp_path / "m")
    assert q.feature_names == ("a", "b", "straße", "d.e")
    assert q.categories == {"straße": ("$tensor", ""), "$x": ()}
    assert q.options["l2"] == 1.0 and q.options["solver"] == "auto" and q.options["fit_intercept"] is True
    assert identical(q, r)


@pytest.mark.parametrize("name", ["$tensor", "$float", "$$tensor", "$", ""])
def test_a_column_may_have_any_name(tmp_path, name):
    r = replace(fg.fit(*problem(d=1)), feature_names=(name,), categories={name: (name,)})
    r.save(tmp_path / "m")
    assert fg.load(tmp_path / "m") == r


def test_flags_of_numpy_can_be_saved(tmp_path):
    r = fg.fit(*problem(), fit_intercept=np.True_, l2=np.float32(0.5), max_iter=np.int64(10))
    r.save(tmp_path / "m")
    assert fg.load(tmp_path / "m") == r


def test_other_readers_find_the_coefficients(tmp_path):
    r = fg.fit(*problem())
    r.save(tmp_path / "m")
    assert (load_file(tmp_path / "m")["coef"] == r.coef).all()
    with safe_open(tmp_path / "m", framework="numpy") as file:
        header = json.loads(file.metadata()["header"])
        assert file.metadata()["format"] == "fastgd model 1"
    assert header["loss"] == r.loss


# ---- names of columns ------------------------------------------------------------------------------------------------


def test_the_names_of_frames_are_kept_and_checked():
    X, y = problem()
    names = ("a", "b", "c", "d")
    columns = {name: X[:, k] for k, name in enumerate(names)}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        r = fg.fit(frame, y)
        assert r.feature_names == names
        np.testing.assert_allclose(r.predict(frame), r.predict(X), rtol=1e-13)


@pytest.mark.parametrize("columns", [None, [0, 1, 2, 3], ["a", "b", 3, "d"]])
def test_columns_without_names_have_none(columns):
    X, y = problem()
    assert fg.fit(pd.DataFrame(X, columns=columns), y).feature_names is None
    assert fg.fit(X, y).feature_names is None


def test_frames_with_other_columns_are_refused():
    X, y = problem()
    frame = pd.DataFrame(X, columns=list("abcd"))
    r = fg.fit(frame, y)
    with pytest.raises(ValueError, match="X lacks the column 'b' of the fit"):
        r.predict(frame.rename(columns={"b": "x"}))
    with pytest.raises(ValueError, match="X has a column 'e' that was not in the fit"):
        r.predict(frame.assign(e=1.0))
    with pytest.raises(ValueError, match="columns of the fit in their order, but its column 0 is 'd'"):
        r.predict(frame[["d", "a", "b", "c"]])
    with pytest.raises(ValueError, match="columns of the fit in their order, but its column 4 is 'a'"):
        r.predict(pd.concat([frame, frame[["a"]]], axis=1))
    np.testing.assert_allclose(r.predict(frame[list(r.feature_names)]), r.predict(X), rtol=1e-13)


# ---- bad files -------------------------------------------------------------------------------------------------------


@pytest.fixture(name="model")
def saved_model(tmp_path):
    path = tmp_path / "model.safetensors"
    fg.fit(*problem()).save(path)
    return path


def test_a_file_cut_short_anywhere_is_one_clear_error(model):
    content = model.read_bytes()
    for size in [*range(64), *range(64, len(content), 97), len(content) - 1]:
        model.write_bytes(content[:size])
        with pytest.raises(ValueError, match=re.escape(str(model))):
            fg.load(model)


def test_a_flipped_bit_anywhere_is_one_clear_error(model):
    content = model.read_bytes()
    for place in range(0, len(content), 31):
        damaged = bytearray(content)
        damaged[place] ^= 1
        model.write_bytes(damaged)
        try:
            fg.load(model)
        except ValueError as error:
            assert str(model) in str(error)
        else:
            pytest.fail(f"nobody saw it at {place}")


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "x"
    for content in (b"", b"not a model at all, but a text", b"\x80\x04\x95" + bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} is no fastgd model file, or cut short"):
            fg.load(path)
    save_file({"coef": np.ones(3)}, path)
    with pytest.raises(ValueError, match="but a safetensors file of another program"):
        fg.load(path)
    _files.write_file(path, "fastgd checkpoint", 1, {})
    with pytest.raises(ValueError, match="is no fastgd model file, but a fastgd checkpoint file"):
        fg.load(path)


MUTATE = """
import collections, random, resource, sys, fastgd as fg
path, good = sys.argv[1], open(sys.argv[1], "rb").read()
model, rng, found = fg.load(path), random.Random(0), collections.Counter()
header = int.from_bytes(good[:8], "little")
digits = [place for place in range(8, 8 + header) if good[place] in b"0123456789"]
with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 29),) * 2)
for turn in range(2000):
    bad = bytearray(good)
    if turn % 4 == 0:
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    elif turn % 4 == 1:
        for place in rng.sample(digits, rng.randrange(1, 5)):       # shapes, places in the file, the version ...
            bad[place] = rng.choice(b"0123456789")
    elif turn % 4 == 2:
        place = rng.randrange(len(bad))
        bad[place : place + rng.randrange(1, 200)] = rng.randbytes(rng.randrange(200))
    else:
        sizes = [0, 1, header - 1, header + 1, len(good), 10**8, 2**31, 2**40, 2**63, 2**64 - 1]
        bad[:8] = rng.choice(sizes).to_bytes(8, "little")
    with open(path, "wb") as file:
        file.write(bad)
    try:
        same = fg.load(path) == model
        found["the same" if same else "WRONG"] += 1
    except ValueError as error:
        found["refused" if str(error).startswith(path) else repr(error)] += 1
print(*sorted(found))
"""


def test_two_thousand_damaged_files_are_refused_with_little_memory(model):
    """Whatever sizes a header claims: the process may have half a gigabyte more than when it has read a good file."""
    done = subprocess.run([sys.executable, "-c", MUTATE, os.fspath(model)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) in [("refused\n", ""), ("refused the same\n", "")]


def test_a_missing_file_and_a_directory_keep_their_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fg.load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        fg.load(tmp_path)
    with pytest.raises(TypeError):
        fg.load(None)


def test_a_later_version_is_named(tmp_path):
    _files.write_file(tmp_path / "m", io.KIND, io.VERSION + 1, io.tree_of(fg.fit(*problem())))
    with pytest.raises(fg.NewerFormatError, match="has version 2 of the fastgd model format, and this fastgd knows"):
        fg.load(tmp_path / "m")
    assert issubclass(fg.NewerFormatError, ValueError)


@pytest.mark.parametrize("version", ["", "x", "-1", "1.5", "9" * 5000, "\u0661"])
def test_a_version_that_is_no_number_is_damage(tmp_path, version):
    save_file({}, tmp_path / "m", {"format": f"fastgd model {version}"})
    with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path))}/m is damaged: it says that '.* is the version"):
        fg.load(tmp_path / "m")


def test_a_tensor_of_more_axes_than_arrays_have_is_refused(model):
    content = model.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["coef"]["shape"] += [1] * 70
    header = json.dumps(header).encode()
    model.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
    with pytest.raises(ValueError, match=f"{re.escape(str(model))} is no fastgd model file, or cut short: .*dimension"):
        fg.load(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coef": np.ones((4, 2))}, r"coef has shape \(4, 2\), intercept \(\)"),
        ({"coef": np.ones(0)}, r"coef has shape \(0,\)"),
        ({"coef": np.ones(4, np.int64)}, "coef is not what it should be"),
        ({"coef": [1.0]}, "coef is not what it should be"),
        ({"intercept": np.ones(2)}, r"coef has shape \(4,\), intercept \(2,\)"),
        ({"intercept": None}, "intercept is not what it should be"),
        ({"n_iter": -1}, "n_iter is not what it should be"),
        ({"n_iter": True}, "n_iter is not what it should be"),
        ({"converged": 1}, "converged is not what it should be"),
        ({"loss": "0"}, "loss is not what it should be"),
        ({"stop_reason": None}, "stop_reason is not what it should be"),
        ({"lr": "auto"}, "lr is not what it should be"),
        ({"history": {"loss": np.ones(2)}}, "history is not what it should be"),
        ({"history": dict.fromkeys(("iteration", "loss", "grad_norm", "seconds"), np.ones(0))}, "history is not"),
        ({"feature_names": ("a", "b")}, "there are 2 feature_names for 4 coefficients"),
        ({"feature_names": (1, 2, 3, 4)}, "feature_names is not what it should be"),
        ({"categories": {"a": "b"}}, "categories is not what it should be"),
        ({"options": {"a": [1]}}, "options is not what it should be"),
        ({"extra": 1}, "extra is no field of it"),
    ],
)
def test_fields_that_do_not_fit_are_named(tmp_path, change, words):
    _files.write_file(tmp_path / "m", io.KIND, io.VERSION, io.tree_of(fg.fit(*problem())) | change)
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'm'))} holds no result of a fit: .*{words}"):
        fg.load(tmp_path / "m")


def test_histories_of_unequal_lengths_are_refused(tmp_path):
    r = fg.fit(*problem(), solver="gd")
    tree = io.tree_of(replace(r, history=r.history | {"loss": r.history["loss"][:-1]}))
    _files.write_file(tmp_path / "m", io.KIND, io.VERSION, tree)
    with pytest.raises(ValueError, match="history is not what it should be"):
        fg.load(tmp_path / "m")


def test_a_missing_field_is_named(tmp_path):
    tree = io.tree_of(fg.fit(*problem()))
    del tree["choice"]
    _files.write_file(tmp_path / "m", io.KIND, io.VERSION, tree)
    with pytest.raises(ValueError, match="choice is missing"):
        fg.load(tmp_path / "m")


@pytest.mark.parametrize(
    "header", ["", "[", "[]", "1", '{"coef": {"$tensor": "none"}}', '{"loss": {"$float": "x"}}', "[" * 100_000]
)
def test_headers_that_are_no_trees_are_refused(tmp_path, header):
    metadata = {"format": "fastgd model 1", "header": header}
    save_file({}, tmp_path / "m", metadata | {"crc32": _files.checksum(metadata, {})})
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'm'))} is damaged"):
        fg.load(tmp_path / "m")


def test_what_no_tree_holds_is_refused_before_a_file_is_there(tmp_path):
    r = replace(fg.fit(*problem()), options={"odd": object()})
    with pytest.raises(TypeError, match=r"options\.odd cannot be saved: it is a object"):
        r.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


# ---- how files are replaced ------------------------------------------------------------------------------------------


def test_saving_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "m"
    for seed in range(3):
        r = fg.fit(*problem(seed=seed))
        r.save(os.fspath(path))
        assert fg.load(path) == r
    assert list(tmp_path.iterdir()) == [path]


def test_files_have_the_permissions_that_the_user_asked_for(tmp_path):
    before = os.umask(0o027)
    try:
        fg.fit(*problem()).save(tmp_path / "m")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o640


def test_the_permissions_of_what_is_replaced_are_kept(model):
    for mode in (0o600, 0o664, 0o444):
        model.chmod(mode)
        fg.fit(*problem(seed=1)).save(model)
        assert stat.S_IMODE(model.stat().st_mode) == mode


def test_what_is_no_file_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    r, words = fg.fit(*problem()), "what is there is no file that could be replaced: "
    for write in (r.save, r.to_onnx):
        with pytest.raises(IsADirectoryError, match=re.escape(f"{words}'{tmp_path}/folder'")):
            write(tmp_path / "folder")
        with pytest.raises(OSError, match=re.escape(f"{words}'{tmp_path}/pipe'")):
            write(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "pipe"}


def test_a_disk_that_is_full_leaves_the_old_file(model):
    """As far as a limit on the size of files is one: what was written of the new one is gone."""
    code = """
import resource, signal, sys, numpy as np, fastgd as fg
from dataclasses import replace
r = replace(fg.load(sys.argv[1]), coef=np.ones(100_000), feature_names=None)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (r.save, r.to_onnx):
    try:
        write(sys.argv[1])
    except OSError as error:
        print(error)
"""
    old = model.read_bytes()
    done = subprocess.run([sys.executable, "-c", code, os.fspath(model)], capture_output=True, text=True)
    assert done.stdout == 2 * f"[Errno 27] File too large: '{model}'\n", done.stderr
    assert model.read_bytes() == old
    assert list(model.parent.iterdir()) == [model]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "m")
    fg.fit(*problem()).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["m"]


def test_an_error_leaves_the_old_file(model, monkeypatch):
    old = model.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fg.fit(*problem(seed=1)).save(model)
    assert model.read_bytes() == old
    assert list(model.parent.iterdir()) == [model]


def test_the_file_is_synced_before_it_takes_the_name_and_the_directory_after(model, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.replace

    def note_fsync(descriptor):
        events.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_rename(*names):
        events.append("rename")
        rename(*names)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_rename)
    fg.fit(*problem()).save(model)
    assert events == ["file", "rename", "directory"]


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path):
    r = fg.fit(*problem())
    for write in (r.save, r.to_onnx):
        with pytest.raises(FileNotFoundError, match=re.escape(f"No such file or directory: '{tmp_path / 'no' / 'm'}'")):
            write(tmp_path / "no" / "m")


@pytest.mark.parametrize(
    ("missing", "call", "words"),
    [
        ("safetensors", "r.save('m')", "saving needs safetensors: pip install 'fastgd[io]'"),
        ("safetensors", "fg.load('m')", "loading needs safetensors: pip install 'fastgd[io]'"),
        ("onnx", "r.to_onnx('m')", "to_onnx needs onnx: pip install 'fastgd[onnx]'"),
    ],
)
def test_a_missing_extra_is_one_line(tmp_path, missing, call, words):
    code = f"import sys, fastgd as fg\nsys.modules[{missing!r}] = None\nr = fg.fit([[0.], [1.]], [1., 2.])\n{call}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == f"ImportError: {words}"
    assert done.stderr.count("Traceback") == 1


# ---- kills -----------------------------------------------------------------------------------------------------------


def test_kill_9_while_saving_leaves_a_good_file(tmp_path, kills, told):
    """At random moments, half of them as soon as a write begins; the file is always one of the two that are saved."""
    path, rng, counts, cut_short = tmp_path / "m", np.random.default_rng(0), Counter(), 0
    killing.model(0).save(path)
    for k in range(kills):
        with killing.running("saves", os.fspath(path)) as process:
            trace = killing.end(process, signal.SIGKILL, rng.uniform(0.0, 0.1), path if k % 2 else None)
        assert process.returncode == -signal.SIGKILL, trace
        found = fg.load(path)
        assert found.n_iter in (0, 1) and found == replace(killing.model(found.n_iter), history=found.history)
        counts[killing.when(path, [])] += 1
        for part in killing.beside(path):
            cut_short += part.stat().st_size < path.stat().st_size
            part.unlink()
    told(
        f"saves: {kills} times SIGKILL ({killing.in_words(counts)}, {cut_short} of which had written a part); "
        "the file was good after each"
    )


# ---- ONNX ------------------------------------------------------------------------------------------------------------


@pytest.mark.peer("onnxruntime")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_graph_predicts_what_the_model_does(tmp_path, dtype, targets, fit_intercept):
    X, y = problem(targets=targets, dtype=dtype)
    r = fg.fit(pd.DataFrame(X, columns=list("abcd")), y, fit_intercept=fit_intercept)
    r.to_onnx(tmp_path / "m.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    graph = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert json.loads(graph.metadata_props[0].value) == list("abcd")
    import onnxruntime as runtime

    session = runtime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for part in (X, X[:1]):
        (found,) = session.run(None, {"X": part})
        expected = r.predict(part)
        assert found.dtype == expected.dtype and found.shape == expected.shape
        bound = (np.abs(part) @ np.abs(r.coef) + np.abs(r.intercept)) * 8 * np.finfo(dtype).eps
        assert (np.abs(found - expected) <= bound).all()


def test_graphs_have_no_names_where_columns_have_none(tmp_path):
    fg.fit(*problem()).to_onnx(tmp_path / "m.onnx")
    assert not onnx.load(tmp_path / "m.onnx").metadata_props
