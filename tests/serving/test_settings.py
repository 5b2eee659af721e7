import pytest

from toposieve.errors import InvalidInputError
from toposieve.serving.settings import client_settings


def write(folder, text):
    path = folder / "kafka.properties"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path):
    file = write(tmp_path, "# ours\n\nbootstrap.servers = a:1\nsasl.username=me\nsasl.password=p=1\n")
    variables = {"TOPOSIEVE_KAFKA_SASL_PASSWORD": "secret", "KAFKA_PORT": "tcp://10.0.0.1", "HOME": "/"}
    expected = {"bootstrap.servers": "a:1", "sasl.username": "me", "sasl.password": "secret"}
    assert client_settings(file, variables) == expected
    assert client_settings(file, {})["sasl.password"] == "p=1"
    assert client_settings(file, variables, "b:2")["bootstrap.servers"] == "b:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bootstrap.servers=a:1\nenable.auto.commit=true", "enable.auto.commit is for this job"),
        ("bootstrap.servers=a:1\nisolation.level=read_uncommitted", "isolation.level is for this job"),
        ("bootstrap.servers=a:1\nauto.offset.reset=latest", "auto.offset.reset is for this job"),
        ("sasl.username=me", "no brokers: give --brokers"),
        ("bootstrap.servers", "line 1: expected key=value"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, text, message):
    with pytest.raises(InvalidInputError, match=message):
        client_settings(write(tmp_path, text), {})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"none\.properties cannot be read"):
        client_settings(tmp_path / "none.properties", {}, "a:1")


def test_a_guarantee_cannot_be_lifted_by_the_environment():
    with pytest.raises(InvalidInputError, match=r"transactional\.id"):
        client_settings(None, {"TOPOSIEVE_KAFKA_TRANSACTIONAL_ID": "x"}, "a:1")
