import json
import logging

import pytest

import publish_model
from support.registry_data import write_base
from toposieve.errors import InvalidInputError


@pytest.fixture
def run(tmp_path, caplog, capsys):
    """Function that runs the job on a base with hlf and inclusive and returns its log and output."""
    write_base(tmp_path, hlf={}, inclusive={"auc": 0.97})
    caplog.set_level(logging.INFO)

    def run(*arguments):
        caplog.clear()
        publish_model.main(publish_model.arg_parser().parse_args([*arguments, "--base", str(tmp_path)]))
        return caplog.text + capsys.readouterr().out

    return run


def told(text, what):
    (line,) = (line.partition(f"{what}: ")[2] for line in text.splitlines() if f"{what}: " in line)
    return json.loads(line)


def test_register_says_what_would_change_in_one_line(run):
    found = told(run("register", "--report", "r", "--label", "hlf"), "comparison")
    assert (found["version"], found["published_version"], found["after"], found["accepted"]) == (1, None, 0, True)


def test_publish_go_back_and_list(run):
    run("register", "--report", "r", "--label", "hlf")
    run("register", "--report", "r", "--label", "inclusive")
    run("publish", "--version", "1", "--who", "ada", "--why", "the first")
    assert told(run("publish", "--version", "2", "--who", "ada", "--why", "better"), "publication")["number"] == 2
    assert told(run("compare", "--version", "1"), "comparison")["after"] == 2
    for _ in range(2):
        back = told(run("rollback", "--who", "bob", "--why", "worse", "--order", "run-1"), "publication")
        assert (back["number"], back["version"], back["order"]) == (3, 1, "run-1")
    lines = run("list").splitlines()
    assert lines[:2] == ["version 1: hlf", "version 2: inclusive"]
    assert [line.partition(" ")[2] for line in lines[2:]] == [
        "publish version 1 by ada: the first",
        "publish version 2 by ada: better",
        "rollback version 1 by bob: worse",
    ]


def test_rules_publish_what_meets_them_and_leave_the_rest(run):
    run("register", "--report", "r", "--label", "inclusive")
    run("register", "--report", "r", "--label", "hlf")
    assert told(run("decide", "--version", "1"), "publication")["who"] == "rules"
    assert "not published, and the published one stays: AUC qcd no worse" in run("decide", "--version", "2")
    assert "published already: nothing to do" in run("decide", "--version", "1")
    assert len(run("list").splitlines()) == 3


def test_a_decision_on_what_is_no_longer_published_is_refused(run):
    run("register", "--report", "r", "--label", "hlf")
    run("publish", "--version", "1", "--who", "ada", "--why", "x", "--after", "0")
    with pytest.raises(InvalidInputError, match="ada has published version 1 meanwhile"):
        run("publish", "--version", "1", "--who", "bob", "--why", "y", "--after", "0")


def test_an_option_that_is_missing_is_named(run):
    with pytest.raises(InvalidInputError, match="publish needs --who, --why: give it"):
        run("publish", "--version", "1")


def test_without_a_label_the_largest_areas_win(run):
    assert told(run("register", "--report", "r"), "comparison")["label"] == "inclusive"


def test_a_newer_candidate_supersedes_one_that_waits(run):
    run("register", "--report", "r", "--label", "hlf")
    run("register", "--report", "r", "--label", "inclusive")
    with pytest.raises(InvalidInputError, match="version 1 was superseded by 2: decide on that one"):
        run("publish", "--version", "1", "--who", "ada", "--why", "x", "--newest", "1")
    run("publish", "--version", "2", "--who", "ada", "--why", "x", "--newest", "2")


def test_an_older_version_may_be_decided_on_again(run, tmp_path):
    """A newer one was rejected: what supersedes is what has come since somebody was asked."""
    run("register", "--report", "r", "--label", "hlf")
    run("register", "--report", "r", "--label", "inclusive")
    asked = told(run("register", "--report", "r", "--label", "hlf"), "comparison")
    assert (asked["version"], asked["newest"]) == (1, 2)
    publish = ["publish", "--version", "1", "--who", "ada", "--why", "x", "--after", "0", "--newest", "2"]
    first = told(run(*publish), "publication")
    versions = tmp_path / "registry" / "topology" / "versions"
    (versions / "000003.json").write_text((versions / "000002.json").read_text().replace("inclusive", "newer"))
    assert told(run(*publish), "publication") == first  # tried again, it changes nothing
