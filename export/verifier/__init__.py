"""The verifier of evidence packages; its modules, joined, are the stand-alone `verify.py` (export/standalone.py)."""
