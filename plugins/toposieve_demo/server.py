"""Airflow's UI on the local home, with all runs of the demo, until Ctrl-C.

    python -m toposieve_demo.server        # what `make airflow` does

It prints the address, the user and the password.
"""

from __future__ import annotations

import argparse
import sys
import time

from toposieve_airflow.profile import ProfileError
from toposieve_demo.airflow_home import USER, LocalAirflowError, add_arguments, home_of, local_airflow
from toposieve_demo.api import ApiError

POLL_S = 1.0


def arg_parser() -> argparse.ArgumentParser:
    """Command line of this server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> int:
    """Run Airflow until Ctrl-C; returns the exit code."""
    home = home_of(args)
    try:
        with local_airflow(home) as airflow:
            print(f"Airflow: {home.url}   user: {USER}   password: {home.password}   (Ctrl-C ends it)", flush=True)
            while True:
                airflow.check()
                time.sleep(POLL_S)
    except (LocalAirflowError, ProfileError, ApiError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped")
        return 0


if __name__ == "__main__":
    sys.exit(main(arg_parser().parse_args()))
