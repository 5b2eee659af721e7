"""The page shows what ``firmware.json`` has."""

import copy
import json
import re

import pytest

from support.repository import REPOSITORY
from toposieve.firmware.page import BEFORE, render

REPORT = json.loads((REPOSITORY / "tests/firmware/firmware.json").read_text(encoding="utf-8"))


def cells(report) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", render(report), re.DOTALL)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_both_stand_side_by_side():
    rows = cells(REPORT)
    assert ["ttbar", "0.9879", "0.9871", "-0.0008"] in rows
    assert ["ttbar", "95%", "95.02%", "94.81%", "4.10%", "4.22%", "51.2", "52.3"] in rows
    page = render(REPORT)
    assert "No AUC differs by more than 0.0008 from that of the network, and 96.7% of the events" in page


def test_rates_that_are_not_known_are_said():
    report = copy.deepcopy(REPORT)
    report["working_points"]["ttbar"][0]["firmware"]["hertz"] = None
    assert ["ttbar", "95%", "95.02%", "94.81%", "4.10%", "4.22%", "51.2", "n/a"] in cells(report)


@pytest.mark.parametrize(
    "row",
    [
        ["cycles", "8"],
        ["clock period, ns", "5"],
        ["million events per second", "200"],
        ["LUTs", "13,145"],
        ["flip-flops", "3,012"],
        ["carry chains", "1,440"],
        ["random", "45,000", "0", "0"],
        ["HT", "GeV", "0.5", "-4096", "4095.5"],
    ],
)
def test_figures_of_simulation_and_logic_are_there(row):
    assert row in cells(REPORT)


def test_nobody_takes_the_size_for_that_of_a_chip():
    page = render(REPORT)
    assert BEFORE in page
    assert "Yosys for xcup, before place and route" in page


def test_a_logit_that_differs_is_in_the_summary():
    report = copy.deepcopy(REPORT)
    report["logits"]["random"]["differing_from_hls4ml"] = 3
    assert "Of 46,845 logits that the Verilog was simulated for, 3 differ" in render(report)
