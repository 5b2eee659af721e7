import pytest

from toposieve import read_object
from toposieve.errors import UnavailableError
from toposieve.io.store.file import FileStore


def test_its_bytes_and_nothing_else(tmp_path, capfdbinary):
    (tmp_path / "report.html").write_bytes("<h1>µ</h1>\n".encode())
    assert read_object.main([f"{tmp_path}/report.html"]) == 0
    assert capfdbinary.readouterr() == ("<h1>µ</h1>\n".encode(), b"")


@pytest.mark.parametrize(
    ("location", "said"),
    [("{}/gone.html", "error: {}/gone.html is not there\n"), ("ftp://host/x", "error: object ftp://")],
)
def test_what_cannot_be_had_is_said(location, said, tmp_path, capsys):
    assert read_object.main([location.format(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(said.format(tmp_path))
    assert shown.out == ""


def test_a_store_that_cannot_be_reached(tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise UnavailableError("host does not answer")

    monkeypatch.setattr(FileStore, "fetch", fail)
    assert read_object.main([f"{tmp_path}/report.html"]) == 1
    assert capsys.readouterr().err == "error: host does not answer\n"
