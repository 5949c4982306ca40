"""`python -m lastseen.cli`: the same as `lastseen`."""

from lastseen.cli import main

main()
