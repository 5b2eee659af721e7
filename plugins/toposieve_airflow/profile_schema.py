"""Write the JSON schema of a profile's changes into that of the chart's values, which then refuses a misspelt key.

python -m toposieve_airflow.profile_schema helm/toposieve/values.schema.json        # part of `make schema`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from toposieve_airflow.profile import Profile


def definitions() -> dict[str, Any]:
    """Section of the profile → its schema, in which no key is needed: the others are the repository's."""
    schema = Profile.model_json_schema()
    sections: dict[str, Any] = schema.pop("$defs")
    return {name: _of_changes(section) for name, section in sorted([*sections.items(), (Profile.__name__, schema)])}


def _of_changes(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key != "required"}


def exported(values: dict[str, Any]) -> str:
    """The schema of the chart's values with the profile's sections as they are now; those have a capital letter."""
    own = {name: each for name, each in values["$defs"].items() if name[0].islower()}
    return json.dumps({**values, "$defs": {**own, **definitions()}}, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(exported(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
