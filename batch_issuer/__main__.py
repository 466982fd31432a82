"""`python -m batch_issuer`: the console script by another door."""

from batch_issuer.cli import main

if __name__ == "__main__":
    main()
