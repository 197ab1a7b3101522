"""Checkpoints: an interrupted fit that goes on ends with the bits of one that was not interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import fields
from itertools import count, cycle

import kills as killing
import numpy as np
import pytest
import scipy.sparse

import fastgd as fg
from fastgd import _checkpoint, _cpu, _files, _kernels
from fastgd.solvers import _epochs, cg, fista
from fastgd.solvers import _state as state

pytestmark = pytest.mark.filterwarnings("ignore::fastgd.ConvergenceWarning")


def problem(n=400, d=30, targets=None, dtype=np.float64, seed=0):
    """Correlated columns, so that no method ends at once."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    y = X @ rng.standard_normal((d, targets or 1)) + rng.standard_normal((n, targets or 1))
    return X.astype(dtype), (y if targets else y[:, 0]).astype(dtype)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(name="interrupted")
def interrupted_fit(tmp_path, monkeypatch):
    """Fit, kill the fit after so many states were written, and go on; the result, and whether it came to the kill."""
    write, turns = _checkpoint.Checkpoint.write, count()

    def run(X, y, after, **options):
        path = tmp_path / f"{next(turns)}.ckpt"
        written = count(1)

        def dying(self, *arguments, **options):
            write(self, *arguments, **options)
            if next(written) == after:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(_checkpoint.Checkpoint, "write", dying)
            try:
                fg.fit(X, y, **options, checkpoint=path, every=0)
                came = False
            except Killed:
                came = True
        result = fg.fit(X, y, **options, checkpoint=path, every=0, resume=True)
        assert differences(fg.fit(X, y, **options, checkpoint=path, resume=True), result) == []     # the file has it
        return result, came

    return run


