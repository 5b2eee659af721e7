import gc
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from support.ui_results import metrics, unit, write_act, write_day, write_manifest, write_report, write_version
from toposieve_airflow.ui.tables import ROWS

LIMIT_S = 0.5
READER = """
import sys
open({note!r}, "w").write(sys.argv[1])
if "gone" in sys.argv[1]:
    sys.exit("error: s3://lhc/x: the access key is unknown")
sys.stdout.buffer.write("<h1>µ</h1>".encode())
"""
COPIER = """
import shutil, sys
if {refused}:
    sys.exit("error: s3://lhc/x: the access key is unknown")
assert sys.argv[1] == "s3://lhc/x"
shutil.copytree({base!r}, sys.argv[2], dirs_exist_ok=True)
"""
CHAIN = ("topology_classifier", "manual__2026-01-01T00:00:00+00:00")
TAB = f"/run?dag_id={CHAIN[0]}&run_id={quote(CHAIN[1])}"
HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}"
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; frame-ancestors 'self'"


def links(text: str) -> list[str]:
    return re.findall(r'href="([^"]*)"', text)


def names_shown(text: str) -> list[str]:
    return [link.rpartition("/")[2] for link in links(text) if link.startswith("/reports/")]


def test_reports_with_the_numbers_of_their_metrics(viewer, base: Path) -> None:
    write_report(base, metrics("r", auc=0.98765, models=["hlf", "inclusive"]))
    text = viewer.get("/reports").text
    assert text.count("0.9877 ± 0.0020") == 6
    assert text.count("rejection 50 at 90 %") == 6
    assert text.count('<polyline points="0.0,2.0 45.0,17.0 90.0,20.0"/>') == 2


def test_reports_sorted_and_filtered(viewer, base: Path) -> None:
    for name, auc in (("b", 0.7), ("a", 0.8), ("c", 0.9)):
        write_report(base, metrics(name, auc=auc))
    assert names_shown(viewer.get("/reports?sort=name").text) == ["a", "b", "c"]
    assert names_shown(viewer.get("/reports?sort=qcd").text) == ["c", "a", "b"]
    assert names_shown(viewer.get("/reports?q=OF-B+hlf").text) == ["b"]
    assert names_shown(viewer.get("/reports?q=b+inclusive").text) == []


def test_two_reports_side_by_side(viewer, base: Path) -> None:
    write_report(base, metrics("a", auc=0.9))
    write_report(base, metrics("b", auc=0.925, configuration={"training": {"epochs": 5}}))
    text = viewer.get("/compare?report=a&report=b").text
    assert "+0.0250" in text
    assert "training epochs</th><td>3</td><td>5</td>" in text
    for chosen in ("report=a", "report=a&report=gone", "report=a&report=b&report=a"):
        assert "Choose two reports" in viewer.get(f"/compare?{chosen}").text


def test_a_model_that_one_of_two_lacks(viewer, base: Path) -> None:
    write_report(base, metrics("a", models=["hlf"]))
    write_report(base, metrics("b", models=["inclusive"]))
    assert viewer.get("/compare?report=a&report=b").text.count('<td class="number">–</td>') == 8


def test_the_page_of_a_report_frames_it_without_scripts(viewer, base: Path) -> None:
    write_report(base, metrics("r"))
    text = viewer.get("/reports/r").text
    assert '<iframe src="/reports/r/report.html" title="report" sandbox=""></iframe>' in text
    assert viewer.get("/reports/gone").status_code == 404


def test_pages_run_their_own_script_alone(viewer) -> None:
    response = viewer.get("/reports")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy["script-src"])
    (script,) = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    assert policy["script-src"] == f"'sha256-{sha256(script)}'"


