"""pytest-benchmark cases: each kernel, NumPy's way to the same result, and one read of X.

    OMP_NUM_THREADS=1 pytest bench --benchmark-group-by=param:data
"""

from __future__ import annotations

import pytest
from problems import CASES, PROBLEMS, Data, read_once


@pytest.fixture(scope="module", params=PROBLEMS, ids=str)
def data(request):
    return Data(request.param)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("library", ["fastgd", "numpy"])
def test_case(benchmark, data, case, library):
    run = CASES[case][library == "numpy"]
    benchmark.extra_info["bytes"] = data.X.nbytes
    benchmark(run, data)


def test_read_ceiling(benchmark, data):
    benchmark.extra_info["bytes"] = data.X.nbytes
    benchmark(read_once, data)
