"""Makes one line of what a parser has to say: the option, what was found, what was expected."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 400
_FEW = 4  # classes that are named as examples
_KEY = r'Parser key "(?P<key>[^"]+)": '
_TYPE = re.compile(_KEY + r"Expected a <class '(?P<type>\w+)'>\. Got value: (?P<found>.*)")
_CHOICE = re.compile(
    _KEY + r"Expected a typing\.Literal\[(?P<choices>[^\]]*)\]\. Got value: (?P<found>.*)"
)
_UNION = re.compile(
    _KEY + r"Does not validate against any of the Union subtypes "
    r"Subtypes: \[(?P<types>.*?)\] Errors: .*Given value: (?P<found>.*)"
)
_LENGTH = re.compile(
    _KEY + r"Expected a tuple with (?P<length>\d+) elements\. Got value: (?P<found>.*)"
)
_SUBTYPE = re.compile(
    r"list\[(?P<item>\w+)\]|tuple\[(?P<items>[\w, .]+)\]"
    r"|Literal\[(?P<choices>[^\]]*)\]|<class '(?:\w+\.)*(?P<type>\w+)'>"
)
_CLASS = re.compile(
    _KEY
    + r".*(?:Expected a dot import path string: |Problem with given class_path ')(?P<found>[\w.]+)"
)
_WITHIN = re.compile(
    _KEY
    + r".*Problem with given class_path '(?P<path>[\w.]+)': "
    + r"(?P<rest>(?:Parser key|Option|the following) .*)"
)
_SETTING = re.compile(r"^Option '(?P<found>[\w.]+)' is not accepted")
_MISSING = re.compile(r"^the following arguments are required: (?P<names>.*)")
_UNKNOWN = re.compile(r"[Uu]nrecognized arguments: (?P<option>-\S+)")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "tuple": "values in brackets, such as [64,64]",
    "NoneType": "null",
}
_EXAMPLE = " such as "
_COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}
# Those of each type in a row, and the end of an example.
_SEVERAL = {"int": ("whole numbers", ""), "float": ("numbers", ".0")}


def parser_message(message: str, options: Iterable[str] = (), classes: Iterable[str] = ()) -> str:
    """The gist of a parser's message.

    Args:
        message: What the parser says, often in several lines.
        options: The options that it knows, to name the nearest one.
        classes: Import paths of classes that fit where a class is expected.

    Returns:
        One line of at most 400 characters.
    """
    line = _gist(" ".join(message.split()), options, classes)
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."


def _gist(line: str, options: Iterable[str], classes: Iterable[str]) -> str:
    if found := _WITHIN.search(line):
        name = found["path"].rpartition(".")[2]
        inner = _gist(found["rest"], options, classes).removeprefix("--")
        line = f"--{found['key']}: {name}: {inner}"
    elif found := _SETTING.search(line):
        line = f"{found['found']}: unknown setting; remove it, or see the class for those it has"
    elif found := _MISSING.search(line):
        line = f"{found['names']}: missing, and without a default; set it"
    elif found := _TYPE.search(line):
        line = f"--{found['key']}: found {found['found']}, expected {_word(found['type'])}"
    elif found := _LENGTH.search(line):
        line = f"--{found['key']}: found {found['found']}, expected {found['length']} values"
    elif found := _CHOICE.search(line):
        line = f"--{found['key']}: found {found['found']}, expected one of {found['choices']}"
    elif found := _UNION.search(line):
        words = [_subtype(kind) for kind in _SUBTYPE.finditer(found["types"])]
        either = ", or " if any(_EXAMPLE in word for word in words) else " or "
        line = f"--{found['key']}: found {found['found']}, expected {either.join(words)}"
    elif found := _CLASS.search(line):
        line = f"--{found['key']}: {_unknown_class(found['found'], classes)}"
    elif found := _UNKNOWN.search(line):
        option = found["option"].partition("=")[0]
        near = get_close_matches(option, list(options), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        line = f"{option}: unknown option; {hint}--help lists them"
    return line


def _word(name: str) -> str:
    return _WORDS.get(name, name)


def _subtype(kind: re.Match[str]) -> str:
    if kind["item"]:
        return f"a list, each {_word(kind['item'])}"
    if kind["items"]:
        return _tuple(kind["items"].split(", "))
    if kind["choices"]:
        return f"one of {kind['choices']}"
    return _word(kind["type"])


def _tuple(items: list[str]) -> str:
    count = _COUNTS.get(len(items))
    if count is None or len(set(items)) > 1 or items[0] not in _SEVERAL:
        return f"[{', '.join(map(_word, items))}]"
    plural, end = _SEVERAL[items[0]]
    example = ",".join(f"{number}{end}" for number in range(1, len(items) + 1))
    return f"{count} {plural}{_EXAMPLE}[{example}]"


def _unknown_class(found: str, classes: Iterable[str]) -> str:
    by_name = {path.rpartition(".")[2]: path for path in classes}
    near = get_close_matches(found.rpartition(".")[2], by_name, n=1)
    hint = f" (did you mean {by_name[near[0]]}?)" if near else ""
    known = ", ".join(list(by_name.values())[:_FEW]) or "package.module.Class"
    return f"found class {found}{hint}, expected the import path of one, such as {known}"
