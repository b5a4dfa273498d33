"""A folder in memory, for tests that write thousands of small files."""

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def fast_folder(tmp_path):
    """In memory where the system has a place for that, else on disk."""
    memory = Path("/dev/shm")  # noqa: S108 - a fresh folder in it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)
