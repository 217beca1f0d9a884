"""Stream entries as lines: no byte is lost, and whatever is no line is refused by its number."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.bus.client import connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.excerpt import RawEntry, RawReader, from_lines, to_line
from quantum_trader.core.errors import WireError

entries = st.lists(
    st.builds(
        RawEntry,
        st.builds("{}-{}".format, st.integers(0, 2**53), st.integers(0, 9)),
        st.lists(st.one_of(st.binary(max_size=20), st.text(max_size=20).map(lambda t: t.encode(errors="replace")))),
    ),
    max_size=4,
)


@given(entries)
def test_lines_give_back_every_byte(found: list[RawEntry]) -> None:
    raw = b"".join(to_line(entry) for entry in found)
    assert from_lines(raw, "it") == found
    assert raw.count(b"\n") == len(found)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{}\n", "it: line 2: no stream entry"),
        (b'{"id":"1-0"}\n', "needs either fields or hex"),
        (b'{"id":"1-0","fields":["a"],"hex":["61"]}\n', "needs either fields or hex"),
        (b'{"id":"1-0","hex":["6"]}\n', "it: line 2: no stream entry"),
        (b'{"id":"1-0","fields":["a"],"more":1}\n', "it: line 2: no stream entry"),
        (b"\xff\n", "it: line 2: no stream entry"),
        (b"\n", "it: line 2: no stream entry"),
        (b'{"id":"1-0","fields":["a"]}', "it: the last line has no line break"),
    ],
)
def test_what_is_no_line_is_named(line: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        from_lines(b'{"id":"1-0","fields":["a","b"]}\n' + line, "it")


def test_a_stream_is_read_page_by_page_between_two_times_and_from_its_end(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "valkey") as server, connect(server.url) as client:
        pipe = client.pipeline(transaction=False)
        for i in range(2500):
            pipe.xadd("s", {"n": str(i)}, id=f"{1000 + i // 2}-{i % 2}")
        pipe.execute()
        reader = RawReader(client)
        assert [int(entry.flat[1]) for entry in reader.between("s", 0, 10**6)] == list(range(2500))
        assert [int(entry.flat[1]) for entry in reader.between("s", 1001, 1003)] == [2, 3, 4, 5]
        assert [entry.ms for entry in reader.between("s", 2249, 10**6)] == [2249, 2249]
        assert [int(entry.flat[1]) for entry in reader.newest("s", 3)] == [2497, 2498, 2499]
        assert [int(entry.flat[1]) for entry in reader.newest("s", 3, 2249)] == [2498, 2499]
        assert list(reader.between("none", 0, 10**6)) == reader.newest("none", 5) == []
        reader.close()