def bits(value):
    """Something that is equal for values of the same type and bits alone."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, dict):
        return [(key, bits(item)) for key, item in value.items() if key != "seconds"]
    return type(value), repr(value)


def differences(a, b):
    """The names of the fields that are not the same to the bit, seconds apart."""
    pairs = {f.name: (getattr(a, f.name), getattr(b, f.name)) for f in fields(fg.FitResult)}
    pairs["path"] = (a.path and vars(a.path), b.path and vars(b.path))
    return [name for name, (one, other) in pairs.items() if bits(one) != bits(other)]


def watching(_):
    """A callback, for the sake of which iterates are made one by one."""


FITS = {
    "cg": {"solver": "cg"},
    "cg beyond": {"solver": "cg", "tol": 0, "max_iter": 70},
    "cg watched": {"solver": "cg", "callback": watching, "l2": 0.1, "fit_intercept": False},
    "gd": {"solver": "gd", "max_iter": 30},
    "gd watched": {"solver": "gd", "max_iter": 30, "callback": watching},
    "gd by number": {"solver": "gd", "lr": 1e-4, "max_iter": 30, "callback": watching},
    "Polyak": {"solver": "gd", "momentum": 0.5, "max_iter": 30, "callback": watching},
    "Nesterov": {"solver": "gd", "momentum": 0.5, "nesterov": True, "max_iter": 30, "callback": watching},
    "growing momentum": {"solver": "gd", "nesterov": True, "max_iter": 60},
    "backtracking": {"solver": "gd", "lr": "backtracking", "max_iter": 30},
    "bb": {"solver": "gd", "lr": "bb", "max_iter": 60},
    "fista": {"solver": "fista", "l1": 0.1},
    "fista by steps": {"solver": "fista", "l1": 0.1, "tol": 0, "max_iter": 30},
    "fista without l1": {"solver": "fista", "max_iter": 40, "l2": 0.1},
    "sgd": {"solver": "sgd", "max_iter": 20, "tol": 0},
    "sgd to a tolerance": {"solver": "sgd", "tol": 1e-2, "max_iter": 50},
    "sgd in batches": {"solver": "sgd", "batch_size": 7, "average": False, "l1": 0.1, "max_iter": 15},
    "sgd adaptive": {"solver": "sgd", "lr": 1e-4, "schedule": "adaptive", "max_iter": 20, "tol": 0},
    "sgd invscaling": {"solver": "sgd", "schedule": "invscaling", "random_state": 3, "max_iter": 12},
    "sgd with momentum": {"solver": "sgd", "momentum": 0.9, "max_iter": 20, "tol": 0},
    "sgd with momentum by number": {
        "solver": "sgd", "lr": 1e-5, "momentum": 0.5, "batch_size": 16, "average": False, "schedule": "constant",
        "max_iter": 15, "tol": 0,
    },
    "sgd with momentum, l1 and l2": {
        "solver": "sgd", "momentum": 0.7, "l1": 0.1, "l2": 0.01, "fit_intercept": False, "max_iter": 15,
    },
    "saga": {"solver": "saga", "max_iter": 20, "tol": 0},
    "saga with l1": {"solver": "saga", "l1": 0.1, "max_iter": 12, "random_state": 7},
    "saga by number": {"solver": "saga", "lr": 1e-5, "max_iter": 12},
    "auto": {},
    "moments": {"solver": "moments"},
}


MOMENTUM = [name for name in FITS if name.startswith("sgd with momentum")]


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fit_that_was_killed_ends_with_the_same_bits(name, dtype, interrupted):
    X, y = problem(dtype=dtype)
    whole = fg.fit(X, y, **FITS[name])
    came = []
    for after in (1, 2, 3, 11):
        result, killed = interrupted(X, y, after, **FITS[name])
        assert differences(result, whole) == [], after
        came.append(killed)
    assert came[0]


@pytest.mark.parametrize("name", ["sgd", "sgd in batches", *MOMENTUM, "saga"])
def test_so_does_one_that_was_killed_after_any_epoch(name, interrupted):
    """Each of which may leave something else behind: a step, an average, where the generator stands."""
    X, y = problem(n=100, d=5)
    whole = fg.fit(X, y, **FITS[name])
    for after in range(1, whole.n_iter + 1):
        result, killed = interrupted(X, y, after, **FITS[name])
        assert killed
        assert differences(result, whole) == [], after


@pytest.mark.parametrize("name", ["cg", "growing momentum", "fista", "sgd", MOMENTUM[0], "saga", "auto", "moments"])
def test_so_does_one_of_several_targets(name, interrupted):
    X, y = problem(targets=3)
    whole = fg.fit(X, y, **FITS[name])
    states = whole.n_iter
    for after in (1, states + 1, states + 3, 2 * states + 2):
        assert differences(interrupted(X, y, after, **FITS[name])[0], whole) == [], after


@pytest.mark.parametrize("name", ["cg watched", "gd", "fista", "sgd in batches", "sgd with momentum", "saga"])
def test_so_does_one_with_weights_a_start_and_a_validation_set(name, interrupted):
    X, y = problem(600)
    rng = np.random.default_rng(1)
    options = FITS[name] | {
        "sample_weight": rng.uniform(0, 2, 400), "w0": rng.standard_normal(30), "X_val": X[400:], "y_val": y[400:],
        "patience": 4,
    }
    whole = fg.fit(X[:400], y[:400], **options)
    for after in (1, 3, 7):
        assert differences(interrupted(X[:400], y[:400], after, **options)[0], whole) == [], after


@pytest.mark.parametrize("name", ["cg", "gd", "fista", "sgd", "sgd with momentum", "saga"])
def test_so_does_one_of_sparse_rows_and_one_of_integers(name, interrupted):
    X, y = problem()
    X[np.random.default_rng(2).random(X.shape) < 0.7] = 0
    for data in (scipy.sparse.csr_array(X), scipy.sparse.csc_array(X), X.astype(np.int8), np.asfortranarray(X)):
        whole = fg.fit(data, y, **FITS[name])
        assert differences(interrupted(data, y, 4, **FITS[name])[0], whole) == []


@pytest.mark.parametrize("after", [1, 3, 7, 9, 11])
@pytest.mark.parametrize("most", [None, 0, fista.MOST_BYTES])
def test_loops_within_loops_go_on_too(after, most, interrupted, monkeypatch):
    """Of fista: columns that enter in turn, after a look around; with steps over all of them in the end, or amid."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((2000, 300))
    y = X @ (rng.standard_normal(300) * (rng.random(300) < 0.3)) + rng.standard_normal(2000)
    if most is not None:
        monkeypatch.setattr(fista, "MOST_BYTES", most)
        monkeypatch.setattr(fista, "CHEAP_BYTES", 0)
        monkeypatch.setattr(fista, "PRODUCTS_SHARE", 1 << 40)
        monkeypatch.setattr(fista, "TRIAL_STEPS", 4)
    whole = fg.fit(X, y, l1=0.05, tol=1e-14)
    result, killed = interrupted(X, y, after, l1=0.05, tol=1e-14)
    assert killed or (most is None and after > whole.n_iter)
    assert differences(result, whole) == []


