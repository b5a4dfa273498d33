"""No check can be taken out without a test that fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow  # minutes: `make fuzz` runs it
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_every_check_is_missed_when_it_is_off():
    script = Path(__file__).parent / "switch_off.py"
    result = subprocess.run([sys.executable, str(script)], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    for room in ("fileformat/reader", "fileformat/directory", "fileformat/payload", "coding/huffman"):
        assert any(check.startswith(room) for check in report["checks"])
    assert len(report["checks"]) > 60
    assert report["missed"] == []
