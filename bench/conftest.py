"""The suite's modules on the path: pytest's importlib mode leaves it as it was."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
