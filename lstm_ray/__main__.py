"""`python -m lstm_ray`: the command line without an installed script, as on a cluster that was sent the package."""

from lstm_ray.cli import main

if __name__ == "__main__":
    main()