def test_a_fit_that_is_handed_over_is_handed_over_again(interrupted, monkeypatch):
    monkeypatch.setattr(cg, "moments_seconds", lambda _: 0.0)
    monkeypatch.setattr(cg, "FEW", 1)
    X, y = problem(targets=2)
    whole = fg.fit(X, y, solver="cg")
    assert "handed over" in whole.stop_reason
    for after in (1, 10, 15, 16, 17):
        assert differences(interrupted(X, y, after, solver="cg")[0], whole) == [], after


def test_orders_of_rows_that_are_made_by_stretches_go_on(interrupted, monkeypatch):
    monkeypatch.setattr(_epochs, "CACHED", 1 << 10)
    monkeypatch.setattr(_epochs, "ORDERED", 100)
    X, y = problem(1000)
    for name in ("sgd", "sgd with momentum", "saga"):
        whole = fg.fit(X, y, **FITS[name])
        assert differences(interrupted(X, y, 5, **FITS[name])[0], whole) == []


def test_it_may_be_interrupted_again_and_again(tmp_path):
    X, y = problem()
    for name in ("gd by number", "sgd", "saga"):
        options, path = FITS[name] | {"callback": watching}, tmp_path / f"{name}.ckpt"
        whole = fg.fit(X, y, **options)

        def interrupt(iterate):
            if iterate.iteration == at[0]:
                at[0] += 4
                raise KeyboardInterrupt

        at, interrupts = [2], 0
        while True:
            try:
                result = fg.fit(X, y, **options | {"callback": interrupt}, checkpoint=path, every=0, resume=True)
                break
            except KeyboardInterrupt:
                interrupts += 1
        assert interrupts > 2
        assert differences(result, whole) == []


@pytest.mark.parametrize("name", ["cg", "gd", "fista", "sgd", "saga"])
def test_a_path_that_is_kept_goes_on(name, interrupted):
    X, y = problem()
    options = FITS[name] | {"keep_path": True}
    whole = fg.fit(X, y, **options)
    for after in (1, 4):
        result, killed = interrupted(X, y, after, **options)
        assert killed
        assert differences(result, whole) == []


def test_the_callback_sees_every_iterate_once(tmp_path):
    X, y = problem()
    seen = []

    def see(iterate):
        seen.append(iterate.iteration)
        if iterate.iteration == 5 and seen.count(5) == 1:
            raise KeyboardInterrupt

    options = {"solver": "sgd", "tol": 0, "max_iter": 9, "callback": see, "checkpoint": tmp_path / "c", "every": 0}
    with pytest.raises(KeyboardInterrupt):
        fg.fit(X, y, **options)
    for _ in range(2):      # the second one finds the result
        fg.fit(X, y, **options, resume=True)
        assert seen == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]    # the one that it was interrupted in is made again


def test_a_fit_that_the_callback_ended_has_ended(tmp_path):
    X, y = problem()
    options = {"solver": "gd", "tol": 0, "checkpoint": tmp_path / "c"}
    r = fg.fit(X, y, **options, callback=lambda iterate: iterate.iteration == 3)
    assert r.n_iter == 3
    assert fg.fit(X, y, **options, callback=watching, resume=True) == r


def test_the_file_stays_where_it_was_though_the_callback_goes_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    options = {"solver": "sgd", "max_iter": 5, "tol": 0}
    r = fg.fit(*problem(), **options, callback=lambda _: os.chdir(tmp_path / "elsewhere"), checkpoint="c", every=0)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert fg.fit(*problem(), **options, callback=watching, checkpoint=tmp_path / "c", resume=True) == r


def test_what_killed_fits_left_beside_is_cleared_away(tmp_path):
    left = ".c.0123456789abcdef.tmp"
    others = {".c.tmp", ".c.d.tmp", ".cc.0123456789abcdef.tmp", "c.0123456789abcdef.tmp"}
    for name in {left} | others:
        (tmp_path / name).touch()
    X, y = problem()
    fg.fit(X, y, checkpoint=tmp_path / "c")
    assert {path.name for path in tmp_path.iterdir()} == {"c"} | others


