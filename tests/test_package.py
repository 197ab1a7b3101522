"""The package as a whole: what importing it costs and brings, what it says of itself, and what is shipped."""

import ast
import inspect
import os
import re
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest

import fastgd as fg
from fastgd import _cpu, _exact, _kernels, _moments, _mse, _proximal, _rows, _saga, _sgd, _sparse, _updates

PACKAGE = Path(fg.__file__).parent


def python(code, *options, **environment):
    """Run code in a Python of its own, from a directory that has no fastgd in it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FASTGD", "PYTHON", "OMP"))}
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(sys.executable).parent,
        env=clean | environment,
    )


def output(code, *options, **environment):
    done = python(code, *options, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bare_import(folder):
    """Code that imports the fastgd of this folder; run with -S -I, no other can take its place or lend it modules."""
    return f"import sys; sys.path[:0] = {[str(folder), str(Path(np.__file__).parents[1])]}; import fastgd"


# ---- import ----------------------------------------------------------------------------------------------------------


def test_import_brings_numpy_and_the_standard_library_only():
    code = """
import sys, numpy
before = set(sys.modules)
import fastgd
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    brought = set(output(code).split()) - set(sys.stdlib_module_names)
    # Cython keeps what its modules share in modules of its own making.
    assert {name for name in brought if not re.match("_cython_|cython_runtime$", name)} == {"fastgd"}


def test_import_needs_nothing_imported_before():
    """No module of the standard library may be there by luck: an editable install, a .pth file or a test runner imports
    many. -S leaves out what site would bring."""
    code = bare_import(PACKAGE.parent) + "; print(fastgd.mse([[1.0]], [3.0], [1.0]))"
    assert output(code, "-S", "-I") == "4.0"


def test_import_takes_at_most_150_ms_on_top_of_numpy():
    code = "from time import perf_counter as now; start = now(); import numpy{}; print(now() - start)"
    times = {"": [], ", fastgd": []}
    for _ in range(7):
        for names, seconds in times.items():
            seconds.append(float(output(code.format(names))))
    alone, both = (statistics.median(seconds) for seconds in times.values())
    assert both - alone <= 0.15, f"numpy {alone:.3f} s, with fastgd {both:.3f} s: {both - alone:.3f} s more"


def copy_of_package(folder, missing):
    """A copy of the package without the extension modules that `missing` says."""
    shutil.copytree(
        PACKAGE,
        folder / "fastgd",
        ignore=lambda place, names: [
            n for n in names if n == "__pycache__" or (n.endswith((".so", ".pyd")) and missing(n))
        ],
    )
    return folder


@pytest.mark.parametrize(
    "missing",
    [
        "", "_cpu.", "_rows.", "_mse.", "_moments.", "_sparse.", "_sgd.", "_saga.", "_proximal.",
        "_tape.", "_updates.", "_plain_sgd.", "mse_", "moments_", "sparse_", "sgd_", "saga_", "elementary_", "updates_",
        "plain_sgd_", "mse_baseline.",
    ],
)
def test_an_uncompiled_copy_says_so_in_one_line(missing, tmp_path):
    """All extensions missing, as in a checkout, or one of them."""
    folder = copy_of_package(tmp_path, lambda name: name.startswith(missing))
    done = python(bare_import(folder), "-S", "-I", FASTGD_ISA="baseline" if missing else "")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: fastgd's compiled modules are missing"), done.stderr
    assert "pip install" in last
    assert done.stderr.count("Traceback") == 1, done.stderr  # no chain of causes above it


# ---- instruction sets and configuration ------------------------------------------------------------------------------

SUMS = """
import numpy as np, fastgd as fg
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1000, 20)), rng.standard_normal(1000)
r = fg.fit(X, y)
print(fg._kernels.current, *r.coef, *fg.mse_grad(X, y, np.ones(20)))
"""


@pytest.mark.parametrize("cap", _kernels.LEVELS)
def test_FASTGD_ISA_caps_the_instruction_set(cap):
    level, *numbers = output(SUMS, FASTGD_ISA=cap).split()
    best, *expected = output(SUMS).split()
    below = [level for level in _kernels.available() if _kernels.LEVELS.index(level) <= _kernels.LEVELS.index(cap)]
    assert level == below[-1]
    assert best == _kernels.available()[-1]
    np.testing.assert_allclose(np.array(numbers, float), np.array(expected, float), rtol=1e-9, atol=1e-12)


def test_an_empty_FASTGD_ISA_caps_nothing():
    assert output(SUMS, FASTGD_ISA="") == output(SUMS)


@pytest.mark.parametrize("value", ["avx512", "x86-64-v2", "BASELINE", "x86-64-v3 ", "0"])
def test_a_bad_FASTGD_ISA_is_a_value_error(value):
    done = python("import fastgd", FASTGD_ISA=value)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ValueError: FASTGD_ISA must be one of {', '.join(_kernels.LEVELS)}; got {value!r}"


def test_show_config_tells_what_runs_here(capsys):
    assert fg.show_config() is None
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert fg.__version__ == metadata("fastgd")["Version"]
    assert lines["fastgd"].strip() == fg.__version__
    assert _kernels.current in lines["instruction set"]
    assert all(level in lines["instruction set"] for level in (*_kernels.built(), *_kernels.available()))
    assert 1 <= int(lines["threads"]) <= os.cpu_count()
    assert lines["NumPy"].strip() == np.__version__
    assert re.search(r"(gcc|clang) \d+\.\d+", lines["compiler"])
    assert "baseline" in _kernels.built()


