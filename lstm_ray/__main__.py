"""`python -m lstm_ray`: the command line without an installed script, as on a cluster that was sent the package."""

import sys

if __name__ == "__main__":
    try:
        from lstm_ray.cli import main
    except ModuleNotFoundError as error:
        if str(error.name).startswith("lstm_ray"):
            raise
        sys.exit(
            f"error: {sys.executable} has no module {error.name!r}: is that Ray's Python? On a cluster, activate its "
            "environment before `ray start`, so that `python` is found there first"
        )
    main()
