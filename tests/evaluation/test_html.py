from html.parser import HTMLParser

from toposieve.evaluation import html

ODD = '<b>&"quoted"</b>'
ESCAPED = "&lt;b&gt;&amp;&quot;quoted&quot;&lt;/b&gt;"


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


def assert_balanced(text):
    parser = Balance()
    parser.feed(text)
    assert parser.open == []


def test_every_text_is_escaped():
    pieces = [
        html.paragraph(ODD, ODD),
        html.bullets([ODD]),
        html.heading(ODD),
        html.contents({ODD: ODD}),
        html.section(ODD, ODD),
        html.table(ODD, [ODD], [[ODD]]),
        html.figure(b"", ODD, [ODD]),
        html.page(ODD, ""),
    ]
    for piece in pieces:
        assert ODD not in piece
        assert ESCAPED in piece
        assert_balanced(piece)


def test_table_puts_words_left():
    text = html.table("caption", ["name", "value", "reason"], [["a", 1.5, "words"]], text_columns=[2])
    assert '<tr><td>a</td><td>1.5</td><td class="text">words</td></tr>' in text
    assert '<th scope="col" class="text">reason</th>' in text


def test_figure_carries_its_image():
    assert 'src="data:image/png;base64,AAEC"' in html.figure(b"\x00\x01\x02", "", [])


def test_page_is_a_whole_document():
    page = html.page("title", "<main></main>")
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>title</title>" in page
    assert_balanced(page)