@pytest.mark.parametrize(("variable", "threads"), [("1", 1), ("1,4", 1), ("0", 1), ("many", None), ("-3", None)])
def test_OMP_NUM_THREADS_bounds_the_threads(variable, threads):
    code = "import fastgd as fg; fg.show_config(); import os; print(len(os.sched_getaffinity(0)))"
    *_, config, _, _, cpus = output(code, OMP_NUM_THREADS=variable).splitlines()
    assert int(config.split()[-1]) == (threads or int(cpus))


def test_affinity_bounds_the_threads():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import fastgd as fg; fg.show_config()"
    assert re.search(r"threads: +1$", output(code), re.MULTILINE)


# ---- names, docstrings, stubs ----------------------------------------------------------------------------------------


def test_all_names_are_there_and_no_others_appear():
    assert sorted(fg.__all__) == sorted(set(fg.__all__))
    assert all(hasattr(fg, name) for name in fg.__all__)
    with pytest.raises(AttributeError, match="module 'fastgd' has no attribute 'nonsense'"):
        _ = fg.nonsense


def members(owner):
    """Public functions and properties of a class, its own or inherited from fastgd."""
    for name in dir(owner):
        value = inspect.getattr_static(owner, name)
        if not name.startswith("_") and (callable(value) or isinstance(value, property)):
            yield name, value


PUBLIC = {name: getattr(fg, name) for name in fg.__all__ if name != "__version__"} | {
    f"{name}.{member}": value
    for name in fg.__all__
    if inspect.isclass(getattr(fg, name))
    for member, value in members(getattr(fg, name))
    if not hasattr(Exception, member)
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name):
    """One that says more than the signature, which Cython writes into an empty one."""
    text = inspect.getdoc(PUBLIC[name]) or ""
    text = re.sub(r"\A\w+(\.\w+)*\(.*?\)( -> .*)?$", "", text, flags=re.MULTILINE).strip()
    assert len(text) > 20, f"{name}: {text!r}"


def test_fields_of_results_and_errors_are_documented():
    for name in fg.FitResult.__dataclass_fields__:
        assert re.search(rf"^ *{name} : |^ *{name}, ", fg.FitResult.__doc__, re.MULTILINE), name
    for name in fg.Iterate.__dataclass_fields__:
        assert re.search(rf"^ *{name} : ", fg.Iterate.__doc__, re.MULTILINE), name
    for name in vars(fg.DivergenceError("")):
        assert re.search(rf"^ *{name} : ", fg.DivergenceError.__doc__, re.MULTILINE), name


def stub_of(module):
    return ast.parse((PACKAGE / f"{module.__name__.rpartition('.')[2]}.pyi").read_text())


def named(body):
    """Public names that statements of a stub define -> the last statement that defines them."""
    return {
        getattr(node, "name", None) or node.target.id: node
        for node in body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AnnAssign))
    }


def parameters(node):
    """Names and defaults of a function of a stub, as inspect would show them."""
    arguments = node.args
    assert not (arguments.vararg or arguments.kwarg or arguments.kwonlyargs)
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    defaults = [ast.literal_eval(value) for value in arguments.defaults]
    return names, defaults


def runtime_parameters(function):
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found], [p.default for p in found if p.default is not p.empty]


def own_names(scope):
    return {name for name in vars(scope) if not name.startswith("__")}


@pytest.mark.parametrize(
    "module",
    [_cpu, _rows, _mse, _moments, _exact, _sparse, _sgd, _saga, _proximal, _updates],
    ids=lambda module: module.__name__,
)
def test_stubs_match(module):
    stub = named(stub_of(module).body)
    assert set(stub) == own_names(module)
    for name, node in stub.items():
        value = getattr(module, name)
        if isinstance(node, ast.FunctionDef):
            assert parameters(node) == runtime_parameters(value), name
        elif isinstance(node, ast.ClassDef):
            inside = named(node.body)
            assert set(inside) - {"__init__", "__len__"} == own_names(value), name
            for member, function in inside.items():
                if any(ast.unparse(decorator) == "property" for decorator in function.decorator_list):
                    assert inspect.isdatadescriptor(getattr(value, member)), member
                elif member == "__init__":
                    # Cython writes the signature of __init__ into the docstring of the class, C types included.
                    signature = re.match(rf"{name}\((.*?)\)$", value.__doc__, re.MULTILINE)[1]
                    shown = [re.split(r"[\s]", part.partition("=")[0].strip())[-1] for part in signature.split(",")]
                    shown = [part for part in shown if part != "None"]
                    assert parameters(function)[0] == ["self", *shown]
                elif member != "__len__":
                    assert parameters(function) == runtime_parameters(getattr(value, member)), member
        else:
            assert type(value).__name__ == ast.unparse(node.annotation), name


def test_stubs_and_declarations_are_installed():
    files = {path.name for path in PACKAGE.iterdir()}
    assert {"py.typed", "_cpu.pyi", "_rows.pyi", "_mse.pyi", "_moments.pyi", "_sparse.pyi"} <= files
    assert {"_types.pxd", "_rows.pxd", "_mse.pxd", "_sparse.pxd"} <= files
    compiled = {path.name.partition(".")[0] for path in PACKAGE.iterdir() if path.suffix in (".so", ".pyd")}
    assert {name.partition(".")[0] for name in files if name.endswith(".pyi")} == compiled
