"""Names and numbers as pages show them."""

from npas_bench.dashboard.words import count_text, drawn, plain, share_text
from npas_bench.database.labels import short
from tests.dashboard.conftest import MARKUP


def test_pages_show_names_as_they_are():
    assert plain("a_b *c* :red[x] $y$ <b>") == r"a\_b \*c\* \:red\[x\] \$y\$ \<b\>"
    assert drawn("<b>a</b> & b") == "&lt;b&gt;a&lt;/b&gt; &amp; b"
    assert drawn("%{x}") == "% {x}"
    assert drawn(MARKUP).endswith("…")
    assert short("x" * 99) == "x" * 59 + "…"
    assert "\x1b" not in plain("\x1b[31m") + drawn("\x1b")


def test_numbers_are_short():
    assert [count_text(n) for n in (7, 999, 1500, 3_650_000, 2e9)] == ["7", "999", "1.5k", "3.65M", "2G"]
    assert [share_text(p) for p in (2.0, 11.28, 100)] == ["2 %", "11.3 %", "100 %"]
