"""Program: evidence packages, their manifest and their verifier."""
