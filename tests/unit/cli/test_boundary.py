"""Every error leaves as one line and an exit code: 0, 1, 2 or 130; never as a traceback."""

from __future__ import annotations

import errno

import pytest
import typer
from typer.testing import CliRunner

from piker import cli
from piker.cli import boundary
from piker.errors import ConfigError, ServiceUnavailable, SymbolNotFound


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException | None, *argv: str) -> int:
    """Run a command that raises `error` behind the boundary and return the exit code."""

    def command() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(cli, "load_command", lambda name, entry: cli.as_command(name, command))
    return boundary.main("piker", [*argv, "services"])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return stderr, which must be one line."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    return text.strip()


def test_a_command_that_ends_well_exits_with_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, None) == 0
    assert capsys.readouterr().err == ""


def test_an_error_of_ours_is_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ConfigError("conf.toml:3: [data]\nring_1s was 1")) == 1
    assert one_line(capsys) == "piker: conf.toml:3: [data] ring_1s was 1"


def test_an_unknown_market_names_its_closest_matches(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = SymbolNotFound("doggy.spot.binance: unknown market.", matches=("dogeusdt", "dogusdt"))
    assert run(monkeypatch, error) == 1
    assert one_line(capsys).endswith("unknown market; closest: dogeusdt, dogusdt")


def test_the_telling_error_of_a_group_is_the_one_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = BaseExceptionGroup("b", [ValueError("noise"), ServiceUnavailable("no pikerd runs")])
    assert run(monkeypatch, BaseExceptionGroup("a", [OSError("noise"), inner])) == 1
    assert one_line(capsys) == "piker: no pikerd runs"


def test_a_bug_is_one_line_too_and_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, KeyError("first\nTraceback\n  last")) == 1
    assert "-l debug" in one_line(capsys)


def test_debug_shows_where_an_error_came_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, ConfigError("bad"), "-l", "debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_system_error_names_the_file_and_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = OSError(errno.EACCES, "Permission denied", "conf.toml")
    assert run(monkeypatch, error) == 1
    assert one_line(capsys) == "piker: conf.toml: Permission denied"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])]
)
def test_an_interrupt_exits_with_130_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    assert run(monkeypatch, error) == 130
    assert capsys.readouterr().err == ""


def test_a_command_may_pick_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, typer.Exit(1)) == 1


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["nope"], "No such command 'nope'"),
        (["sevices"], "Did you mean 'services'"),
        (["quote"], "Missing argument 'FQME'"),
        (["quote", "--frobnicate", "x"], "--frobnicate"),
        (["quote", "btcusdt"], "market was 'btcusdt'"),
        (["bars", "-p", "7m", "btcusdt.spot.binance"], "period was '7m'"),
        (["bars", "-n", "0", "btcusdt.spot.binance"], "'-n' / '-c' / '--count'"),
        (["-l", "loud", "services"], "expected one of debug"),
        (["-c", __file__, "services"], "is a file"),
    ],
)
def test_misuse_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], expected: str
) -> None:
    assert boundary.main("piker", argv) == 2
    assert expected in one_line(capsys)


def test_an_unknown_broker_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert boundary.main("piker", ["quote", "btcusdt.doggy"]) == 1
    assert "no broker is named 'doggy'" in one_line(capsys)


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"symbol-info", "demo"}))
def test_help_lists_every_command(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert boundary.main("piker", ["--help"]) == 0
    assert f"  {name} " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["search", "quote", "bars", "mkt-info", "symbol-info", "demo"])
def test_every_command_explains_itself_with_an_example(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert boundary.main("piker", [name, "--help"]) == 0
    assert "  piker " in capsys.readouterr().out.partition("Example")[2]


def test_the_state_folder_may_be_named_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("PIKER_CONFIG_DIR", "elsewhere")
    assert run(monkeypatch, None, "-c", f"{tmp_path}/state") == 0
    assert cli.os.environ["PIKER_CONFIG_DIR"] == f"{tmp_path}/state"


def test_no_command_shows_help_and_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.main("piker", []) == 2
    assert "Commands:" in capsys.readouterr().err


def test_version_is_printed() -> None:
    assert "piker 0.1.0" in CliRunner().invoke(cli.app, ["--version"]).output
