"""tools/check_nogil.py fails where a loop without the GIL touches Python, and the project's own loops do not."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "check_nogil.py"

spec = importlib.util.spec_from_file_location("check_nogil", TOOL)
check_nogil = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_nogil)

GOOD = """
cdef double dot(const double *x, const double *y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double total = 0
    for i in range(n):
        total += x[i] * y[i]
    return total


def mean(double[::1] x):
    cdef Py_ssize_t i = 0
    cdef double total = 0
    if not x.shape[0]:
        raise ValueError("empty")           # Python, but outside the loop
    with nogil:
        while i < x.shape[0]:
            total += x[i] / x.shape[0]
            i += 1
    return [total / x.shape[0] for _ in range(2)]   # a loop, but with the GIL
"""

#: What is bad, a file, and the lines of it that must be reported.
BAD = {
    "an element is read with its index checked, which can raise": (
        """
cimport cython


@cython.boundscheck(True)
def total(double[::1] x):
    cdef Py_ssize_t i
    cdef double s = 0
    with nogil:
        for i in range(x.shape[0]):
            s += x[i]
    return s
""",
        [11],
    ),
    "division raises ZeroDivisionError": (
        """
cimport cython


@cython.cdivision(False)
cdef void scale(double *x, double by, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = x[i] / by
""",
        [9],
    ),
    "the division stands in a function that the loop calls by way of another": (
        """
cimport cython


@cython.cdivision(False)
cdef inline double quotient(double a, double b) noexcept nogil:
    return a / b


cdef inline double half(double a) noexcept nogil:
    return quotient(a, 2.0 * a)


cdef double total(const double *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double s = 0
    for i in range(n):
        s += half(x[i])
    return s
""",
        [7],
    ),
    "an exception may come out of a call, which takes the GIL to find out": (
        """
cdef double square(double x) except? -1 nogil:
    return x * x


def total(double[::1] x):
    cdef Py_ssize_t i
    cdef double s = 0
    with nogil:
        for i in range(x.shape[0]):
            s += square(x[i])
    return s
""",
        [11],
    ),
    "a slice of a memoryview counts references": (
        """
def total(double[:, ::1] x):
    cdef Py_ssize_t i = 0
    cdef double s = 0
    cdef double[::1] row
    with nogil:
        while i < x.shape[0]:
            row = x[i]
            s += row[0]
            i += 1
    return s
""",
        [8],
    ),
    "the GIL is taken in the loop": (
        """
def numbers(list out, Py_ssize_t n):
    cdef Py_ssize_t i
    with nogil:
        for i in range(n):
            with gil:
                out.append(i)
""",
        [6, 7],
    ),
}


@pytest.fixture
def run(capfd):
    """Run the tool in this process: (exit status, what it printed)."""

    def main(*arguments):
        try:
            status = check_nogil.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        return status, capfd.readouterr().out

    return main


def write(folder, text):
    path = folder / "sample.pyx"
    path.write_text(text)
    return path


def reported(path, output):
    start = f"{path}:"
    return [int(line[len(start) :].partition(":")[0]) for line in output.splitlines() if line.startswith(start)]


def test_own_sources_pass_and_all_are_looked_at():
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    files = list((ROOT / "src").rglob("*.pyx"))
    loops, _, rest = done.stdout.partition(" loops without the GIL in ")
    assert rest.startswith(f"{len(files)} files, 0 lines"), done.stdout
    # Every `for` and `while` of the kernels runs without the GIL, so the tool must have seen at least those.
    kernels = [line for path in (ROOT / "src" / "kernels").glob("*.pyx") for line in path.read_text().splitlines()]
    assert int(loops) >= sum(line.lstrip().startswith(("for ", "while ")) for line in kernels) > 0


def test_good_sample_passes(run, tmp_path):
    status, output = run(write(tmp_path, GOOD))
    assert status == 0, output
    assert output == "2 loops without the GIL in 1 files, 0 lines of them touch Python\n"


@pytest.mark.parametrize("what", BAD)
def test_bad_sample_fails(what, run, tmp_path):
    text, lines = BAD[what]
    path = write(tmp_path, text)
    status, output = run(path)
    assert status == 1, output
    assert reported(path, output) == lines, output
    for line in lines:
        assert f"{path}:{line}: {text.splitlines()[line - 1].strip()} [" in output


def test_directives_are_those_of_the_build(run, tmp_path):
    """The sample that divides passes with setup.py's cdivision=True and fails with a setup.py that says False."""
    path = write(tmp_path, BAD["division raises ZeroDivisionError"][0].replace("@cython.cdivision(False)", ""))
    assert run(path)[0] == 0
    other = tmp_path / "setup.py"
    text = (ROOT / "setup.py").read_text()
    assert '"cdivision": True' in text
    other.write_text(text.replace('"cdivision": True', '"cdivision": False'))
    status, output = run("--setup", other, path)
    assert status == 1 and "PyErr_SetString" in output, output


def test_a_file_without_loops_is_no_success(run, tmp_path):
    status, output = run(write(tmp_path, "def f(x):\n    for i in range(3):\n        x += i\n    return x\n"))
    assert status == 1
    assert "nothing was checked" in output


def test_a_file_that_does_not_compile_is_no_success(run, tmp_path):
    status, _ = run(write(tmp_path, "cdef double f(double x) nogil:\n    return undefined_name(x)\n"))
    assert status == 2
