from toposieve.version import code_version


def test_an_image_names_its_version(monkeypatch):
    code_version.cache_clear()
    monkeypatch.setenv("TOPOSIEVE_VERSION", "1.2.3")
    assert code_version() == "1.2.3"
    code_version.cache_clear()


def test_a_machine_without_git_is_no_error(monkeypatch):
    code_version.cache_clear()
    monkeypatch.delenv("TOPOSIEVE_VERSION", raising=False)
    monkeypatch.setenv("PATH", "")
    assert code_version() == "unknown"
    code_version.cache_clear()
