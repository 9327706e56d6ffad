"""The tiles of examples/gpgpu, as raw rows."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "examples/gpgpu"))

from gpgpu import draw

__all__ = ["draw"]
