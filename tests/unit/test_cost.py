"""What a million queries cost: arithmetic, the price list, and no figure that nobody measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.cli_cost import parse_rate
from app.errors import InvalidInput
from loadtest.cost import Instance, costs, latency_saved, per_million, rated, read_prices, read_rates, saved

RATES = {"fastapi": ("FastAPI + transformers", 250.0), "ours": ("Searchbar", 1000.0)}
SMALL = Instance("c6i.large", 2, 0.09)
GPU = Instance("g5.xlarge", 4, 1.0, "NVIDIA A10G")


@pytest.mark.parametrize(
    ("usd_per_hour", "tps", "utilisation", "usd"),
    [
        pytest.param(0.36, 100, 1.0, 1.0, id="360 000 queries an hour for 36 cents"),
        pytest.param(0.36, 100, 0.5, 2.0, id="half of it idle"),
        pytest.param(1.0, 1000, 0.5, 0.5556, id="a GPU's hour"),
    ],
)
def test_the_price_of_a_million(usd_per_hour: float, tps: float, utilisation: float, usd: float) -> None:
    """Dollars an hour over queries an hour."""
    assert per_million(usd_per_hour, tps, utilisation) == pytest.approx(usd, abs=1e-4)


@pytest.mark.parametrize(
    ("instance", "given", "rate", "basis"),
    [
        pytest.param(SMALL, {}, 1000, "measured here", id="as many cores as were measured"),
        pytest.param(Instance("c6i.2xlarge", 8, 0.34), {}, 4000, "arithmetic: 4 ×", id="more cores"),
        pytest.param(GPU, {}, None, "not measured", id="a GPU that nobody measured"),
        pytest.param(GPU, {"g5.xlarge": 9000.0}, 9000, "given by --tps", id="a GPU that somebody measured"),
    ],
)
def test_a_rate_says_where_it_is_from(instance: Instance, given: dict[str, float], rate: float | None, basis: str) -> None:
    """Cores are scaled and said to be; a GPU is never guessed."""
    found, says = rated(instance, 1000.0, given)
    assert found == rate and says.startswith(basis)


def test_savings_are_those_of_one_machine() -> None:
    """At one price and one utilisation the cost falls as the rate rises; without either server nothing is said."""
    assert saved(RATES) == pytest.approx(0.75)
    assert saved({"ours": RATES["ours"]}) is None


def test_latencies_are_compared_where_both_hold() -> None:
    """A rate that one of them misses is not a latency."""

    def server(name: str, p50: float, missed: list[str]) -> dict[str, object]:
        at = {"100": {"missed": [], "p50_ms": p50, "p90_ms": 2 * p50}, "400": {"missed": missed, "p50_ms": p50, "p90_ms": p50}}
        return {"name": name, "not_run": "", "alone": {"p50_ms": p50}, "at": at}

    found = latency_saved([server("fastapi", 8.0, ["late"]), server("ours", 2.0, [])])
    assert found == {"p50, one caller": 0.75, "p50 at 100/s": 0.75, "p90 at 100/s": 0.75}
    assert latency_saved([server("ours", 2.0, [])]) == {}


def test_the_price_list_names_its_source() -> None:
    """Prices without a page and a day are hearsay."""
    prices = read_prices()
    assert prices.source.startswith("https://") and len(prices.day) == 10
    names = {instance.name: instance for instance in prices.instances}
    assert names["g5.xlarge"].gpu and not names["c6i.xlarge"].gpu
    rows = costs(RATES, prices, 0.5)
    assert all((row.usd_per_million is None) == bool(row.instance.gpu) for row in rows)


@pytest.mark.parametrize("text", ["g5.xlarge", "g5.xlarge=", "=12", "g5.xlarge=-1", "g5.xlarge=fast", "g5.xlarge=nan"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(InvalidInput, match=r"g5\.xlarge=1200"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["", "{}", '{"instances": {"x": {"cores": 2}}}'])
def test_a_broken_price_list_is_refused(text: str, tmp_path: Path) -> None:
    """Whatever is wrong with it, the file is named."""
    path = tmp_path / "prices.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="no price list"):
        read_prices(path)


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    """Costs, prices' source, what was measured and what is arithmetic; a missing table names the command that makes it."""
    with pytest.raises(InvalidInput, match="make compare"):
        read_rates(tmp_path / "none.json")
    at = {"400": {"missed": [], "p50_ms": 2.0, "p90_ms": 4.0}}
    servers = [
        {"name": name, "title": title, "max_tps": tps, "not_run": "", "alone": {"p50_ms": 2.0}, "at": at}
        for name, (title, tps) in RATES.items()
    ]
    table = tmp_path / "performance.json"
    table.write_text(json.dumps({"servers": servers}))
    runner = CliRunner()
    plain = {"COLUMNS": "200"}
    done = runner.invoke(cli, ["cost", "--measured", str(table)], env=plain)
    assert done.exit_code == 0
    assert "not measured" in done.output and "arithmetic" in done.output and "karpenter" in done.output
    assert "Cost against FastAPI + transformers: -75 %" in done.output
    done = runner.invoke(cli, ["cost", "--measured", str(table), "--tps", "g5.xlarge=20000"], env=plain)
    assert "given by --tps" in done.output and "0.028" in done.output