def test_hostile_text_is_escaped(viewer, base: Path) -> None:
    content = metrics("r", models=[HOSTILE], dataset=HOSTILE, classes=[HOSTILE], missing=[HOSTILE])
    content["configuration"] = {"dataset": {"partitions": [HOSTILE]}, "training": {HOSTILE: HOSTILE}}
    content["code_versions"] = {"evaluation": HOSTILE}
    write_report(base, content)
    write_report(base, metrics("s"))
    write_day(base, "d", code_version=HOSTILE, config={HOSTILE: HOSTILE}, config_hash=HOSTILE, notes=[HOSTILE])
    more = {"quarantined": [{"source": HOSTILE, "reason": HOSTILE}], "code_version": HOSTILE, "inputs": {HOSTILE: ""}}
    for folder, stage in (("datasets/x", "prepare"), ("models/x/y", "training")):
        write_manifest(base / folder, stage, [unit(HOSTILE, {HOSTILE: 1})], **more)
    write_manifest(base / "selected" / "d", "select", [unit(HOSTILE, {HOSTILE: 1})], number=2, **more)
    lineage = {f"reports/{HOSTILE}": "", f"datasets/{HOSTILE}": ""}
    model = {**content["models"][HOSTILE], "run": HOSTILE}
    of_version = {"architecture": HOSTILE, "classes": [HOSTILE], "metrics": model, "lineage": lineage}
    write_version(base, 1, label=HOSTILE, **of_version)
    write_act(base, 1, 1, **dict.fromkeys(("action", "who", "when", "why", "order"), HOSTILE))
    pages = ["/reports", "/reports/r", "/compare?report=r&report=s", "/days", "/days/d", "/datasets", "/models"]
    pages.append("/registry")
    for page in (*pages, f"/reports?q={quote(HOSTILE)}&sort={quote(HOSTILE)}"):
        response = viewer.get(page)
        assert response.status_code == 200
        assert "alert(1)" in response.text or page in ("/reports/r", "/days")
        assert "<script>alert" not in response.text
        assert HOSTILE not in response.text


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_of_a_report_runs_no_script_and_is_not_sent_twice(viewer, base: Path, method: str) -> None:
    write_report(base, metrics("r"), page="<script>alert(1)</script>")
    first = viewer.request(method, "/reports/r/report.html")
    assert first.status_code == 200
    assert first.text == ("<script>alert(1)</script>" if method == "GET" else "")
    assert first.headers["content-length"] == "25"
    for header, value in (
        ("content-security-policy", SANDBOX),
        ("content-type", "text/html; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-cache"),
    ):
        assert first.headers[header] == value
    again = viewer.request(method, "/reports/r/report.html", headers={"If-None-Match": f'"x", {first.headers["etag"]}'})
    assert (again.status_code, again.text, again.headers["etag"]) == (304, "", first.headers["etag"])
    other = viewer.request(method, "/reports/r/report.html", headers={"If-None-Match": '"x"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "r/../secret.html",
        "r/%2e%2e/secret.html",
        "r%2f..%2f../secret.html",
        "r/..%2f..%2fsecret.html",
        "%2e%2e/secret.html",
        "r/report.html%00",
        "r/%00.html",
        "r/link.html",
        "folder/secret.html",
        "r/other.txt",
        "r/report",
        "r/x/",
        "r//report.html",
        "r/" + 300 * "x" + ".html",
    ],
)
def test_nothing_else_is_served(path: str, viewer, base: Path) -> None:
    folder = write_report(base, metrics("r"))
    for place in (base / "secret.html", base / "reports" / "secret.html", folder / "other.txt"):
        place.write_text("secret")
    (folder / "link.html").symlink_to(base / "secret.html")
    (base / "reports" / "folder").symlink_to(base)
    response = viewer.get(f"/reports/{path}")
    assert response.status_code == 404
    assert "secret" not in response.text


def test_days_with_their_holes(viewer, base: Path) -> None:
    write_day(base, "2026-01-01", samples=["qcd", "wjets"])
    write_day(base, "2026-01-03", files=3)
    text = viewer.get("/days").text
    assert [link for link in links(text) if "/days/" in link] == [f"/days/2026-01-0{day}" for day in (3, 2, 1)]
    assert "no ttbar" in text
    assert "no files" in text
    assert '<a class="missing" href="?q=missing">2 missing</a>' in text
    assert [link for link in links(viewer.get("/days?q=missing").text) if "/days/" in link][-1] == "/days/2026-01-01"


