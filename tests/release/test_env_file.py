import io
import os
import re
import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.errors import ConfigError
from quantum_trader.release.env_file import apply_parts, inverse, plan_env, read_values, write_env

SHADOW = {"PATCHTST_MODEL_PATH": "/m/patchtst_v20260101_000000", "PATCHTST_SHADOW_ONLY": "true"}

names = st.sampled_from(["PATCHTST_SHADOW_ONLY", "PATCHTST_MODEL_PATH", "XGB_SHADOW_ONLY", "QUANTUM_LEDGER", "_a1"])
words = st.from_regex(r"[a-z/:.@$%'={}-]{1,8}", fullmatch=True).filter(lambda text: text[0] not in "'\"")
blanks = st.sampled_from(["", " ", "\t"])
assignments = st.builds(lambda a, n, b, c, v: f"{a}{n}{b}={c}{v}", blanks, names, blanks, blanks, words | st.just(""))
comments = st.builds(
    lambda a, sign, text: f"{a}{sign}{text}", blanks, st.sampled_from("#;"), st.text("ab= '\"", max_size=6)
).filter(lambda line: "#" in line or re.search(r"= *['\"]", line) is None)
unknown = st.sampled_from(["", "  ", "what is this", "1A=2", "-", "=x", "A.B=3", "some words = here", "Ü=1"])
contents = st.builds(
    lambda lines, end: ("\n".join(lines) + end * bool(lines)).encode(),
    st.lists(assignments | comments | unknown, max_size=12),
    st.sampled_from(["", "\n", "\n\n"]),
)
changes = st.dictionaries(names, words, max_size=4)


def as_dotenv(content: bytes) -> dict[str, str | None]:
    found = dotenv_values(stream=io.StringIO(content.decode()), interpolate=False)
    return {name: value for name, value in found.items() if name in names_of(content)}


def names_of(content: bytes) -> set[str]:
    return set(read_values(content, "x"))


@given(content=contents, values=changes)
def test_a_plan_sets_what_it_says_and_nothing_else(content: bytes, values: dict[str, str]) -> None:
    plan = plan_env(content, values, "x")
    assert read_values(plan.after, "x") == {**read_values(content, "x"), **values}
    read = as_dotenv(plan.after)
    assert {name: read[name] for name in values} == values


@given(content=contents, values=changes)
def test_a_second_time_changes_nothing(content: bytes, values: dict[str, str]) -> None:
    once = plan_env(content, values, "x").after
    again = plan_env(once, values, "x")
    assert (again.after, again.changes, again.notes) == (once, False, ())


@given(content=contents, values=changes)
def test_a_plan_and_then_its_inverse_are_the_identity(content: bytes, values: dict[str, str]) -> None:
    plan = plan_env(content, values, "x")
    back = inverse(plan)
    assert apply_parts(plan.after, back.parts) == back.after == content
    assert inverse(back).after == plan.after


@given(content=contents, values=changes)
def test_other_lines_stay_byte_for_byte_and_in_order(content: bytes, values: dict[str, str]) -> None:
    plan = plan_env(content, values, "x")
    known = names_of(content) | set(values)

    def others(raw: bytes) -> list[str]:
        lines = raw.decode().removesuffix("\n").split("\n")
        return [line for line in lines if line.split("=")[0].strip(" \t") not in known]

    before, after = others(content), others(plan.after)
    assert after == before or (content == b"" and after == [""] * bool(not plan.after))
    # One line for each name, where its last one stood.
    assert sorted(names_of(plan.after)) == sorted(known & (names_of(content) | set(values)))


@given(content=contents, values=changes)
def test_a_plan_never_holds_the_text_of_a_line_that_stays(content: bytes, values: dict[str, str]) -> None:
    plan = plan_env(content, values, "x")
    put = [part for part in plan.parts if isinstance(part, str)]
    assert set(put) <= {"\n", *(f"{name}={value}\n" for name, value in values.items())}


def test_an_example_in_full() -> None:
    content = (
        b"# roles\nPATCHTST_SHADOW_ONLY=false\nQUANTUM_REDIS_URL=redis://:secret@h\n\nnonsense\n"
        b"PATCHTST_SHADOW_ONLY=false\n;end"
    )
    plan = plan_env(content, SHADOW, "e")
    assert plan.after == (
        b"# roles\nQUANTUM_REDIS_URL=redis://:secret@h\n\nnonsense\nPATCHTST_SHADOW_ONLY=true\n;end\n"
        b"PATCHTST_MODEL_PATH=/m/patchtst_v20260101_000000\n"
    )
    assert plan.notes == ("line 2: PATCHTST_SHADOW_ONLY stands there again below, where it counts; this line goes",)
    assert "+PATCHTST_SHADOW_ONLY=true" in plan.diff("e")
    assert "secret" not in plan.diff("e")
    assert "secret" not in str(plan.parts)


