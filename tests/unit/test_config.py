"""What the operator wrote: defaults, refusals that name the line, venues and their folders."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from piker import config
from piker.errors import ConfigError

REPO = Path(__file__).parents[2]


@pytest.fixture
def run_vars(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    found: dict[str, object] = {}
    monkeypatch.setattr(config, "_vars", lambda: found)
    return found


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse_settings(text)
    return str(caught.value)


def test_an_absent_file_means_defaults(tmp_conf: Path) -> None:
    found = config.settings()
    assert (found.network.host, found.network.port) == ("127.0.0.1", 6116)
    assert (found.data.ring_1s, found.data.ring_1m, found.data.ring_ticks) == (86400, 43200, 65536)
    assert (found.log.level, found.ui.timezone) == ("info", "market")
    assert (found.clearing.max_notional, found.clearing.daily_loss) == (Decimal(2500), Decimal(500))


def test_a_changed_file_is_read_again(tmp_conf: Path) -> None:
    path = tmp_conf / "conf.toml"
    path.write_text("[network]\nport = 7000\n")
    assert config.settings().network.port == 7000
    path.write_text("[network]\nport = 70001\n")
    with pytest.raises(ConfigError, match=r"conf\.toml:2: \[network\] port"):
        config.settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[data]\n\nring_1s = 'x'\n",
            "conf.toml:3: [data] ring_1s: was 'x', expected int, got str",
        ),
        ("[data]\nring_1s = 3\n", "conf.toml:2: [data] ring_1s: was 3, expected int >= 120"),
        ("[data]\nring_ticks = 5000\n", "conf.toml:2: [data] ring_ticks: was 5000,"),
        ("[data]\nring_2s = 3\n", "conf.toml:2: [data] ring_2s: unknown key; remove or correct it"),
        ("[date]\nx = 1\n", "conf.toml:1: `date`: unknown key"),
        ("x = 1\n", "conf.toml:1: `x`: unknown key"),
        ("log.level = 'loud'\n", "conf.toml:1: [log] level: was 'loud', expected debug"),
        ("[ui.keys]\nfollow = 3\n", "conf.toml:1: [ui] keys: was {'follow': 3}, expected str"),
        ("[ui]\ntheme = 'pink'\n", "conf.toml:2: [ui] theme: was 'pink', expected auto"),
        (
            "[clearing]\nmax_notional = 'much'\n",
            "conf.toml:2: [clearing] max_notional: was 'much', expected a number",
        ),
        ("[clearing]\ndaily_loss = nan\n", "conf.toml:2: [clearing] daily_loss: was NaN, expected"),
        ("[clearing]\nmax_size = -1\n", "conf.toml:2: [clearing] max_size: was -1, expected a"),
        ("[clearing]\njournal_days = 6\n", "conf.toml:2: [clearing] journal_days: was 6, expected"),
        ("[paper]\nleverage = 0.5\n", "conf.toml:2: [paper] leverage: was 0.5, expected 1 to 1000"),
        (
            "[paper]\nmaker_fee = 0.2\n",
            "conf.toml:2: [paper] maker_fee: was 0.2, expected a share such as",
        ),
        (
            "[paper]\nfill_model = 'x'\n",
            "conf.toml:2: [paper] fill_model: was 'x', expected default",
        ),
        ("[paper]\nlatency_ms = 'x'\n", "conf.toml:2: [paper] latency_ms: was 'x', expected int"),
        ("[ui]\nconfirm = 'some'\n", "conf.toml:2: [ui] confirm: was 'some', expected none, live"),
        (
            "[ui.notify]\nfill = 'loud'\n",
            "conf.toml:2: [ui.notify] fill: was 'loud', expected none",
        ),
        ("[ui.notify]\nopen = 'both'\n", "conf.toml:2: [ui.notify] open: unknown key"),
        ("data = 3\n", "conf.toml:1: `data`: was 3, expected object"),
        ("[data]\nring_1s = \n", "conf.toml:2: is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, expected: str) -> None:
    assert refused(text).startswith(expected)


def test_amounts_are_exact_whether_quoted_or_not() -> None:
    found = config.parse_settings("[clearing]\nmax_notional = 0.1\nprice_band_pct = '0.30'\n")
    assert (found.clearing.max_notional, found.clearing.price_band_pct) == (
        Decimal("0.1"),
        Decimal("0.30"),
    )


@pytest.mark.parametrize(
    ("value", "amount"), [("'live'", None), ("'none'", None), ("'1000'", 1000), ("250", 250)]
)
def test_confirmation_may_start_at_an_amount(value: str, amount: int | None) -> None:
    assert config.parse_settings(f"[ui]\nconfirm = {value}\n").ui.confirm_above == amount


def test_templates_are_valid_and_equal_the_examples() -> None:
    for name in ("conf", "brokers"):
        template = (REPO / "piker" / "templates" / f"{name}.toml").read_text()
        assert template == (REPO / "config" / f"{name}.toml").read_text()
    template = (REPO / "piker" / "templates" / "conf.toml").read_text()
    assert config.parse_settings(template) == config.Settings()
    commented = [line.removeprefix("# ") for line in template.splitlines()]
    settings = [line for line in commented if line.startswith("[") or " = " in line]
    keys = config.parse_settings("\n".join(settings)).ui.keys
    assert keys == {"follow": "n"}, "every example line is valid once its # is removed"


def test_the_state_folder_comes_from_the_run_then_the_environment(
    tmp_conf: Path, run_vars: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.config_dir() == tmp_conf
    run_vars["piker_test_dir"] = "/elsewhere"
    assert config.config_dir() == Path("/elsewhere")
    run_vars.clear()
    monkeypatch.delenv("PIKER_CONFIG_DIR")
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/xdg")
    assert config.config_dir() == Path("/xdg/piker")


def test_a_venue_url_may_carry_a_name() -> None:
    venue = config.parse_venue("binance", "http://127.0.0.1:8123/#demo")
    assert (venue.url, venue.name, venue.is_local) == ("http://127.0.0.1:8123", "demo", True)
    assert config.parse_venue("binance", str(venue)) == venue
    assert config.parse_venue("binance", "http://127.0.0.1:8123").name == "127.0.0.1-8123"


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8123", "ftp://x", "http://", "http://x:y", "http://x#../y"]
)
def test_a_venue_that_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="venue of binance"):
        config.parse_venue("binance", text)


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("https://api.binance.com", False),
        ("https://data-api.binance.vision", False),
        ("https://api.binance.com.evil.example", True),
        ("https://notbinance.com", True),
        ("http://localhost:1", True),
    ],
)
def test_anything_but_the_official_hosts_is_a_local_venue(url: str, is_local: bool) -> None:
    assert config.parse_venue("binance", url).is_local is is_local


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[binance]\nvenue_url = 5\n", "brokers.toml:2: [binance] venue_url: was 5, expected str"),
        (
            "[binance]\n\nvenue_url = 'ftp://x'\n",
            "brokers.toml:3: [binance] venue_url: venue of binance: was 'ftp://x', expected a URL",
        ),
        ("[binance]\nvenu_url = ''\n", "brokers.toml:2: [binance] venu_url: unknown key, expected"),
        ("[binance]\naccounts = 3\n", "brokers.toml:2: [binance] accounts: was 3, expected"),
        ("binance = 3\n", "brokers.toml:1: `binance`: was 3, expected a section"),
        (
            "[binnance]\nvenue_url = 'http://127.0.0.1:1'\n",
            "brokers.toml:2: [binnance] venue_url: no broker is named 'binnance', expected one of",
        ),
        ("[binance\n", "brokers.toml:1: is not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_broker_is_named_with_its_line(
    tmp_conf: Path, run_vars: dict[str, object], text: str, expected: str
) -> None:
    (tmp_conf / "brokers.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.configured_venues()
    assert str(caught.value).startswith(expected)


def test_keys_of_other_backends_are_left_alone(tmp_conf: Path) -> None:
    (tmp_conf / "brokers.toml").write_text("[ib]\nhosts = ['x']\n[binance]\napi_key = 'k'\n")
    assert config.broker_settings("ib") == {"hosts": ["x"]}
    assert config.configured_venues() == {}


def test_files_of_a_local_venue_live_apart(tmp_conf: Path, run_vars: dict[str, object]) -> None:
    assert config.broker_dir("binance") == tmp_conf
    (tmp_conf / "brokers.toml").write_text("[binance]\nvenue_url = 'http://127.0.0.1:1#demo'\n")
    assert config.broker_dir("binance") == tmp_conf / "venues" / "demo"
    assert config.configured_venues() == {"binance": "http://127.0.0.1:1#demo"}
    run_vars["venues"] = {}  # a run that was started before the file was written
    assert config.broker_dir("binance") == tmp_conf


def test_a_missing_file_is_made_from_its_template(tmp_conf: Path) -> None:
    with pytest.raises(FileNotFoundError):
        config.load("brokers")
    found, path = config.load("brokers", touch_if_dne=True)
    assert path == tmp_conf / "brokers.toml"
    assert "binance" in found


def test_writing_keeps_comments_and_refuses_a_blank_config(tmp_conf: Path) -> None:
    found, path = config.load("conf", touch_if_dne=True)
    found["network"]["port"] = 7000
    config.write(found, "conf")
    assert path.read_text().startswith("# piker: settings.")
    assert config.settings().network.port == 7000
    assert [p.name for p in tmp_conf.iterdir()] == ["conf.toml"]
    with pytest.raises(ValueError, match="blank config"):
        config.write({}, "conf")


def test_accounts_are_listed_in_file_order_and_paper_last(
    tmp_conf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_conf / "brokers.toml").write_text(
        "[kraken]\n[ib.accounts]\nmain = 'DU1'\n[binance.accounts]\nspot = 'spot'\n"
    )
    accounts = config.load_accounts()
    assert list(accounts.items()) == [("ib.main", "DU1"), ("binance.spot", "spot"), ("paper", None)]
    assert "No accounts named for kraken?" in caplog.text
