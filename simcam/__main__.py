"""`python -m simcam`."""

from simcam.main import main

main()