def test_a_link_is_followed_to_where_nothing_is_yet(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "c")
    X, y = problem()
    for resume in (True, False):
        r = fg.fit(X, y, checkpoint=tmp_path / "link", resume=resume)
        assert fg.fit(X, y, checkpoint=tmp_path / "there" / "c", resume=True) == r
        (tmp_path / "there" / "c").unlink()
    (tmp_path / "there").rmdir()
    with pytest.raises(FileNotFoundError, match="link' is in a directory that is not there"):
        fg.fit(X, y, checkpoint=tmp_path / "link")


def test_seconds_go_on(tmp_path):
    X, y = problem()

    def interrupt(iterate):
        time.sleep(0.01)
        if iterate.iteration == 5:
            raise KeyboardInterrupt

    options = {"solver": "gd", "tol": 0, "max_iter": 9, "checkpoint": tmp_path / "c", "every": 0}
    with pytest.raises(KeyboardInterrupt):
        fg.fit(X, y, **options, callback=interrupt)
    seconds = fg.fit(X, y, **options, callback=watching, resume=True).history["seconds"]
    assert seconds[4] > 0.04
    assert (np.diff(seconds) >= 0).all()


def test_a_warning_is_given_again(tmp_path):
    X, y = problem()
    options = {"solver": "gd", "max_iter": 5, "checkpoint": tmp_path / "c"}
    with pytest.warns(fg.ConvergenceWarning) as first:
        fg.fit(X, y, **options)
    with pytest.warns(fg.ConvergenceWarning) as again:
        fg.fit(X, y, **options, resume=True)
    assert [str(w.message) for w in first] == [str(w.message) for w in again]
    assert first[0].filename == again[0].filename == __file__


def test_states_are_written_as_often_as_asked_for(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(_checkpoint.Checkpoint, "write", lambda _, state, **__: written.append(state))
    X, y = problem()
    fg.fit(X, y, solver="gd", tol=0, max_iter=20, callback=watching, checkpoint=tmp_path / "c", every=1e6)
    assert written == [None]
    fg.fit(X, y, solver="gd", tol=0, max_iter=20, callback=watching, checkpoint=tmp_path / "d", every=0)
    assert len(written) == 22


# ---- what is refused -------------------------------------------------------------------------------------------------


def unaligned(X):
    """A copy at an address that is no multiple of the elements' size."""
    return np.frombuffer(b" " + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape)


X, y = problem(60, 4)
BASE = {"solver": "gd", "lr": 1e-3, "max_iter": 6, "tol": 0, "callback": watching}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_iter": 7}, "the option max_iter was 6 there, and is 7"),
        ({"lr": 2e-3}, "the option lr was 0.001 there, and is 0.002"),
        ({"lr": "auto"}, "the option lr was 0.001 there, and is 'auto'"),
        ({"tol": None}, "the option tol was 0.0 there, and is None"),
        ({"l2": 1}, "the option l2 was 0.0 there, and is 1.0"),
        ({"fit_intercept": False}, "the option fit_intercept was True there, and is False"),
        ({"momentum": 0.5}, "the option momentum was 0.0 there, and is 0.5"),
        ({"patience": 3}, "the option patience was 10 there, and is 3"),
        ({"solver": "cg", "lr": "auto"}, "the option lr was|the option solver was 'gd' there, and is 'cg'"),
        ({"callback": None}, "the option callback was True there, and is False"),
        ({"w0": np.ones(4)}, r"w0 was 'float64 of shape \(1, 5\) and strides .* with checksum \w+' there, and is"),
        ({"sample_weight": np.ones(60)}, "sample_weight was None there, and is 'float64 of shape"),
        ({"X_val": X, "y_val": y}, "X_val was None there, and is 'float64 of shape"),
        ({"X": X.astype(np.float32)}, "X was 'float64 of shape .* there, and is 'float32 of shape"),
        ({"X": X[:59], "y": y[:59]}, r"X was 'float64 of shape \(60, 4\) .* there, and is 'float64 of shape \(59, 4\)"),
        ({"X": X[::-1].copy()}, "X was 'float64"),
        ({"X": np.asfortranarray(X)}, r"X was .* and strides \(32, 8\) .* there, and is .* and strides \(8, 480\) "),
        ({"X": unaligned(X)}, r"X was .* and strides \(32, 8\) with .* there, and is .*\(32, 8\), not aligned, with"),
        ({"y": np.nextafter(y, np.where(np.arange(60) == 30, np.inf, y))}, "y was 'float64"),
        ({"X": scipy.sparse.csr_array(X)}, "X was 'float64 .* there, and is 'sparse float64 of shape"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(tmp_path, change, words):
    options = {"X": X, "y": y, **BASE, "checkpoint": tmp_path / "c"}
    fg.fit(**options)
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / 'c'))} is a checkpoint of another fit: {words}"):
        fg.fit(**options | change, resume=True)
    assert (tmp_path / "c").read_bytes() == before


