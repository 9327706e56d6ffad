"""`python -m webtorch`: the command line, and the nginx of the package."""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["nginx"]:
        # nginx becomes the master in this process: nothing that it does not need is imported
        from webtorch.cli._bundled import run

        run(sys.argv[2:])
    else:
        from webtorch.cli import main

        main()
