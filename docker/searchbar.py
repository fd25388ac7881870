"""The `searchbar` command of the gateway image, which has the package beside this file instead of installed."""

from app.cli import main

main()
