"""What was skipped is the last thing that a test run says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def last_line(file, *more):
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file), *more]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1]


def test_skips_are_told_in_the_last_line():
    tests = ROOT / "tests" / "tools" / "test_published.py"
    assert "passed" in last_line(tests) or "SKIPPED" in last_line(tests)
    told = last_line(ROOT / "tests" / "tools" / "skipped_examples.py")
    assert told == "3 SKIPPED: 2 because the moon is new; 1 because there is no cat"