def test_a_day_has_its_cutflow(viewer, base: Path) -> None:
    write_day(base, "d", files=2, quarantined=[{"source": "qcd/d/9.root", "reason": "truncated"}], notes=["a remark"])
    text = viewer.get("/days/d").text
    for number in ("20", "12", "8"):
        assert f'<td class="number">{number}</td>' in text
    assert "qcd/d/9.root was left out: truncated" in text
    assert "a remark" in text
    assert viewer.get("/days/gone").status_code == 404


def test_datasets_and_models_say_what_they_were_made_from(viewer, base: Path) -> None:
    splits = [
        unit(f"{split}/0", {"events": events}) for split, events in (("train", 64), ("validation", 16), ("test", 20))
    ]
    write_manifest(base / "datasets" / "x", "prepare", splits, inputs={"selected/2026-01-01": "f"}, code=2)
    write_manifest(base / "models" / "hlf" / "0a1b", "training", [], inputs={"datasets/x": "f"}, code=1)
    text = viewer.get("/datasets").text
    assert "/days/2026-01-01" in links(text)
    for number in ("64", "16", "20"):
        assert f'<td class="number">{number}</td>' in text
    assert "prepare 2, now 3" in text
    assert "/datasets?q=x" in links(viewer.get("/models?q=hlf").text)
    assert "train 1, now" not in viewer.get("/models").text
    assert "0a1b" not in viewer.get("/models?q=inclusive").text


def test_the_registry_says_what_is_published_by_whom_and_why(viewer, rows, base: Path) -> None:
    write_version(base, 1, auc=0.9)
    write_version(base, 2, auc=0.95, label="better")
    write_act(base, 1, 1, why="the first", order="first")
    write_act(base, 2, 2, who="bob", why="fewer QCD events", order="of somebody's own")
    rows.run(("publish_model", "first"))
    response = viewer.get("/registry")
    text = response.text
    assert text.count("<strong>published</strong>") == 1
    assert re.search(r"<td>2 <strong>published</strong></td>\s*<td>better", text)
    assert "0.9500 ± 0.0020<br>" in text
    assert text.count("rejection 50 at 90 %") == 6
    assert text.index("bob</td><td>fewer QCD events") < text.index("ada</td><td>the first")
    assert text.count('<td class="day">2026-01-02 03:04</td><td>publish</td>') == 2
    found = links(text)
    assert {"/reports/r", "/datasets?q=x", "/models?q=d1d7be185915ca63"} <= set(found)
    assert [link for link in found if "/runs/" in link] == ["/dags/publish_model/runs/first"]


def test_a_version_that_has_become_firmware_leads_to_its_page(viewer, base: Path) -> None:
    write_version(base, 1, architecture="hlf")
    assert not [link for link in links(viewer.get("/registry").text) if "firmware" in link]
    folder = base / "firmware" / "x" / "hlf" / "d1d7be185915ca63"
    folder.mkdir(parents=True)
    (folder / "firmware.html").write_text("<script>alert(1)</script>")
    (link,) = [link for link in links(viewer.get("/registry").text) if "firmware" in link]
    assert link == "/firmware/x/hlf/d1d7be185915ca63/firmware.html"
    response = viewer.get(link)
    assert response.text == "<script>alert(1)</script>"
    assert response.headers["content-security-policy"] == SANDBOX
    for place in ("x/hlf/gone/firmware.html", "x/hlf", "%2e%2e/registry/topology/versions/000001.json"):
        assert viewer.get(f"/firmware/{place}").status_code == 404


def test_an_empty_registry_says_what_fills_it(viewer, base: Path) -> None:
    assert "the DAG publish_model does so" in viewer.get("/registry").text
    write_version(base, 1)
    assert "Nothing is published." in viewer.get("/registry").text


@pytest.mark.parametrize(
    ("state", "planned", "said"),
    [
        (None, None, "This run makes no report."),
        ("waiting", None, "The report of this run is not there: evaluate is waiting."),
        ("failed", "r", "The report r is not there: evaluate is failed."),
    ],
)
def test_a_run_without_a_report_says_why(viewer, rows, state: str | None, planned: str | None, said: str) -> None:
    if planned:
        rows.planned(CHAIN, "evaluate", {"label": planned})
    if state:
        rows.task(CHAIN, "evaluate", state)
    assert said in viewer.get(TAB).text