def test_threads_make_no_other_fit(tmp_path):
    X, y = problem(20_000, 20)      # blocks for two

    def interrupt(iterate):
        if iterate.iteration == 3:
            raise KeyboardInterrupt

    options = {"solver": "cg", "tol": 0, "max_iter": 8, "checkpoint": tmp_path / "c", "resume": True, "every": 0}
    with pytest.raises(KeyboardInterrupt):
        fg.fit(X, y, **options, n_threads=1, callback=interrupt)
    r = fg.fit(X, y, **options, n_threads=2, callback=watching)
    assert differences(r, fg.fit(X, y, solver="cg", tol=0, max_iter=8, callback=watching)) == []


def test_another_version_and_instruction_set_are_refused(tmp_path, monkeypatch):
    fg.fit(X, y, **BASE, checkpoint=tmp_path / "c")
    with monkeypatch.context() as patched:
        patched.setattr(_checkpoint, "__version__", "9.9")
        with pytest.raises(ValueError, match=r"the version fastgd was '.*' there, and is '9.9'"):
            fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)
    with monkeypatch.context() as patched:
        patched.setattr(_kernels, "current", "abacus")
        with pytest.raises(ValueError, match=r"the machine instruction set was '.*' there, and is 'abacus'"):
            fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize(
    ("place", "name", "value", "words"),
    [
        (_cpu, "streams", 7, r"the streams of memory was \d there, and is 7"),
        (np, "__version__", "9.9", r"the version of NumPy was '.*' there, and is '9.9'"),
        (np, "sin", np.cos, r"the checksum of NumPy's sums was \d+ there, and is \d+"),
    ],
)
def test_where_sums_are_rounded_in_another_way_it_goes_on_and_says_so(tmp_path, monkeypatch, place, name, value, words):
    def interrupt(iterate):
        if iterate.iteration == 3:
            raise KeyboardInterrupt

    options = {"X": X, "y": y, **BASE, "checkpoint": tmp_path / "c", "resume": True, "every": 0}
    with pytest.raises(KeyboardInterrupt):
        fg.fit(**options | {"callback": interrupt})
    with monkeypatch.context() as patched:
        patched.setattr(place, name, value)
        match = rf"{re.escape(str(tmp_path))}/c was written where sums are rounded in another way, .*: {words}"
        with pytest.warns(RuntimeWarning, match=match) as caught:
            r = fg.fit(**options)
        assert caught[0].filename == __file__
        assert fg.fit(**options) == r       # nothing is left to be rounded
    assert differences(r, fg.fit(X, y, **BASE)) == []


@pytest.mark.parametrize("variable", ["OPENBLAS_CORETYPE=Haswell", "OPENBLAS_NUM_THREADS=1"])
def test_the_checksum_of_sums_is_the_same_in_each_process(variable):
    name, _, value = variable.partition("=")
    code = "from fastgd import _checkpoint\nprint(_checkpoint.rounding())"
    found = [
        subprocess.run([sys.executable, "-c", code], env=os.environ | {name: value}, capture_output=True, check=True)
        for _ in range(2)
    ]
    assert found[0].stdout == found[1].stdout


