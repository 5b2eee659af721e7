"""What an output folder has held: a line for each of its manifests."""

from __future__ import annotations

from datetime import UTC, datetime

from toposieve.io import manifests
from toposieve.io.manifests import Manifest
from toposieve.io.store import Key, Stat


def history(folder: Key) -> list[str]:
    """A line for each manifest of a folder, oldest first: number, date, and what it said."""
    entries = folder.list(manifests.PREFIX)
    lines, before = [], None
    for number in manifests.manifest_numbers(entries):
        key = folder / manifests.manifest_name(number)
        content, published = key.read_bytes(), date(entries[manifests.manifest_name(number)])
        stub = manifests.read_stub(content)
        if stub is not None:
            lines.append(f"{number:6d}  {stub.swept}  {stub.was} (swept)")
            continue
        manifest = manifests.parse_manifest(content, key)
        if manifest is not None:
            lines.append(f"{number:6d}  {published}  {describe(manifest)}{_changes(before, manifest)}")
            before = manifest
    return lines


def describe(manifest: Manifest) -> str:
    """A manifest in a few words."""
    return (
        f"{manifest.stage}: {len(manifest.units)} units, {manifest.total('events'):,} events, "
        f"configuration {manifest.config_hash}, code {manifest.code}"
    )


def _changes(before: Manifest | None, manifest: Manifest) -> str:
    if before is None:
        return ""
    old, new = ({file.path for file in each.outputs()} for each in (before, manifest))
    keys = sorted({*before.config, *manifest.config})
    changed = [
        f"{key} {before.config.get(key)} → {manifest.config.get(key)}"
        for key in keys
        if before.config.get(key) != manifest.config.get(key)
    ]
    counts = {"more": len(new - old), "less": len(old - new)}
    parts = [f"{count} files {what}" for what, count in counts.items() if count] + changed
    return f" ({', '.join(parts) or 'the same files'})"


def date(stat: Stat) -> str:
    """When an object was written, ISO 8601."""
    return datetime.fromtimestamp(stat.modified, UTC).isoformat(timespec="seconds")
