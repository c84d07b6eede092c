"""`python -m keyreel` is the command `keyreel`."""

from __future__ import annotations

from keyreel.main import main

main()
