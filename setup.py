"""Build of fastgd's extension modules. Everything declarative stands in pyproject.toml.

Environment: FASTGD_DEBUG=1 turns bounds checks on and optimisation down; FASTGD_BUILD_JOBS=N compiles N modules at a
time (default: one per CPU).
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

DEBUG = os.environ.get("FASTGD_DEBUG", "0") not in ("", "0")
JOBS = int(os.environ.get("FASTGD_BUILD_JOBS", "0")) or os.cpu_count() or 1

# Modules that Python calls, one build each, and kernels, one build for each instruction-set level.
FRONTS = (
    "_cpu", "_rows", "_mse", "_moments", "_exact", "_sparse", "_sgd", "_saga", "_proximal", "_tape", "_updates",
    "_plain_sgd",
)
KERNELS = ("mse", "moments", "sparse", "sgd", "saga", "elementary", "updates", "plain_sgd")
LEVELS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    LEVELS |= {"x86-64-v3": ["-march=x86-64-v3"], "x86-64-v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}

# Sums may be reordered, so that they vectorise; NaN and Inf keep their meaning and subnormals their values, which
# -ffast-math would take away from the whole process.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros"]
# The loops over 16 lanes must reach the vectoriser as loops, which gcc would unroll completely before it; and it must
# not jam two rows together, which moves sums from registers to memory.
KERNEL_FLAGS = ["--param", "max-completely-peel-times=7", "-fno-loop-unroll-and-jam"]
# Entries of sparse rows are met one by one; gcc would put vectors of them together element by element. So it would of
# the addresses of a panel's rows, which costs a quarter of the time; and it would make longer chains of their sums,
# which are written as vectors in the order they need. An update goes through up to five arrays, and sees for itself
# that no two of them meet before it takes vectors; and what it writes only where a gradient is finite must stay a
# choice between two numbers, of which gcc would make branches. Elements have the same bits wherever in an array they
# are, if the loops over vectors and those over what is left keep to one order of operations.
KERNEL_FLAGS_OF = {
    "mse": ["-fno-associative-math"],
    "sparse": ["-fno-tree-vectorize"],
    "sgd": ["-fno-tree-slp-vectorize", "-fno-associative-math"],
    "updates": [
        "--param", "vect-max-version-for-alias-checks=40", "-fno-thread-jumps", "-fno-tree-pre",
        "-fno-associative-math",
    ],
    "elementary": ["-fno-associative-math"],
    "plain_sgd": ["-fno-tree-slp-vectorize", "-fno-associative-math"],
}
# What promises the bits of scikit-learn's sums must not regroup them.
FRONT_FLAGS_OF = {"fastgd._plain_sgd": ["-fno-associative-math", "-ffp-contract=off"]}
KERNEL_MACROS = [("CYTHON_INLINE", "inline __attribute__((always_inline))")]
if DEBUG:
    FLAGS, KERNEL_FLAGS, KERNEL_FLAGS_OF, KERNEL_MACROS = ["-O1", "-g"], [], {}, []

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "embedsignature": True,
}
HEADERS = sorted(map(str, [*Path("fastgd").glob("*.pxd"), *Path("src").rglob("*.h")]))


def cythonized(level: str, sources: dict[str, str], flags: dict[str, list[str]], macros: list) -> list[Extension]:
    """Extension modules of these names, each with flags of its own.

    Each level has its own build directory, because one source becomes several modules. Cython gets to see no flags: it
    adds those of one module to those of the next from the same source.
    """
    include = [numpy.get_include(), "src/kernels"]
    modules = cythonize(
        [Extension(name, [source], include_dirs=include, depends=HEADERS) for name, source in sources.items()],
        build_dir=f"build/cython/{level}", compiler_directives=DIRECTIVES, include_path=["."],
        nthreads=JOBS if sys.platform == "linux" else 0, force=DEBUG,
    )
    for module in modules:
        module.extra_compile_args = FLAGS + flags.get(module.name, [])
        module.define_macros = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"), *macros]
    return modules


class BuildExt(build_ext):
    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or JOBS

    def build_extensions(self):
        try:
            super().build_extensions()
        except CompileError as error:
            sys.exit(f"fastgd needs a C compiler (gcc or clang) and Python's headers to build: {error}")


extensions = cythonized("fronts", {f"fastgd.{name}": f"src/{name}.pyx" for name in FRONTS}, FRONT_FLAGS_OF, [])
for level, march in LEVELS.items():
    names = {f"fastgd._kernels.{name}_{level.replace('-', '_')}": name for name in KERNELS}
    extensions += cythonized(
        level,
        {module: f"src/kernels/{name}.pyx" for module, name in names.items()},
        {module: march + KERNEL_FLAGS + KERNEL_FLAGS_OF.get(name, []) for module, name in names.items()},
        KERNEL_MACROS,
    )

setup(ext_modules=extensions, cmdclass={"build_ext": BuildExt})
