"""How to watch: arguments, the environment, and the project's file."""

from __future__ import annotations

import pytest

from evreload import _settings
from evreload._supervisor import cli as line


@pytest.mark.parametrize(
    ("variable", "said"),
    [("1", True), ("yes", True), ("0", False), ("OFF", False), ("", None), (None, None)],
)
def test_the_environment_says_whether_to_poll(monkeypatch, variable, said):
    if variable is None:
        monkeypatch.delenv("EVRELOAD_POLL", raising=False)
    else:
        monkeypatch.setenv("EVRELOAD_POLL", variable)
    assert _settings.poll_by_environment() is said
    assert _settings.start().poll is bool(said)
    assert _settings.start(poll=True).poll is True
    assert _settings.start(poll=False).poll is False


def test_the_environment_goes_before_the_project_and_options_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.evreload]\npoll = true\n")
    monkeypatch.delenv("EVRELOAD_POLL", raising=False)
    assert line.parse(["app.py"]).poll is True
    monkeypatch.setenv("EVRELOAD_POLL", "no")
    assert line.parse(["app.py"]).poll is False
    assert line.parse(["--poll", "app.py"]).poll is True
