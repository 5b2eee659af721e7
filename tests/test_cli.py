import errno
import io
import logging
import os
import subprocess
import sys

import pytest

import serve
from toposieve import cli
from toposieve.config import SelectionConfig
from toposieve.environment import JOBS_FOLDER
from toposieve.errors import INVALID_INPUT_EXIT_CODE, ConflictError, InvalidInputError


@pytest.fixture
def parser():
    return cli.job_parser("Select events.", SelectionConfig)


def run_job(monkeypatch, parser, main, *arguments):
    monkeypatch.setattr(sys, "argv", ["job", "--base", "data", *arguments])
    monkeypatch.setattr(logging, "raiseExceptions", True)  # a job sets it for its whole process
    cli.run(main, parser)


def test_help_lists_every_key_with_its_default_and_meaning(parser):
    text = parser.format_help()
    assert "lepton_pt_min = 23.0" in text
    assert all(name in text for name in SelectionConfig.model_fields)


def test_overrides_win_over_the_configuration(parser):
    args = parser.parse_args(["--base", "x", "--config", '{"lepton_pt_min": 30}', "--set", "lepton_pt_min=25"])
    assert cli.stage_config(args, SelectionConfig).lepton_pt_min == 25


def test_override_without_a_value_is_refused(parser):
    args = parser.parse_args(["--base", "x", "--set", "lepton_pt_min"])
    with pytest.raises(InvalidInputError, match="expected KEY=VALUE"):
        cli.stage_config(args, SelectionConfig)


def test_plain_text_override_reaches_the_check_of_its_key(parser):
    args = parser.parse_args(["--base", "x", "--set", "lepton_pt_min=high"])
    with pytest.raises(InvalidInputError, match="lepton_pt_min"):
        cli.stage_config(args, SelectionConfig)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--batch", "0", "argument --batch: 0 is no int from 1 to 10,000"),
        ("--batch", "100001", "100001 is no int"),
        ("--batch", "1.5", "1.5 is no int"),
        ("--wait", "-1", "argument --wait: -1 is no float from 0 to 1,000"),
        ("--wait", "nan", "nan is no float"),
        ("--look", "soon", "soon is no float from 0.1 to 3,600"),
    ],
)
def test_a_number_out_of_bounds_is_refused(capsys, option, text, message):
    parser = serve.arg_parser()
    assert parser.parse_args(["--base", "x", "--wait", "0", "--batch", "10000"]).batch == 10_000
    with pytest.raises(SystemExit):
        parser.parse_args(["--base", "x", f"{option}={text}"])
    assert message in capsys.readouterr().err


def fail(error):
    def main(_args):
        raise error

    return main


def test_invalid_input_exits_with_two_and_a_plain_message(monkeypatch, parser, capsys):
    with pytest.raises(SystemExit) as stop:
        run_job(monkeypatch, parser, fail(InvalidInputError("raw/qcd/a.root: truncated; copy it again")))
    assert stop.value.code == INVALID_INPUT_EXIT_CODE
    assert capsys.readouterr().err == "error: raw/qcd/a.root: truncated; copy it again\n"


def test_every_line_of_an_error_is_marked(monkeypatch, parser, capsys):
    with pytest.raises(SystemExit):
        run_job(monkeypatch, parser, fail(InvalidInputError("2 bad files:\n  a.root: truncated")))
    assert capsys.readouterr().err == "error: 2 bad files:\nerror:   a.root: truncated\n"


def test_full_disk_exits_with_two_and_says_where(monkeypatch, parser, capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "data/events/part")
    with pytest.raises(SystemExit) as stop:
        run_job(monkeypatch, parser, fail(full))
    assert stop.value.code == INVALID_INPUT_EXIT_CODE
    assert "no space left under data (data/events/part)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOTCONN, errno.EKEYEXPIRED, errno.EIO])
def test_what_may_pass_is_one_line_and_may_be_retried(monkeypatch, parser, capsys, number):
    with pytest.raises(SystemExit) as stop:
        run_job(monkeypatch, parser, fail(OSError(number, os.strerror(number), "data/raw/a.root")))
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        f"error: {os.strerror(number)} (data/raw/a.root): run the same command again when that is over\n"
    )


def test_a_conflict_is_one_line_and_may_be_retried(monkeypatch, parser, capsys):
    with pytest.raises(SystemExit) as stop:
        run_job(monkeypatch, parser, fail(ConflictError("another run published to data/events meanwhile; run again")))
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: another run published to data/events meanwhile; run again\n"


def test_other_errors_keep_their_trace(monkeypatch, parser):
    with pytest.raises(ZeroDivisionError):
        run_job(monkeypatch, parser, fail(ZeroDivisionError()))


def test_a_letter_that_the_terminal_does_not_know_ends_no_job(monkeypatch, parser):
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        run_job(monkeypatch, parser, lambda _args: print("0.99 ± 0.01, \udcff.root"))
        terminal.flush()
        assert terminal.buffer.getvalue() == b"0.99 \\xb1 0.01, \\udcff.root\n"


def test_a_reader_of_the_log_who_goes_away_ends_no_job(monkeypatch, parser, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as log:
        monkeypatch.setattr(sys, "stdout", log)
        run_job(monkeypatch, parser, lambda _args: logging.getLogger("job").info("working"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("lines", "code"), [(1, 0), (99_999, 1)])
def test_a_reader_who_has_seen_enough_is_told_nothing(lines, code):
    program = f"""
from toposieve import cli
from toposieve.config import SelectionConfig
cli.run(lambda _args: print(*["a line"] * {lines}, sep="\\n"), cli.job_parser("test", SelectionConfig))
"""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", program, "--base", "data"]
    environment = {**os.environ, "PYTHONPATH": str(JOBS_FOLDER), "PYTHONUNBUFFERED": ""}
    with open(writer, "w", encoding="utf-8") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_store_that_hangs_up_is_no_reader_who_went_away(monkeypatch, parser, capsys):
    with pytest.raises(SystemExit):
        run_job(monkeypatch, parser, fail(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert capsys.readouterr().err == "error: Broken pipe: run the same command again when that is over\n"


def test_success_returns(monkeypatch, parser):
    seen = []
    run_job(monkeypatch, parser, seen.append, "--set", "jet_pt_min=40")
    assert cli.stage_config(seen[0], SelectionConfig).jet_pt_min == 40
