"""The examples do what they say, with the fastgd that is installed: run in subprocesses, from outside the checkout."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fastgd as fg

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(*arguments: str | Path, cwd: Path, path: Path | None = None) -> str:
    """What Python prints for these arguments. A run that fails takes the test with it, and says all that it said."""
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(path), environment.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, text=True, capture_output=True, timeout=600
    )
    assert done.returncode == 0, f"{' '.join(map(str, arguments))} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---- flights.py ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear_seconds", [0.03, 0.44, 2.2, 40.0])
def test_no_label_of_the_demos_picture_meets_a_curve(linear_seconds: float, tmp_path: Path, monkeypatch: Any) -> None:
    """On machines of any speed: all words stand in the legend, above the loss at the start."""
    demo = runpy.run_path(str(EXAMPLES / "flights.py"))
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
    optimum, seconds = 311.0, 0.1 + np.linspace(0, 2, 522)
    losses = optimum + 1700 * np.exp(-np.arange(522) / 20)
    rows = [
        demo["Row"](method, optimum + above, 0.9, 0.9, taken)
        for method, above, taken in (
            ("fastgd.fit(X, y)", 0.0, 0.025),
            ("scikit-learn LinearRegression", 0.0, linear_seconds),
            ("scikit-learn SGDRegressor", 0.16, 2.9),
            ("fastgd gd, step by step", losses[-1] - optimum, seconds[-1]),
        )
    ]
    exact = SimpleNamespace(history={"loss": losses[:1]})
    descent = SimpleNamespace(history={"loss": losses, "seconds": seconds}, n_iter=521)
    split = SimpleNamespace(X=np.zeros((9, 3)), y=np.zeros(9))
    demo["draw"](split, rows, exact, descent, "here", tmp_path / "flights.png")
    (axes,) = drawn[0].axes
    drawn[0].canvas.draw()
    assert not axes.texts
    lowest = axes.get_legend().get_window_extent().y0
    heights = [axes.transData.transform(line.get_xydata())[:, 1].max() for line in axes.lines if len(line.get_xdata())]
    assert len(heights) == 7
    assert max(heights) < lowest
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[0] == "fastgd.fit(X, y): 0.025 s, the optimum, certified"
    assert texts[2] == "scikit-learn SGDRegressor: 2.9 s, 0.16 above the optimum"


# ---- training_loop.py ------------------------------------------------------------------------------------------------


def test_training_loop(tmp_path: Path) -> None:
    """Early stopping has the lower validation loss, as it claims, and the optimum the lower training loss."""
    printed = run(EXAMPLES / "training_loop.py", cwd=tmp_path)
    losses = {}
    for name in ("own loop, stopped early", "fastgd.fit, the optimum"):
        found = re.search(rf"^{name} +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
        assert found, printed
        losses[name] = float(found[1]), float(found[2])
    (own_training, own_validation), (training, validation) = losses.values()
    assert training < own_training
    assert own_validation < validation
    assert re.search(r"^stopped at step \d+; the best was step \d+$", printed, re.MULTILINE), printed


# ---- chain_rule.py ---------------------------------------------------------------------------------------------------


def test_chain_rule(tmp_path: Path) -> None:
    """Four ways to one derivative, the table of the way there, and a descent to the optimum of `fastgd.fit`."""
    printed = run(EXAMPLES / "chain_rule.py", cwd=tmp_path)
    ways = re.findall(r"^(?:by hand|forward|in reverse|fastgd\.derivative).* ([\d.]+)$", printed, re.MULTILINE)
    assert ways == ["476.0"] * 4
    assert re.search(r"^z = u5\*\*2 +289   ∂z/∂u5 = 2\*u5 = 34 +476$", printed, re.MULTILINE), printed
    assert "      = (12*x + 4)*(3*x**2 + 2*x + 1)\n" in printed
    last, optimum = (
        re.search(rf"^{start}.*?([\d.]+), w ([\d.]+), b ([\d.]+)", printed, re.MULTILINE)
        for start in ("step 200: loss ", "the optimum: +")
    )
    assert last and optimum and last.groups() == optimum.groups()


# ---- mlp.py ----------------------------------------------------------------------------------------------------------


@pytest.mark.peer("torch")
def test_mlp_does_what_pytorch_does(tmp_path: Path) -> None:
    """The same losses, and at the end the same weights, up to the rounding of float32."""
    printed = run(EXAMPLES / "mlp.py", "--epochs", "10", cwd=tmp_path)
    epochs = re.findall(r"^ +\d+ +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
    own, other = np.array(epochs, float).T
    assert len(own) == 10
    np.testing.assert_allclose(own, other, atol=3e-6)
    assert own[-1] < 0.8 * own[0]
    apart = re.search(r"the weights differ by (\S+) at most", printed)
    assert apart and float(apart[1]) < 1e-5
    found = re.search(r"^test R² +([\d.]+) +([\d.]+)$", printed, re.MULTILINE)
    assert found and float(found[1]) > 0.3 and float(found[1]) == pytest.approx(float(found[2]), abs=1e-3)


def test_mlp_without_pytorch(tmp_path: Path) -> None:
    code = f"""
