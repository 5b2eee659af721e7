"""The page of a firmware: every number from ``firmware.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toposieve.evaluation.page import Section, Table, render_page
from toposieve.firmware.trigger import LUMINOSITY

Report = Mapping[str, Any]
BOTH = ("network", "firmware")
WHAT = ("kept", "others that pass", "rate, Hz")
BEFORE = "Before place and route: an estimate, not what a chip was measured to do."


def render(report: Report) -> str:
    """One HTML document that needs nothing else.

    Args:
        report: Content of ``firmware.json``.
    """
    return render_page(
        {},
        title=f"Firmware of {report['model']} {report['run']}",
        introduction=f"Verilog of a quantised network, distilled from {report['model']} {report['run']}, which was "
        f"trained on the dataset {report['dataset']}; both on the test events of that.",
        summary=_summary(report),
        sections=[_physics(report), _proof(report), _logic(report), _port(report)],
    )


def _summary(report: Report) -> list[str]:
    areas, timing, size = report["auc"].values(), report["timing"], report["size"]
    farthest = max(abs(each["firmware"] - each["network"]) for each in areas)
    compared = sum(each["compared"] for each in report["logits"].values())
    differing = sum(each["differing"] + each["differing_from_hls4ml"] for each in report["logits"].values())
    return [
        f"No AUC differs by more than {farthest:.4f} from that of the network, and {report['agreement']:.1%} of the "
        "events get the same class.",
        f"Of {compared:,} logits that the Verilog was simulated for, {differing:,} differ from the quantised network "
        "or from hls4ml's C++ of it.",
        f"Before place and route: {timing['cycles']} cycles of {timing['clock_period_ns']:g} ns, an event each cycle "
        f"({timing['events_per_second'] / 1e6:,.4g} million a second); {size['lut']:,} LUTs, {size['ff']:,} "
        f"flip-flops, {size['carry']:,} carry chains.",
    ]


def _physics(report: Report) -> Section:
    areas = [
        (name, f"{each['network']:.4f}", f"{each['firmware']:.4f}", f"{each['firmware'] - each['network']:+.4f}")
        for name, each in report["auc"].items()
    ]
    points = [
        (
            name,
            f"{100 * point['target']:g}%",
            *(_share(point[model][key]) for key in ("true_positive_rate", "false_positive_rate") for model in BOTH),
            *(_hertz(point[model]["hertz"]) for model in BOTH),
        )
        for name, each in report["working_points"].items()
        for point in each
    ]
    return Section(
        "network",
        "Against the network",
        words=[
            "Thresholds are chosen on validation events, each by the model's own scores, to keep a share of the wanted "
            f"class. Rates are of all processes together, at a luminosity of {LUMINOSITY:g} cm⁻² s⁻¹."
        ],
        tables=[
            Table("Area under the ROC curve", ["class", *BOTH, "difference"], areas),
            Table(
                "Working points", ["class", "target", *(f"{what}, {model}" for what in WHAT for model in BOTH)], points
            ),
        ],
    )


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2%}"


def _hertz(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.3g}"


def _proof(report: Report) -> Section:
    rows = [
        (name, f"{each['compared']:,}", f"{each['differing']:,}", f"{each['differing_from_hls4ml']:,}")
        for name, each in report["logits"].items()
    ]
    flipped = report["flipped_adder"]["differing_logits"]
    words = f"Random events reach far out of range. With one adder made to subtract, {flipped:,} test logits differ."
    header = ["events", "logits", "differ from the quantised network", "differ from hls4ml's C++"]
    return Section("proof", "Simulation", words=[words], tables=[Table("Verilog, simulated", header, rows)])


def _logic(report: Report) -> Section:
    timing, size = report["timing"], report["size"]
    rows = [
        ("cycles", f"{timing['cycles']}"),
        ("clock period, ns", f"{timing['clock_period_ns']:g}"),
        ("latency, ns", f"{timing['latency_ns']:g}"),
        ("million events per second", f"{timing['events_per_second'] / 1e6:,.4g}"),
        ("LUTs", f"{size['lut']:,}"),
        ("flip-flops", f"{size['ff']:,}"),
        ("carry chains", f"{size['carry']:,}"),
    ]
    words = f"Time: {timing['by']}. Size: {size['by']}."
    return Section(
        "logic", "Time and size", notes=[BEFORE], words=[words], tables=[Table("Logic", ["figure", "value"], rows)]
    )


def _port(report: Report) -> Section:
    port = report["input"]
    rows = [
        (each["feature"], each["unit"], f"{each['step']:g}", f"{each['least']:g}", f"{each['most']:g}")
        for each in port["words"]
    ]
    words = f"{port['word_bits']} bits each, in two's complement, the first in the lowest; what lies beyond is the end."
    table = Table(f"Words of {port['name']}", ["feature", "unit", "step", "least", "most"], rows, text=[1], words=words)
    return Section("port", "Input", tables=[table])