def test_a_file_that_is_there_is_not_lost(tmp_path):
    path = tmp_path / "c"
    path.write_text("something dear")
    with pytest.raises(FileExistsError, match=r"c' is there: resume=True goes on from it; else remove it"):
        fg.fit(X, y, **BASE, checkpoint=path)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is no fastgd checkpoint file"):
        fg.fit(X, y, **BASE, checkpoint=path, resume=True)
    assert path.read_text() == "something dear"
    fg.fit(X, y).save(tmp_path / "model")
    with pytest.raises(ValueError, match="is no fastgd checkpoint file, but a fastgd model file"):
        fg.fit(X, y, **BASE, checkpoint=tmp_path / "model", resume=True)


def test_a_checkpoint_that_is_cut_short_is_an_error(tmp_path):
    fg.fit(X, y, **BASE, checkpoint=tmp_path / "c")
    content = (tmp_path / "c").read_bytes()
    for size in range(0, len(content), 997):
        (tmp_path / "c").write_bytes(content[:size])
        with pytest.raises(ValueError, match="cut short"):
            fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)
    _files.write_file(tmp_path / "c", _checkpoint.KIND, _checkpoint.VERSION, {"state": None})
    with pytest.raises(ValueError, match="c is damaged: it does not say what fit it is of"):
        fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize("finished", [None, [1], [[{}, ""]], [[]]])
def test_a_checkpoint_that_holds_no_results_is_an_error(tmp_path, finished):
    fg.fit(X, y, **BASE, checkpoint=tmp_path / "c")
    tree = _files.read_file(tmp_path / "c", _checkpoint.KIND, _checkpoint.VERSION)
    _files.write_file(tmp_path / "c", _checkpoint.KIND, _checkpoint.VERSION, tree | {"finished": finished})
    with pytest.raises(ValueError, match="c is damaged: it holds no state of a fit"):
        fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize("kept", [1, [], {}, {"loop": None}, {"loop": "1"}])
def test_a_checkpoint_that_holds_no_state_is_an_error(tmp_path, kept):
    fg.fit(X, y, **BASE, checkpoint=tmp_path / "c")
    tree = _files.read_file(tmp_path / "c", _checkpoint.KIND, _checkpoint.VERSION)
    _files.write_file(tmp_path / "c", _checkpoint.KIND, _checkpoint.VERSION, tree | {"finished": [], "state": kept})
    with pytest.raises(ValueError, match="c is damaged: it holds no state of a fit"):
        fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize("place", ["monitor", "parts", "loops"])
def test_a_state_of_other_parts_is_an_error(tmp_path, monkeypatch, place):
    """As after a change of the code that has not changed the version."""
    kept = []
    with monkeypatch.context() as patched:
        patched.setattr(_checkpoint.Checkpoint, "write", lambda self, state, **_: kept.append((self.about, state)))
        fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", every=0)
    about, one = kept[0]
    tree = {"about": about, "finished": [], "state": {key: value for key, value in one.items() if key != place}}
    _files.write_file(tmp_path / "c", _checkpoint.KIND, _checkpoint.VERSION, tree)
    with pytest.raises(ValueError, match="the checkpoint is of another build of this version"):
        fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)


def test_a_later_version_of_the_format_is_named(tmp_path):
    _files.write_file(tmp_path / "c", _checkpoint.KIND, _checkpoint.VERSION + 1, {})
    with pytest.raises(fg.NewerFormatError, match="version 2 of the fastgd checkpoint format"):
        fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"resume": True}, ValueError, "resume=True needs the file to go on from, checkpoint=PATH"),
        ({"checkpoint": 3}, TypeError, "checkpoint must be a path or None, got 3"),
        ({"checkpoint": ""}, TypeError, "checkpoint must be a path or None, got ''"),
        ({"checkpoint": b"c"}, TypeError, "checkpoint must be a path or None, got b'c'"),
        ({"checkpoint": "c" * 250}, OSError, f"File name too long: '{'c' * 250}'"),    # which, or what is beside it
        ({"every": float("nan")}, ValueError, "every must be a finite number of at least 0, got nan"),
        ({"resume": None}, TypeError, "resume must be True or False, got None"),
        ({"checkpoint": "c", "every": -1}, ValueError, "every must be a finite number of at least 0, got -1"),
        ({"checkpoint": "c", "every": "often"}, TypeError, "every must be a finite number"),
        ({"checkpoint": "c", "resume": 1}, TypeError, "resume must be True or False, got 1"),
        ({"checkpoint": "no/such/c"}, FileNotFoundError, "checkpoint='no/such/c' is in a directory that is not there"),
    ],
)
def test_bad_arguments_are_named(tmp_path, monkeypatch, options, error, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=re.escape(words)):
        fg.fit(X, y, **options)
    assert not list(tmp_path.iterdir())