import runpy, sys
class NoTorch:
    def find_spec(self, name, *rest):
        if name == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
sys.argv[1:] = ["--epochs", "10"]
runpy.run_path({str(EXAMPLES / "mlp.py")!r}, run_name="__main__")
"""
    printed = run("-c", code, cwd=tmp_path)
    assert printed.startswith("PyTorch is not installed: fastgd alone\n")
    losses = [float(loss) for loss in re.findall(r"^ +\d+ +([\d.]+)$", printed, re.MULTILINE)]
    assert len(losses) == 10 and losses[-1] < 0.8 * losses[0]
    found = re.search(r"^test R² ([\d.]+), [\d.]+ µs a step$", printed, re.MULTILINE)
    assert found and float(found[1]) > 0.3


# ---- cimport ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with fastgd-example in it, built from a copy of its sources against the installed fastgd."""
    folder = tmp_path_factory.mktemp("cimport")
    kept_out = shutil.ignore_patterns("build", "*.c", "*.so", "*.egg-info", "__pycache__")
    source = shutil.copytree(EXAMPLES / "cimport", folder / "source", ignore=kept_out)
    target = folder / "site"
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", target]
    run("-m", "pip", "install", *options, source, cwd=folder)
    assert list(target.glob("momentum_descent*")), f"pip built no module: {sorted(target.iterdir())}"
    return target


DESCEND = """
import sys
import numpy as np
import momentum_descent
data = np.load(sys.argv[1])
w, losses, grad_norm = momentum_descent.descend(
    data["X"], data["y"], lr=float(sys.argv[3]), momentum=0.8, n_steps=400, look_ahead=sys.argv[4] == "True"
)
np.savez(sys.argv[2], w=w, losses=losses, grad_norm=grad_norm)
"""


@pytest.mark.parametrize("look_ahead", [False, True])
def test_cimport_package(built_package: Path, tmp_path: Path, look_ahead: bool) -> None:
    """Step by step the losses of the same method written in Python over fastgd's gradient; in the end, its optimum."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((331, 17))
    y = X @ rng.standard_normal(17) + rng.standard_normal(331)
    p = fg.MSE(X, y)
    lr, momentum, n_steps = 1.0 / p.lipschitz(), 0.8, 400
    np.savez(tmp_path / "data.npz", X=X, y=y)
    (tmp_path / "descend.py").write_text(DESCEND)
    result = tmp_path / "result.npz"
    run("descend.py", "data.npz", result, repr(float(lr)), str(look_ahead), cwd=tmp_path, path=built_package)
    descended = np.load(result)

    w, z, v, losses = np.zeros(17), np.zeros(17), np.zeros(17), []
    for _ in range(n_steps):
        loss, gradient = p.value_and_grad(z if look_ahead else w)
        losses.append(loss)
        if look_ahead:
            before, w = w, z - lr * gradient
            z = w + momentum * (w - before)
        else:
            v = momentum * v - lr * gradient
            w = w + v
    losses.append(p.value(w))
    # The kernels are the same; the updates round differently where the compiler fuses a product with a sum.
    np.testing.assert_allclose(descended["losses"], losses, rtol=1e-12)
    np.testing.assert_allclose(descended["w"], w, rtol=1e-10)

    optimum = fg.fit(X, y, fit_intercept=False)
    np.testing.assert_allclose(descended["w"], optimum.coef, rtol=1e-9)
    assert descended["losses"][-1] == pytest.approx(optimum.loss, rel=1e-14)
    assert descended["grad_norm"] < 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("descend(np.eye(3), np.ones(2), lr=0.1)", "ValueError: X must have rows and columns and y"),
        ("descend(np.eye(3), np.ones(3), lr=0.0)", "ValueError: lr must be above 0"),
        ("descend(np.eye(3), np.ones(3), lr=1e3)", "ArithmeticError: the loss is not finite"),
        ("descend(np.eye(3), np.full(3, np.nan), lr=0.1)", "ArithmeticError: the loss is not finite after 0 steps"),
    ],
)
def test_cimport_package_refuses(built_package: Path, tmp_path: Path, call: str, message: str) -> None:
    """The C functions check nothing, so the example must: it is copied from."""
    code = f"""
import numpy as np
from momentum_descent import descend
try:
    {call}
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""
    assert run("-c", code, cwd=tmp_path, path=built_package).startswith(message)


# ---- README.md -------------------------------------------------------------------------------------------------------


def test_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    """Its blocks of Python are one program, which begins by printing what stands below the first of them."""
    text = (EXAMPLES.parent / "README.md").read_text()
    (tmp_path / "readme.py").write_text("".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    printed = run("-W", "error", "readme.py", cwd=tmp_path)
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert printed.startswith(shown), printed
    assert re.search(r"^10\.0 0\.9\d", printed, re.MULTILINE), printed
    assert re.search(r"^moments: .*\n1 iteration, .*\nconverged: ", printed, re.MULTILINE), printed
    assert "instruction set:" in printed
