"""Hostile requests by the thousand, made from a seed, at a real server: `python -m tests.fuzz`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # `stage` and `acceptance`, as pytest does