def test_flags_of_numpy_are_flags(tmp_path):
    assert fg.fit(X, y, resume=np.False_).converged
    assert fg.fit(X, y, checkpoint=tmp_path / "c", every=np.float32(1), resume=np.True_).converged


def test_without_safetensors_it_says_so_before_the_fit(tmp_path):
    code = "import sys, fastgd as fg\nsys.modules['safetensors'] = None\nfg.fit([[0.], [1.]], [1., 2.], checkpoint='c')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: checkpoint= needs safetensors: pip install 'fastgd[io]'"


def test_a_full_disk_does_not_end_the_fit(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="was not written: .*No space left"):
        r = fg.fit(X, y, **BASE, checkpoint=tmp_path / "c", every=0)
    monkeypatch.undo()
    assert differences(r, fg.fit(X, y, **BASE)) == []
    assert not list(tmp_path.iterdir())


def test_what_says_not_what_of_it_is_state_is_an_error():
    class Forgotten:
        pass

    with pytest.raises(TypeError, match="Forgotten has no FIXED"):
        state.state_of([1, Forgotten()])


def test_scalars_keep_their_types():
    kept = state.state_of((1, 1.5, np.float64(1.5), np.float32(0.1), None, True, "a", np.arange(3)))
    tensors = {}
    back = _files.unpack(_files.pack(kept, "", tensors), tensors)
    types = [int, float, np.float64, np.float32, type(None), bool, str, np.ndarray]
    assert [type(item) for item in state.restored([], back)] == types


# ---- kills -----------------------------------------------------------------------------------------------------------


def completed(path, whole):
    """Whether the process came to its end, with what it should; it then begins anew. What is there always loads."""
    if path.exists():
        _files.read_file(path, _checkpoint.KIND, _checkpoint.VERSION)
    model = path.with_suffix(".model")
    if not model.exists():
        return False
    assert differences(fg.load(model), whole) == []
    path.unlink()
    model.unlink()
    return True


def test_two_fits_that_share_a_file_leave_a_good_one(tmp_path):
    path, whole = tmp_path / "sgd.ckpt", fg.fit(*killing.problem("sgd"), **killing.FITS["sgd"])
    with killing.running("fit", "sgd", os.fspath(path)) as one, killing.running("fit", "sgd", os.fspath(path)) as other:
        for process in (one, other):
            trace = process.communicate()[1]
            assert process.returncode == 0, trace
    assert completed(path, whole)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill_9", "Ctrl_C"])
def test_fits_go_on_to_the_same_bits_after(how, tmp_path, kills, told):
    """End one fit after the other at random moments, half of them as soon as a write begins; they go on in their turns.

    Each one that comes to its end has the bits of one that was not ended; all of them do at last.
    """
    whole = {name: fg.fit(*killing.problem(name), **options) for name, options in killing.FITS.items()}
    paths = {name: tmp_path / f"{name}.ckpt" for name in whole}
    rng, seconds, counts, done = np.random.default_rng(0), dict.fromkeys(whole, 1.0), Counter(), 0
    for name in cycle(whole):
        if counts.total() == kills:
            break
        path, left = paths[name], killing.beside(paths[name])
        with killing.running("fit", name, os.fspath(path)) as process:
            began, delay = time.perf_counter(), seconds[name] * rng.uniform() ** 2
            trace = killing.end(process, how, delay, path if counts.total() % 2 else None)
        assert process.returncode in (0, -how), trace
        if process.returncode == 0:
            seconds[name] = min(seconds[name], time.perf_counter() - began)
        else:
            counts[killing.when(path, left)] += 1
            assert how == signal.SIGKILL or not killing.beside(path)    # Ctrl-C clears away
        done += completed(path, whole[name])
    for name, path in paths.items():
        done += path.exists()
        result = fg.fit(*killing.problem(name), **killing.FITS[name], checkpoint=path, resume=True)
        assert differences(result, whole[name]) == []
        assert not killing.beside(path)
    told(f"fits: {kills} times {how.name} ({killing.in_words(counts)}); {done} fits went on to the bits of their own")
