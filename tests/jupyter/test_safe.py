"""Nothing an agent prints becomes markup, in any renderer."""

from __future__ import annotations

import re

import markdown_it
import mistune
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from agentos_jupyter.jupyter.markdown import safe_markdown
from agentos_jupyter.jupyter.safe import clip, escape, one_line, plain

RENDERERS = {
    "markdown-it (CommonMark)": markdown_it.MarkdownIt("commonmark", {"html": True}).render,
    "markdown-it (tables, strikethrough)": markdown_it.MarkdownIt("js-default", {"html": True}).render,
    "mistune": mistune.create_markdown(
        escape=False, plugins=["table", "strikethrough", "url", "footnotes", "task_lists"]
    ),
    "nbconvert": markdown2html_mistune,
}
PIECES = [
    "<evil>", "</evil>", "<evil a=", "<!-- evil", "<?evil", "<![CDATA[evil", "<evil@x.y>", "<evil:x>", "<", ">",
    "&", "&lt;", "&#60;evil>",
    "`", "``", "```", "````", "~~~", "~~~~", "```python", "~", "\\", "\\`", "\\\\[", "\\\\]", "\\\\(", "\\\\)", "$", "$$",
    "\\begin{a}", "\\end{a}",
    "[", "]", "](", "](evil:x)", "](javascript:evil)", "![", "![a](http://evil/x.png)", "[a]: ", "[a][a]", "(", ")", "|",
    "a | b\n--|--\n", "'", '"',
    "*", "**", "_", "- ", "1. ", "> ", "# ", "===", "---", "[^1]: ", "[^1]", "    ", "   ", "\t", " ", "\n", "\n\n", "a", "b", "{", "}",
]  # fmt: skip
EVIL = re.compile(r"<(?:/?evil|!--|\?|!\[)|(?:href|src)=\"(?:evil|javascript)", re.IGNORECASE)


def _exposed(text: str) -> list[str]:
    safe = safe_markdown(text)
    return [name for name, render in RENDERERS.items() if EVIL.search(str(render(safe))) or "<img" in str(render(safe))]


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_no_markdown_of_a_model_becomes_html(text: str) -> None:
    assert _exposed(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "<script>evil</script>",
        "\\`<evil>\\`",
        "``` <evil>",
        "\\![a](http://evil/x.png) \\[a]: evil:x",
        "   ```\n\n```\n<evil>\n```\n",
        "> ```\n```\n<evil>\n```\n",
        "- ```\n```\n<evil>\n```\n",
        "$$\n\n```\n$$\n<evil>\n```",
        "`a $$ x $$ b` `<evil>`",
        "`a $$ b`\n\n```\n$$\n<evil>\n```",
        "| `<evil a | b>` |\n|--|\n",
        '[a]: b "\n```\nx"\n<evil>\n```\n',
        "~~~\n```\n~~~\n<evil>\n```\n",
        "[x](java\nscript:evil) [x](&#106;avascript:evil) [x](<javascript:evil>) [x]( javascript:evil)",
    ],
)
def test_known_tricks_stay_text(text: str) -> None:
    assert _exposed(text) == []


def test_code_keeps_its_angle_brackets() -> None:
    safe = safe_markdown("Use `a < b` and:\n```html\n<p>hi</p>\n```\nnot <b>this</b>")
    assert "`a < b`" in safe
    assert "```html\n<p>hi</p>\n```" in safe
    assert "&lt;b>this" in safe


def test_code_in_a_list_is_shown_as_code() -> None:
    html = str(RENDERERS["nbconvert"](safe_markdown("1. do\n   ```bash\n   ls <x>\n     y\n   ```\n2. then")))
    assert "ls" in html
    assert "&lt;x" in html
    assert "```" not in html


def test_ordinary_markdown_is_unchanged() -> None:
    text = "# Title\n\nA *word*, a [link](https://example.org/a?b=c), a [file](src/a.py), `code`, $x^2$.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    assert safe_markdown(text) == text


def test_a_long_answer_is_made_safe_in_linear_time() -> None:
    assert len(safe_markdown("```\n" * 20_001 + "`<a>` [x](y: " * 20_000)) > 200_000


@settings(max_examples=500, deadline=None)
@given(st.text() | st.binary())
def test_plain_text_steers_no_terminal(data: str | bytes) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", plain(data))


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text\x1b]8;;http://evil\x1b\\link", "textlink"),
        (b"10%\r50%\r100%\nend\r\n", "100%\nend\n"),
        (b"a\x00b\xff\x07", "a\\x00b\ufffd\\x07"),
        (b"ab\x08c", "ac"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("straße 日本 🎉", "straße 日本 🎉"),
    ],
)
def test_control_sequences_are_taken_out_or_shown(data: str | bytes, shown: str) -> None:
    assert plain(data) == shown


def test_html_stands_for_the_exact_text() -> None:
    assert escape(r"$x$ \[y\]") == r"<span>$</span>x<span>$</span> <span>\</span>[y<span>\</span>]"
    assert escape("<a href='x'>&amp;\x1b[1m") == "&lt;a href=&#x27;x&#x27;&gt;&amp;amp;"


def test_clip_keeps_head_and_tail_and_says_so() -> None:
    text = "\n".join(map(str, range(1000)))
    shown = clip(text, 4000, 40)
    assert shown.startswith("0\n1\n")
    assert shown.endswith("\n998\n999")
    assert "960 lines not shown" in shown
    assert len(clip("x" * 10_000, 4000, 40)) <= 4000
    assert clip("short", 100, 10) == "short"


def test_one_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert len(one_line("x" * 500, 80)) == 80
