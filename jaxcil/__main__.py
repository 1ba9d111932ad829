"""`python -m jaxcil` is the command `jaxcil`."""

from jaxcil.cli.main import main

if __name__ == "__main__":
    main()
