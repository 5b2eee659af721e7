"""What failed in CI, kept in a file that it prints in the end."""

from pathlib import Path

FAILED_FILE = Path(__file__).parents[2] / ".pytest_cache" / "failed_once"


def remember_failure(text: str) -> None:
    """Add lines to the file."""
    FAILED_FILE.parent.mkdir(exist_ok=True)
    with FAILED_FILE.open("a", encoding="utf-8") as file:
        file.write(f"{text.rstrip()}\n")