def test_a_run_whose_report_lacks_models_names_them(viewer, rows, base: Path) -> None:
    rows.planned(CHAIN, "evaluate", {"label": "r"})
    rows.planned(CHAIN, "train", [{"label": "hlf"}, {"label": "inclusive"}])
    for index, state in enumerate(("success", "failed")):
        rows.task(CHAIN, "train", state, index)
    rows.task(CHAIN, "evaluate", "failed")
    rows.planned(CHAIN, "train_trees", [{"label": "xgboost"}])
    rows.task(CHAIN, "train_trees", "failed", 0)
    assert "evaluate is failed, and the training of inclusive, xgboost has failed." in viewer.get(TAB).text
    write_report(base, metrics("r", missing=["inclusive"]))
    assert "without inclusive" in viewer.get(TAB).text


def test_what_else_shows_runs_is_linked_on_their_tab(viewer) -> None:
    from toposieve_airflow.ui.deployment import deployment

    site = replace(viewer.app.dependency_overrides[deployment](), links={"TensorBoard": "https://host/"})
    viewer.app.dependency_overrides[deployment] = lambda: site
    assert "https://host/" in links(viewer.get(TAB).text)


def test_the_tab_of_a_run_has_its_report(viewer, rows, base: Path) -> None:
    write_report(base, metrics("r"))
    rows.planned(CHAIN, "evaluate", {"label": "r"})
    assert '<iframe src="/reports/r/report.html" title="report" sandbox=""></iframe>' in viewer.get(TAB).text


def test_runs_are_linked(viewer, rows, base: Path) -> None:
    write_report(base, metrics("r"))
    write_day(base, "2026-01-01")
    rows.event("toposieve_report", CHAIN, {"report": "r"})
    rows.planned(CHAIN, "return_value", ["2026-01-01"])
    for page in ("/reports", "/reports/r", "/days", "/days/2026-01-01", "/compare?report=r&report=r"):
        assert f"/dags/{CHAIN[0]}/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00" in links(viewer.get(page).text)


def test_without_the_data_pages_say_what_was_announced_and_where_the_files_are(viewer, rows, base: Path) -> None:
    base.rmdir()
    rows.event("toposieve_report", CHAIN, metrics("r", auc=0.875))
    rows.planned(CHAIN, "evaluate", {"label": "r"})
    rows.event("toposieve_selected", CHAIN, {"cutflow": {"qcd": {"events": 1234}}}, key="2026-01-01")
    rows.event("toposieve_dataset", CHAIN, {"dataset": "some-dataset"})
    rows.event("toposieve_model", CHAIN, {"model": "hlf", "run": "0a1b"})
    expected = {
        "/reports": "0.8750 ± 0.0020",
        "/reports/r": f"<code>{base}/reports/r/report.html</code>",
        TAB: "0.8750 ± 0.0020",
        "/days": "1,234",
        "/days/2026-01-01": "1,234",
        "/datasets": "some-dataset",
        "/models": "0a1b",
    }
    for page, text in expected.items():
        shown = viewer.get(page).text
        assert text in shown
        assert f"<code>{base}</code>, which this server does not see" in shown


