from toposieve_airflow.contract.exits import error_line


def test_error_line_prefers_what_the_job_calls_its_error() -> None:
    assert error_line(["INFO x", "error: a is wrong", "more", "error: b too"]) == "a is wrong\nb too"
    assert error_line(["Traceback", "ValueError: x"]) == "Traceback\nValueError: x"
    assert error_line([]) == "it printed nothing"
