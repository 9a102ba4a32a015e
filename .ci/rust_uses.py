"""Which file of a Rust crate uses what of which other file.

Reads source text: no compiler, no macro expansion. A use is a `use` declaration or a path in code (`super::names::of`); what a parent module
re-exports counts as a use of the file that defines it. Declaring a module (`mod x;`) or re-exporting from it (`pub use x::Y;`) is no use of
it, unless the parent also names Y in its own code. Items under `#[cfg(test)]` and `#[test]` are left out.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<block>/\*)
      | (?P<raw>\b(?:b|c)?r(?P<hash>\#*)"(?s:.*?)"(?P=hash))
      | (?P<string>\b[bc]?"(?s:\\.|[^"\\])*"|"(?s:\\.|[^"\\])*")
      | (?P<char>\bb?'(?:\\[^'\n]+|[^'\\\n])'|'(?:\\[^'\n]+|[^'\\\n])')
      | (?P<lifetime>'[A-Za-z_]\w*)
      | (?P<ident>(?:r\#)?[A-Za-z_]\w*)
      | (?P<number>\d[\w.]*?(?=\.\.|\W|$))
      | (?P<sep>::)
      | (?P<punct>.)""",
    re.VERBOSE,
)
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
DEFINES = {"fn", "struct", "enum", "union", "trait", "type", "const", "static"}
# Words that may stand between a visibility and the keyword of an item.
BEFORE = {"unsafe", "async", "extern", "default", "auto", "const"}


@dataclass
class Token:
    text: str
    kind: str
    line: int


@dataclass
class Use:
    """A name that a module takes from elsewhere in the crate, or from another crate."""

    path: tuple[str, ...]
    line: int


@dataclass
class Import:
    """One name of a `use` declaration: `name` stands for `path` in the module; `*` imports all."""

    name: str
    path: tuple[str, ...]
    line: int
    public: bool


@dataclass
class Module:
    path: tuple[str, ...]
    file: Path
    parent: "Module | None" = None
    children: dict[str, "Module"] = field(default_factory=dict)
    items: set[str] = field(default_factory=set)
    imports: list[Import] = field(default_factory=list)
    paths: list[Use] = field(default_factory=list)
    words: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Arrow:
    """`file` uses `name` of the module `target`; at `line`."""

    source: tuple[str, ...]
    file: Path
    line: int
    target: tuple[str, ...]
    target_file: Path
    name: str


@dataclass(frozen=True)
class External:
    """A module names another crate; at `line` of `file`."""

    source: tuple[str, ...]
    file: Path
    line: int
    crate: str


def tokens(text: str) -> list[Token]:
    found, at, line = [], 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, text[at : at + 40]
        end = match.end()
        if match["block"]:
            depth = 1
            while depth and end < len(text):
                two = text[end : end + 2]
                depth += (two == "/*") - (two == "*/")
                end += 2 if two in ("/*", "*/") else 1
        elif not match["skip"]:
            kind = match.lastgroup or ""
            kind = "raw" if match["raw"] else kind
            found.append(Token(match.group(), kind, line))
        line += text.count("\n", at, end)
        at = end
    return found


def closing(stream: list[Token], at: int) -> int:
    """The index after the bracket that closes the one at `at`."""
    depth = 0
    for index in range(at, len(stream)):
        if stream[index].kind == "punct":
            depth += (stream[index].text in OPEN) - (stream[index].text in CLOSE)
            if depth == 0:
                return index + 1
    return len(stream)


def is_test(attribute: list[Token]) -> bool:
    words = [token.text for token in attribute]
    if "cfg" in words:
        return "test" in words and "not" not in words
    return words[-2:] == ["test", "]"]


