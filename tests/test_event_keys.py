"""Keys of events against SplitMix64 in Python's integers."""

from __future__ import annotations

import hashlib

import numpy as np

from toposieve.event_keys import digest64, event_keys, mix, text_keys

FILE = "qcd/d/qcd-000000.root"


def key_by_hand(file: str, entry: int) -> int:
    state = int.from_bytes(hashlib.blake2b(file.encode(), digest_size=8).digest(), "little")
    value = (state + entry * 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def test_the_mixer_is_that_of_splitmix64() -> None:
    # The generator's first output from state 1234567, as published with it.
    assert mix(np.array([1234567 + 0x9E3779B97F4A7C15], np.uint64)).tolist() == [6457827717110365317]


def test_keys_follow_from_file_and_entry_for_ever() -> None:
    entries = np.array([0, 1, 2, 10**12])
    assert event_keys(FILE, entries).tolist() == [key_by_hand(FILE, entry) for entry in entries.tolist()]
    assert event_keys(FILE, entries)[0] == 0x4C7FDE9046DB8E44


def test_each_text_has_a_key_that_follows_from_it() -> None:
    assert text_keys(["a:1", "b:2"]).tolist() == [digest64("a:1")[0], digest64("b:2")[0]]
    assert text_keys([]).tolist() == []