def test_a_duplicate_of_another_variable_goes_without_showing_its_value() -> None:
    plan = plan_env(b"QUANTUM_REDIS_URL=redis://:one@h\nQUANTUM_REDIS_URL=redis://:two@h\n", {}, "e")
    assert plan.after == b"QUANTUM_REDIS_URL=redis://:two@h\n"
    assert "-QUANTUM_REDIS_URL=..." in plan.diff("e")
    assert "one" not in plan.diff("e")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"A=1\nB=2\r\n", "line 2 ends as on Windows"),
        (b"A=1\n\n#caf\xe9\n", "line 3 is not UTF-8"),
        (b"A=1\0\n", r"line 1 holds the control character '\\x00'"),
        (b"A=1\n\x0bB=1\n", "line 2 holds the control character"),
        (b"\xef\xbb\xbfA=1\n", "line 1 begins with a byte order mark"),
        (b"#a\nA=1\\\nB=2\n", "line 2 ends in a backslash"),
        (b"# comment \\\nB=2\n", "line 1 ends in a backslash"),
        (b"A='x\nB=2'\n", "line 1 has a quoted value that does not end with its quote"),
        (b'A="x\\"\n', "line 1 has a quoted value"),
        (b"A=1\n ;B='x\nC=1\n#'\n", "line 2 opens a quote: dotenv would read on"),
        (b"'A\nB'=1\n", "line 1 opens a quote"),
        (b'A.B="x\n"\n', "line 1 opens a quote"),
        (b"; = 'a\\'\n", "line 1 opens a quote"),
        (b'A="x" y\n', "line 1 has a quoted value"),
        (b'PATCHTST_SHADOW_ONLY="false"\n', "line 1: PATCHTST_SHADOW_ONLY is quoted and would be changed"),
        (b"A='1'\nA=2\n", "line 1: A is quoted and would be changed"),
        (
            b"export PATCHTST_SHADOW_ONLY=false\n",
            "line 1: says PATCHTST_SHADOW_ONLY in a form that systemd passes over",
        ),
        (b"PATCHTST_SHADOW_ONLY=false\nPATCHTST_SHADOW_ONLY\n", "line 2: says PATCHTST_SHADOW_ONLY in a form"),
        (b"'PATCHTST_SHADOW_ONLY'=false\n", "line 1: says PATCHTST_SHADOW_ONLY in a form"),
    ],
)
def test_what_its_readers_read_differently_is_refused_in_one_line(content: bytes, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^env file /e: {sentence}") as refusal:
        plan_env(content, SHADOW, "/e")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\\b", "a #b", "a ", " a", "'a'", '"a', "a\0b", "a\x0bb"])
def test_a_value_that_is_read_differently_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^env file /e: cannot hold ['\"]A="):
        plan_env(b"", {"A": value}, "/e")


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name of a variable"):
        plan_env(b"", {name: "1"}, "/e")


def test_a_quoted_line_that_is_not_touched_stays() -> None:
    assert plan_env(b"A='x y'\n", {"B": "1"}, "e").after == b"A='x y'\nB=1\n"


class TestWriting:
    def test_keeps_mode_and_owner(self, tmp_path: Path) -> None:
        path = tmp_path / "e"
        path.write_bytes(b"A=1\n")
        path.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(path, 12345, 54321)
        before = path.stat()
        write_env(path, b"A=2\n")
        after = path.stat()
        assert path.read_bytes() == b"A=2\n"
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert stat.S_IMODE(after.st_mode) == 0o640
        assert [p.name for p in tmp_path.iterdir()] == ["e"]

    def test_refuses_a_link_a_missing_file_and_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_bytes(b"A=1\n")
        (tmp_path / "link").symlink_to("real")
        for name, sentence in {"link": "is no regular file", "none": "No such file", ".": "is no regular file"}.items():
            with pytest.raises(ConfigError, match=sentence):
                write_env(tmp_path / name, b"A=2\n")
        assert (tmp_path / "real").read_bytes() == b"A=1\n"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]
