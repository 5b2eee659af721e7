from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError

from toposieve.evaluation.page import Section, Table, render_page

ODD = '<b>&"quoted"</b>'
ESCAPED = "&lt;b&gt;&amp;&#34;quoted&#34;&lt;/b&gt;"


class Balance(HTMLParser):
    """Collects tags that are opened and not closed, or the other way round."""

    EMPTY = frozenset({"meta", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def make_page(text="words", **changed):
    table = Table(text, [text, "value", text], [[text, 1.5, text]], text=[2], words=text)
    section = Section(text, text, notes=[text], words=[text], plots=["drawn", "not drawn"], tables=[table])
    content = {"title": text, "introduction": text, "summary": [text], "sections": [section]}
    content["explanations"] = {"drawn": (text, text), "not drawn": ("never", "shown")}
    return render_page({"drawn": b"\x00\x01\x02"}, **content | changed)


def test_every_text_is_escaped_and_every_element_closed():
    page = make_page(ODD)
    assert ODD not in page
    assert page.count(ESCAPED) == make_page().count("words") - make_page("").count("words")
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_page_is_a_whole_document():
    page = make_page()
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>words</title>" in page
    assert page.endswith("</html>\n")


def test_table_puts_words_left():
    page = make_page()
    assert '<tr><td>words</td><td>1.5</td><td class="text">words</td></tr>' in page
    assert '<th scope="col" class="text">words</th>' in page


def test_a_long_table_is_folded():
    rows = [["a"]] * 31
    sections = [Section("id", "title", tables=[Table("long", ["h"], rows), Table("short", ["h"], rows[:30])])]
    page = make_page(sections=sections)
    assert "<summary>long</summary>" in page
    assert "<caption>short</caption>" in page
    assert page.count("<tr>") == 31 + 30 + 2
    assert page.count("<details>") == page.count("</details>") == page.count("<caption>") == 1


def test_plots_are_inside_the_page_and_those_not_drawn_left_out():
    page = make_page()
    assert 'src="data:image/png;base64,AAEC"' in page
    assert page.count("<img") == 1
    assert "never" not in page


def test_what_the_template_asks_for_must_be_there():
    with pytest.raises(UndefinedError, match="drawn"):
        make_page(explanations={})
