"""A process that races for an object: ``python -m support.store_contract ROOT KEY START``."""

from __future__ import annotations

import sys
import time

from toposieve.io.store import root_key


def main(root: str, key: str, start: str) -> None:
    """Wait for the moment that all agreed on, then create; print whether it was us, and our content."""
    place = root_key("--base", root) / key
    place.stat()  # connect before the start
    content = f"process {time.monotonic_ns()}"
    time.sleep(max(0.0, float(start) - time.time()))
    print(place.create_if_absent(content.encode()), content)


if __name__ == "__main__":
    main(*sys.argv[1:])
