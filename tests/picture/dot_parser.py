"""A reader of the DOT language, written from its grammar (https://graphviz.org/doc/info/lang.html), to check pictures.

It shares no code with the package: what is escaped there is taken apart here, by other rules, those of Graphviz.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
      | (?P<arrow>->|--)
      | "(?P<quoted>(?:[^"\\]|\\.)*)"
      | (?P<word>[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*|-?(?:\.\d+|\d+(?:\.\d*)?))
      | (?P<sign>[{}\[\]=;,:])""",
    re.VERBOSE | re.DOTALL,
)


# Names that mean something to DOT, to its labels or to HTML.
HOSTILE = [
    "<b>", "<b>bold</b>", "\\", "a\\", "\\\\", '"', '\\"', "{a|b}", "a::b", "a:b:n", "->", ";", "%", "\\N", "\\G", "\\n", "\\l",
    "&", "&amp;", "&lt;b&gt;", "&#38;", "&amp", "θ→∞", "a b", " a ", "a  b", "node", "graph", "subgraph", "n0", "cluster_1",
    "[", "]", "//", "/* */", "#", "'", "3", "-1.5", "0.1", "1.2.3", "=", ",", "strict digraph {", "]; x [",
]  # fmt: skip


@dataclass
class Cluster:
    attributes: dict[str, str] = field(default_factory=dict)
    parent: str = ""
    members: list[str] = field(default_factory=list)


@dataclass
class Dot:
    """nodes: attributes by id. edges: (tail, head, attributes), in the order of the text. clusters: by name; "" is all."""

    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    edges: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    clusters: dict[str, Cluster] = field(default_factory=lambda: {"": Cluster()})

    def label(self, name: str) -> list[str]:
        """The lines of a node's label, or the fields of a record, as they are seen."""
        attributes = self.nodes[name]
        return fields(attributes["label"]) if attributes.get("shape") == "record" else lines(attributes["label"])

    def said(self) -> list[str]:
        """The lines of all labels."""
        return [line for name in self.nodes for line in self.label(name)]

    def legend(self) -> list[str]:
        """The lines under the picture."""
        return lines(self.clusters[""].attributes["label"])


def tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) of all tokens. A quoted string's only escape at this level is \\" (and, in pairs, \\\\ is left)."""
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise SyntaxError(f"no DOT at {text[at : at + 40]!r}")
        kind, at = match.lastgroup or "", match.end()
        if kind == "quoted":
            found.append((kind, re.sub(r"\\(.)", lambda m: '"' if m[1] == '"' else m[0], match[kind], flags=re.DOTALL)))
        elif kind != "space":
            found.append((kind, match[kind]))
    return found


def parse(text: str) -> Dot:
    """What a digraph says. Raises SyntaxError for what is none, and for anything of the grammar that we never write."""
    rest = tokens(text)[::-1]
    if rest.pop() != ("word", "digraph"):
        raise SyntaxError("not a digraph")
    if rest[-1] != ("sign", "{"):
        rest.pop()
    dot = Dot()
    _expect(rest, "{")
    _statements(rest, dot, "")
    if rest:
        raise SyntaxError(f"text after the graph: {rest[-1]}")
    return dot


def _expect(rest: list[tuple[str, str]], sign: str) -> None:
    if not rest or rest.pop() != ("sign", sign):
        raise SyntaxError(f"{sign} expected")


def _statements(rest: list[tuple[str, str]], dot: Dot, inside: str) -> None:
    while rest and rest[-1] != ("sign", "}"):
        kind, text = rest.pop()
        if (kind, text) == ("sign", ";"):
            continue
        if kind not in ("word", "quoted"):
            raise SyntaxError(f"a statement cannot begin with {text!r}")
        if (kind, text) == ("word", "subgraph"):
            name = rest.pop()[1]
            dot.clusters[name] = Cluster(parent=inside)
            _expect(rest, "{")
            _statements(rest, dot, name)
        elif kind == "word" and text in ("graph", "node", "edge"):
            given = _attributes(rest)
            if text == "graph":
                dot.clusters[inside].attributes |= given
        elif rest[-1] == ("sign", "="):
            rest.pop()
            dot.clusters[inside].attributes[text] = rest.pop()[1]
        elif rest[-1] == ("arrow", "->"):
            rest.pop()
            dot.edges.append((text, rest.pop()[1], _attributes(rest)))
        elif text in dot.nodes:
            raise SyntaxError(f"{text!r} is there twice")
        else:
            dot.nodes[text] = _attributes(rest)
            dot.clusters[inside].members.append(text)
    _expect(rest, "}")


def _attributes(rest: list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    if rest[-1] != ("sign", "["):
        return found
    rest.pop()
    while rest[-1] != ("sign", "]"):
        if rest[-1] in (("sign", ","), ("sign", ";")):
            rest.pop()
            continue
        name = rest.pop()[1]
        _expect(rest, "=")
        kind, text = rest.pop()
        if kind not in ("word", "quoted"):
            raise SyntaxError(f"the value of {name} cannot begin with {text!r}")
        found[name] = text
    rest.pop()
    return found


def lines(label: str) -> list[str]:
    """The lines of an ordinary label, as they are seen. Raises ValueError where Graphviz would replace anything."""
    found, at = [""], 0
    while at < len(label):
        if label[at] == "\\":
            at += 1
            if label[at] == "n":
                found.append("")
            elif label[at] == "\\":
                found[-1] += "\\"
            else:
                raise ValueError(f"\\{label[at]} in {label!r}")
        else:
            found[-1] += label[at]
        at += 1
    return [_seen(line) for line in found]


def fields(label: str) -> list[str]:
    """The fields of a record, { one | two }, as they are seen."""
    if not (label.startswith("{ ") and label.endswith(" }")):
        raise ValueError(f"no record: {label!r}")
    found, text, at = [], "", 2
    while at < len(label) - 2:
        c = label[at]
        if c == "\\":
            at += 1
            if label[at] not in "\\{}|<> ":
                raise ValueError(f"\\{label[at]} in {label!r}")
            text += label[at]
        elif c == "|":
            found.append(text.removesuffix(" "))
            text, at = "", at + 1  # and the space behind it
        elif c in "{}<>":
            raise ValueError(f"{c} not escaped in {label!r}")
        else:
            text += c
        at += 1
    return [_seen(each) for each in [*found, text]]


def _seen(text: str) -> str:
    """Text as it is seen: no entity may be left in it, and word joiners have no width."""
    if re.search(r"&#?\w+;", text):
        raise ValueError(f"an HTML entity: {text!r}")
    return text.replace("\u2060", "")
