"""Parse an HTML page to check its nesting, and to collect its tags, attributes and text."""

import re
from html.parser import HTMLParser

VOID = ("meta", "br", "input", "wbr", "path", "use")  # elements without an end tag, or with matplotlib's form of it


class Outline(HTMLParser):
    """The tags of `page` with their attributes, and its text. Raises AssertionError if elements are not nested."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def values(self, *names: str) -> list[str]:
        """Return the values of all attributes with these names, in the order of the page."""
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


def check_page(page: str) -> Outline:
    """Check that a page is well formed, loads no other files, and has unique ids and no broken links."""
    outline = Outline(page)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in outline.tags}
    assert "http" not in page and "@import" not in page and not outline.values("src")
    assert all(target.startswith(("data:image/png;", "#")) for target in re.findall(r"url\((.{20})", page))
    links, ids = outline.values("href", "xlink:href"), outline.values("id")
    assert all(link[0] == "#" for link in links)
    assert {link[1:] for link in links} | set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)
    assert len(ids) == len(set(ids)), [name for name in ids if ids.count(name) > 1]
    assert "nan" not in page.lower().split(), "the page contains NaN in place of a missing value"
    return outline