class Crate:
    """The modules of one target: a library, a program or a bench."""

    def __init__(self, root: Path):
        self.modules: dict[tuple[str, ...], Module] = {}
        self.root = self._load((), root, root.parent, None)

    def _load(self, path: tuple[str, ...], file: Path, folder: Path, parent: Module | None) -> Module:
        module = Module(path, file, parent)
        self.modules[path] = module
        stream = tokens(file.read_text(encoding="utf-8"))
        self._items(module, stream, folder)
        return module

    def _items(self, module: Module, stream: list[Token], folder: Path) -> None:
        at = 0
        while at < len(stream):
            test, given = False, None
            while at < len(stream) and stream[at].text == "#":
                inner = at + 1 < len(stream) and stream[at + 1].text == "!"
                start = at + (2 if inner else 1)
                end = closing(stream, start)
                attribute = stream[start:end]
                test |= not inner and is_test(attribute)
                if len(attribute) == 5 and attribute[1].text == "path":
                    given = attribute[3].text.strip('"')
                at = end
            if at >= len(stream):
                break
            start = at
            public = stream[at].text == "pub"
            if public:
                at += 1
                if stream[at].text == "(":
                    at = closing(stream, at)
            while stream[at].text in BEFORE and stream[at + 1].text != ":" and stream[at + 1].kind in ("ident", "string"):
                if stream[at].text == "const" and stream[at + 1].text not in BEFORE | {"fn"}:
                    break
                at += 1
            word = stream[at].text
            end = self._end(stream, at)
            if test:
                pass
            elif word == "mod":
                self._child(module, stream[at:end], folder, given)
            elif word == "use":
                self._use(module, stream[at + 1 : end - 1], public)
            else:
                if word in DEFINES:
                    module.items.add(stream[at + 1].text)
                elif word == "macro_rules":
                    module.items.add(stream[at + 2].text)
                self._body(module, stream[start:end])
            at = end

    @staticmethod
    def _end(stream: list[Token], at: int) -> int:
        """The index after the item that begins at `at`."""
        to_semicolon = stream[at].text in {"use", "const", "static", "type"}
        while at < len(stream):
            text = stream[at].text if stream[at].kind == "punct" else ""
            if text == ";":
                return at + 1
            if text in OPEN:
                end = closing(stream, at)
                if text == "{" and not to_semicolon:
                    return end
                at = end
            else:
                at += 1
        return at

    def _child(self, module: Module, item: list[Token], folder: Path, given: str | None) -> None:
        name = item[1].text.removeprefix("r#")
        path = (*module.path, name)
        if item[2].text == "{":
            child = Module(path, module.file, module)
            self.modules[path] = child
            module.children[name] = child
            self._items(child, item[3:-1], folder / name)
            return
        places = [module.file.parent / given] if given else [folder / f"{name}.rs", folder / name / "mod.rs"]
        file = next(place for place in places if place.exists())
        module.children[name] = self._load(path, file, file.parent if file.name == "mod.rs" else file.parent / file.stem, module)

    def _use(self, module: Module, tree: list[Token], public: bool) -> None:
        def parse(at: int, prefix: tuple[str, ...]) -> int:
            path, line = prefix, tree[at].line if at < len(tree) else 0
            while at < len(tree):
                token = tree[at]
                if token.text == "{":
                    at += 1
                    while tree[at].text != "}":
                        at = parse(at, path)
                        at += tree[at].text == ","
                    return at + 1
                if token.text == "*":
                    module.imports.append(Import("*", path, line, public))
                    return at + 1
                if token.text == "as":
                    module.imports.append(Import(tree[at + 1].text, path, line, public))
                    return at + 2
                if token.text in ("}", ","):
                    break
                if token.kind == "ident":
                    path = (*path, token.text.removeprefix("r#"))
                at += 1
            name = path[-1]
            path = path[:-1] if name == "self" and len(path) > 1 else path
            module.imports.append(Import(path[-1] if name == "self" else name, path, line, public))
            return at

        parse(0, ())

    def _body(self, module: Module, body: list[Token]) -> None:
        at = 0
        while at < len(body):
            token = body[at]
            if token.kind == "punct" and token.text == "#" and at + 1 < len(body) and body[at + 1].text == "[":
                end = closing(body, at + 1)
                attribute = body[at + 1 : end]
                at = end
                if is_test(attribute):
                    at = self._end(body, at)
                continue
            if token.kind != "ident":
                at += 1
                continue
            if token.text == "use" and at + 1 < len(body) and body[at + 1].kind in ("ident", "sep") and body[at + 1].text != "<":
                end = self._end(body, at)
                self._use(module, body[at + 1 : end - 1], False)
                at = end
                continue
            path = [token.text.removeprefix("r#")]
            after_dot = at > 0 and body[at - 1].text in (".", "::")
            line, at = token.line, at + 1
            while at + 1 < len(body) and body[at].kind == "sep" and body[at + 1].kind == "ident":
                path.append(body[at + 1].text.removeprefix("r#"))
                at += 2
            if after_dot:
                continue
            module.words.add(path[0])
            if len(path) > 1:
                module.paths.append(Use(tuple(path), line))

    def resolve(self, module: Module, path: tuple[str, ...], seen: frozenset = frozenset()) -> tuple[Module, str] | None:
        """The module that defines what `path` names in `module`, and the name; None where it is of another crate or not seen."""
        key = (module.path, path)
        if key in seen or not path:
            return None
        seen |= {key}
        first, rest = path[0], path[1:]
        if first == "crate":
            return self._within(self.root, rest, seen)
        if first == "self":
            return self._within(module, rest, seen)
        if first == "super":
            return self._within(module.parent, rest, seen) if module.parent else None
        return self._within(module, path, seen, first=True)

    def _within(self, module: Module, path: tuple[str, ...], seen: frozenset, first: bool = False) -> tuple[Module, str] | None:
        if not path:
            return module, ""
        name, rest = path[0], path[1:]
        if name == "super":
            return self._within(module.parent, rest, seen) if module.parent else None
        if name in module.children:
            return self._within(module.children[name], rest, seen)
        if name in module.items:
            return module, name
        for found in module.imports:
            # `use async_trait::async_trait` does not say where its own first name comes from.
            if found.name == name and found.path[0] != name:
                return self.resolve(module, (*found.path, *rest), seen)
        for found in module.imports:
            if found.name == "*":
                target = self.resolve(module, (*found.path, *path), seen)
                if target and target[1]:
                    return target
        # A macro may have made it.
        return None if first else (module, name)

    def arrows(self) -> list[Arrow]:
        """Every use of one file by another."""
        found = set()
        for module in self.modules.values():
            for path, line in self._uses(module):
                target = self.resolve(module, path)
                if target and target[0].file != module.file:
                    found.add(Arrow(module.path, module.file, line, target[0].path, target[0].file, target[1]))
        return sorted(found, key=lambda arrow: (str(arrow.file), arrow.line, str(arrow.target_file), arrow.name))

    def externals(self) -> list[External]:
        """Every use of another crate."""
        found = set()
        for module in self.modules.values():
            for path, line in self._uses(module):
                if path[0] not in ("crate", "self", "super", "Self") and not self.resolve(module, path):
                    found.add(External(module.path, module.file, line, path[0]))
        return sorted(found, key=lambda use: (str(use.file), use.line, use.crate))

    @staticmethod
    def _uses(module: Module) -> list[tuple[tuple[str, ...], int]]:
        uses = [(use.path, use.line) for use in module.paths]
        for found in module.imports:
            # Which names a glob brings is not looked up: it counts as a use of the module that it opens.
            if not found.public or found.name in module.words:
                uses.append((found.path, found.line))
        return uses


def circles(arrows: list[Arrow]) -> list[list[Path]]:
    """The groups of files of which each uses, directly or not, every other (strongly connected components; Tarjan).

    That a module uses what is below it in the tree of modules does not count: it composes its children (routes of handlers, variants of
    what they define), and they may use what it defines for all of them.
    """
    graph: dict[Path, list[Path]] = {}
    for arrow in arrows:
        if arrow.target[: len(arrow.source)] == arrow.source:
            continue
        graph.setdefault(arrow.file, []).append(arrow.target_file)
        graph.setdefault(arrow.target_file, [])
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    found: list[list[Path]] = []

    def visit(node: Path) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)
