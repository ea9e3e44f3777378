"""Parser that checks the nesting of an HTML page and collects its tags, attributes and text."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = ("meta", "br", "input", "wbr", "path", "use")  # never closed, or closed in matplotlib's own way


class Outline(HTMLParser):
    """Tags with their attributes and the text of `page`; raises AssertionError if an element is not closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def values(self, *names: str) -> list[str]:
        """Values of the attributes with these names, in the order of the page."""
        return [value for _, attributes in self.tags for name, value in attributes.items() if name in names]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
