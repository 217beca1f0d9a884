"""The certificate: verdicts from checks and goals, the JSON document, the terminal table, the page."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from tests.report.test_html import Page

from quantum_trader.report import certificate as document
from quantum_trader.report.certificate import Certificate, Check, FaultResult, Verdict, decode, encode
from quantum_trader.report.certificate_page import answers, render, screen, write_page

GOALS = document.Goals(ratio=1.05, ratio_open=1.02, grace_ms=20.0, allowance=0.03)


def latency(p50: float) -> document.Latency:
    return document.Latency(40, p50, 1.5 * p50, 2 * p50, 2.5 * p50)


def fault(name: str = "nan", **changes: Any) -> FaultResult:
    timing = document.Timing(
        off=latency(6.0),
        on=latency(6.1),
        ratio=document.Ratio(40, 1.0167, 1.001, 1.03),
        ratio_open=document.Ratio(37, 1.0123, 1.0, 1.02),
        ratio_met=True,
        p99_met=True,
        open_met=True,
    )
    result = FaultResult(
        fault=name,
        what="answers NaN",
        decisions=200,
        intents=120,
        checks=[Check("decision bytes", True, "200 equal"), Check("accounting", True, "200 decisions")],
        answers={"refused: nan": 199, "late: grace": 1},
        timing=timing,
        times=document.Times([6.0 + i % 3 for i in range(40)], [6.1 + i % 4 for i in range(40)], [False] * 40),
    )
    return msgspec.structs.replace(result, **changes)


def certificate(*faults: FaultResult, **changes: Any) -> Certificate:
    whole = Certificate(
        format=document.FORMAT,
        created="2026-01-02T03:04:05+00:00",
        seconds=123.4,
        program=document.Program("0.1.0", "c" * 64, "d" * 40),
        machine={"Processor": "a processor", "Cores": "2"},
        bars=document.BarsUsed(
            "bars.parquet", "b" * 64, "5m", ["BTCUSDT", "ETHUSDT"], 100, 1767225600000, 1767312000000
        ),
        models={
            "xgb": document.Member("voter", "xgb_v20260101_000000", "1" * 64),
            "patchtst": document.Member("shadow", "patchtst_v20260101_000000", "2" * 64),
        },
        shadow="patchtst",
        goals=GOALS,
        control=fault().timing,
        general=[Check("artefacts", True, "all 2 have the bytes that they began with")],
        faults=faults or (fault(), fault("hung")),
    )
    return msgspec.structs.replace(whole, **changes)


def slow(name: str = "stdout") -> FaultResult:
    one = fault(name)
    return msgspec.structs.replace(one, timing=msgspec.structs.replace(one.timing, ratio_met=False))


def broken(name: str = "memory") -> FaultResult:
    return fault(name, checks=[Check("decision bytes", False, "BTCUSDT at noon: action is 'BUY' here, 'HOLD' there")])


def test_all_held() -> None:
    good = certificate()
    assert (good.verdict, good.decisions) == (Verdict.PASS, 400)
    assert good.sentence.startswith("PASS: 400 decisions under 2 faults of the shadow are byte for byte")
    assert document.EXIT_CODES[good.verdict] == 0


def test_a_missed_time_alone_is_slow_and_named() -> None:
    found = certificate(fault(), slow())
    assert (found.verdict, document.EXIT_CODES[found.verdict]) == (Verdict.SLOW, 3)
    assert found.sentence.endswith("a time missed its goal with stdout.")
    assert certificate(*[slow(str(i)) for i in range(6)]).sentence.endswith("with 6 of them.")


@pytest.mark.parametrize("goal", ["ratio_met", "p99_met", "open_met"])
def test_each_goal_alone_makes_it_slow(goal: str) -> None:
    one = fault()
    missed = msgspec.structs.replace(one, timing=msgspec.structs.replace(one.timing, **{goal: False}))
    assert certificate(missed).verdict is Verdict.SLOW


def paired(name: str, median: float, opened: float | None = None) -> FaultResult:
    """A fault with these median ratios, over all 40 bars and over the 37 at which its breaker was open."""
    one = fault(name)
    ratio = msgspec.structs.replace(one.timing.ratio, median=median)
    ratio_open = None if opened is None else document.Ratio(37, opened, 1.0, 1.1)
    return msgspec.structs.replace(one, timing=msgspec.structs.replace(one.timing, ratio=ratio, ratio_open=ratio_open))


def test_faults_of_one_kind_keep_their_goal_together() -> None:
    found = certificate(
        paired("healthy", 1.06), paired("nan", 1.03), paired("hung", 1.2, 1.03), paired("stdout", 1, 1.0)
    )
    answering, silent = found.kinds
    assert (answering.faults, silent.faults) == (["healthy", "nan"], ["hung", "stdout"])
    assert answering.ratio == pytest.approx(1.045)
    # The standard deviation of two values is their difference over the root of two.
    assert answering.error == pytest.approx(0.03 / 2)
    assert (silent.ratio, silent.met, found.verdict) == (pytest.approx(1.015), True, Verdict.PASS)


def test_a_kind_that_misses_its_goal_makes_it_slow_though_every_fault_has_its_allowance() -> None:
    found = certificate(paired("healthy", 1.06), paired("nan", 1.05), paired("hung", 1.0, 1.0))
    assert (found.verdict, found.slow) == (Verdict.SLOW, ["those that answer, taken together"])
    assert found.sentence.endswith("a time missed its goal with those that answer, taken together.")
    silent = certificate(paired("healthy", 1.0), paired("hung", 1.0, 1.021))
    assert (silent.slow, silent.kinds[1].error) == (["those with an open breaker, taken together"], None)


def test_a_breaker_that_opened_for_a_moment_does_not_change_the_kind() -> None:
    one = paired("healthy", 1.03)
    moment = msgspec.structs.replace(one.timing, ratio_open=document.Ratio(3, 1.5, 1.0, 2.0))
    assert certificate(msgspec.structs.replace(one, timing=moment)).kinds[0].faults == ["healthy"]


def test_a_broken_check_fails_whatever_the_times_say() -> None:
    found = certificate(slow(), broken())
    assert (found.verdict, document.EXIT_CODES[found.verdict]) == (Verdict.FAIL, 2)
    assert found.sentence == "FAIL: memory, decision bytes: BTCUSDT at noon: action is 'BUY' here, 'HOLD' there"
    general = certificate(general=[Check("artefacts", False, "xgb: digest 3")])
    assert (general.verdict, general.failures) == (Verdict.FAIL, ["artefacts: xgb: digest 3"])


def test_a_certificate_of_nothing_fails() -> None:
    assert certificate(faults=()).verdict is Verdict.FAIL
    assert certificate(fault(decisions=0)).sentence == "FAIL: nothing was compared"


def test_the_document_says_its_verdict_first_and_reads_back() -> None:
    good = certificate()
    raw = encode(good)
    read = msgspec.json.decode(raw)
    assert list(read)[:4] == ["verdict", "sentence", "decisions", "kinds"]
    assert [kind["ratio"] for kind in read["kinds"]] == [1.0123]
    assert (read["verdict"], read["decisions"]) == ("PASS", 400)
    assert decode(raw) == decode(encode(decode(raw)))
    assert decode(raw).sentence == good.sentence
    # What it says of itself is not believed, but computed again.
    forged = raw.replace(b'"passed": true', b'"passed": false', 1)
    assert decode(forged).verdict is Verdict.FAIL


def shown(found: Certificate) -> str:
    console = Console(width=132, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(screen(found))
        return console.export_text()


def test_the_terminal_says_verdict_basis_and_numbers() -> None:
    text = shown(certificate(fault(), slow(), broken()))
    assert text.startswith("✗ FAIL: memory")
    assert "PatchTST in shadow, XGBoost vote" in text
    assert "1.017 (1.00 to 1.03)" in text
    assert answers(fault(answers={"ok": 150, "late: grace": 49, "late: breaker": 1})) == (
        "ok 75%, late: grace 24%, 1 more"
    )
    assert answers(fault(answers={"ok": 999, "late: grace": 1})) == "ok 100%, late: grace <1%"
    assert "Those with an open breaker (3 faults): ratio 1.012 ± 0.000, goal 1.02, kept" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line[1:2].isalpha() and "/" in line}
    assert "MISS" in rows["stdout"]
    assert "PASS" in rows["nan"]
    assert "✗" in rows["memory"]


def test_the_page_is_whole_loads_nothing_and_repeats_its_bytes(tmp_path: Path) -> None:
    found = certificate(fault(), slow(), fault("output-10mb"))
    page = Page(render(found))
    assert found.sentence in page.words
    assert page.words.index(found.sentence) < 120
    assert [tag for tag, _ in page.tags].count("svg") == 4
    for word in ("c" * 64, "b" * 64, "1" * 64, "2" * 64, "a processor", "2026-01-02T03:04:05+00:00"):
        assert word in page.words
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "img", "object"}
        assert all(not name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith("#") or attributes[name] == "data:,"
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    write_page(found, tmp_path / "certificate.html")
    assert (tmp_path / "certificate.html").read_text(encoding="utf-8") == render(found)


def test_every_fault_has_its_row_and_its_checks_on_the_page() -> None:
    html = render(certificate(fault(), slow(), broken()))
    body = html.partition('id="faults-table"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    control, *rows = [Page(row + "</tr>").words for row in body.split("</tr>")[:-1]]
    assert control.startswith("(control)no shadow on either side")
    assert [re.split("[✓✗]", row)[0] for row in rows] == ["nan", "stdout", "memory"]
    assert "median ratio" in rows[1]
    assert "differ" in rows[2]
    assert re.search(r"<details open><summary>memory", html)


def test_markup_in_a_detail_stays_text() -> None:
    evil = "<script>alert(1)</script>"
    html = render(certificate(fault(checks=[Check("decision bytes", False, evil)])))
    assert "<script" not in html
    assert evil in Page(html).words


def test_nothing_run_still_makes_a_page() -> None:
    assert "nothing was compared" in Page(render(certificate(faults=()))).words


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
def test_a_browser_draws_it_without_a_complaint(tmp_path: Path) -> None:
    source, picture = tmp_path / "certificate.html", tmp_path / "certificate.png"
    write_page(certificate(fault(), slow(), broken()), source)
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--window-size=1000,2000", f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"]
    done = subprocess.run([*command, source.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 20_000