@pytest.fixture
def stored(viewer, base: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Data in a store; what the jobs' reader of stores is asked for is noted in a file, which the fixture gives.

    With the parameter "refused" nothing can be listed.
    """
    from toposieve_airflow.runs.jobs_environment import JobsEnvironment
    from toposieve_airflow.ui.deployment import deployment
    from toposieve_airflow.ui.stored_results import StoredResults

    library, note = tmp_path / "library", tmp_path / "note"
    (library / "toposieve").mkdir(parents=True)
    copier = COPIER.format(base=str(base), refused=getattr(request, "param", "") == "refused")
    for name, text in (("read_object", READER.format(note=str(note))), ("copy_documents", copier)):
        (library / "toposieve" / f"{name}.py").write_text(text)
    jobs = JobsEnvironment(sys.executable, {"PYTHONPATH": str(library)})
    results = StoredResults("s3://lhc/x", jobs, tmp_path / "copy")
    site = replace(viewer.app.dependency_overrides[deployment](), base="s3://lhc/x", jobs=jobs, results=results)
    viewer.app.dependency_overrides[deployment] = lambda: site
    return note


def test_days_datasets_and_models_are_read_through_their_store(viewer, base: Path, stored: Path) -> None:
    write_day(base, "2026-01-01")
    write_manifest(base / "datasets" / "x", "prepare", [], inputs={"selected/2026-01-01": "f"})
    write_manifest(base / "models" / "hlf" / "0a1b", "training", [], inputs={"datasets/x": "f"})
    write_report(base, metrics("r", auc=0.875))
    expected = {"/days": "0123456789abcdef", "/datasets": "2026-01-01", "/models": "0a1b", "/reports": "0.8750"}
    for page, text in expected.items():
        shown = viewer.get(page).text
        assert text in shown
        assert "which this server does not see" not in shown


@pytest.mark.parametrize("stored", ["refused"], indirect=True)
def test_where_the_store_refuses_pages_say_so_and_what_was_announced(viewer, rows, stored: Path) -> None:
    rows.event("toposieve_report", CHAIN, metrics("r", auc=0.875))
    text = viewer.get("/reports/r").text
    assert "0.8750 ± 0.0020" in text
    assert "which this server does not see (s3://lhc/x: the access key is unknown)" in text


def test_a_report_is_read_through_its_store(viewer, base: Path, stored: Path) -> None:
    write_report(base, metrics("r"))
    text = viewer.get("/reports/r").text
    assert '<iframe src="/reports/r/report.html" title="report" sandbox=""></iframe>' in text
    response = viewer.get("/reports/r/report.html")
    assert (response.status_code, response.text) == (200, "<h1>µ</h1>")
    assert response.headers["content-security-policy"] == SANDBOX
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert stored.read_text(encoding="utf-8") == "s3://lhc/x/reports/r/report.html"


def test_a_store_that_refuses_is_heard(viewer, stored: Path) -> None:
    response = viewer.get("/reports/gone/report.html")
    assert (response.status_code, response.text) == (502, "s3://lhc/x: the access key is unknown")


@pytest.mark.parametrize("path", ["r/%2e%2e/secret.html", "%2e%2e/secret.html", "r/x.png", "r/x.txt", "r/%00.html"])
def test_nothing_else_is_asked_of_a_store(path: str, viewer, stored: Path) -> None:
    assert viewer.get(f"/reports/{path}").status_code == 404
    assert not stored.exists()


def test_links_start_where_airflow_has_put_the_app(viewer, base: Path) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    write_report(base, metrics("r"))
    airflow = FastAPI(root_path="/prefix")
    airflow.mount("/toposieve", viewer.app)
    text = TestClient(airflow, headers=dict(viewer.headers)).get("/prefix/toposieve/reports").text
    inside = [link for link in links(text) if not link.startswith("?")]
    assert "/prefix/toposieve/reports/r" in inside
    assert all(link.startswith("/prefix/toposieve/") for link in inside)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("many")
    for number in range(1000):
        write_report(base, metrics(f"report-{number:04}", models=["hlf", "particle_sequence", "inclusive"]))
    return base


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toposieve_airflow.runs.partitions import days

    base = tmp_path_factory.mktemp("year")
    for day in days("2026-01-01", "2026-12-31"):
        write_day(base, day, files=4)
    return base


@pytest.mark.parametrize(("path", "place"), [("/reports?sort=qcd", "many"), ("/days", "year")])
def test_a_thousand_reports_and_a_year_in_half_a_second(
    path: str, place: str, viewer, results, request: pytest.FixtureRequest
) -> None:
    results.base = request.getfixturevalue(place)
    viewer.get("/models")
    gc.collect()  # of all objects of the session: not while the time is taken
    started = time.process_time()
    text = viewer.get(path).text
    assert time.process_time() - started < LIMIT_S
    assert text.count("<tbody>" if place == "many" else 'href="/days/') == ROWS
    assert re.search(r"page 1 of (20|8)", text)


def sha256(text: str) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
