"""Turns jsonargparse's message about a refused configuration into a sentence for the user."""

import re
from collections.abc import Iterable, Mapping, Sequence

import yaml

from zolit.commands.classes import arguments
from zolit.commands.faults import parser_path, without_class, wrong_value
from zolit.commands.forms import one_form, unfit_form
from zolit.commands.given import Given
from zolit.commands.help import RECIPE_COMMANDS
from zolit.errors import nearest_names
from zolit.recipes.flat import public_name

_LISTED = 8

_MEANT = {
    "density": "fraction",
    "epochs": "max_epochs",
    "learning_rate": "lr",
    "queries": "n",
    "steps": "max_steps",
}
"""Names of arguments in other libraries and earlier versions, and their names here."""

Classes = Mapping[str, Sequence[type]]
"""For each option, by dotted name, the classes that it can take."""

_CLASS_FAULTS = (
    (r"Importing '([^']*)' is not allowed", "is nothing that a configuration may name"),
    (r"Expected a dot import path string: (\S+)", "is not a known name"),
    (r"Import path (\S+) does not correspond to a subclass", "is a class of another kind"),
    (r"Not a valid subclass of \w+\. Got value: (\S+)", "does not name a class"),
    (
        r"Expected '([^']*)' to be a function that returns (?:<class ')?(?:[\w.]*\.)?(\w+)",
        "has to be a function that returns {1}",
    ),
    (r"given class_path '([^']*)': (.*?)\.?(?= - |$)", "cannot be imported ({1})"),
)


def explain_unmade(error: BaseException, given: Given) -> str | None:
    """One sentence about a class that could not be made; None if the class itself is at fault.

    Args:
        error: what the parser raised.
        given: what the user wrote.
    """
    chain = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    root = chain[-1]
    if isinstance(root, yaml.YAMLError):
        value = root.args[-1] if root.args else root
        return (
            f"trainer.callbacks: a part has the value {value!r}, which config.yaml cannot hold; "
            "use an option of the trainer, such as trainer.max_time for Timer, or a class of your "
            "own."
        )
    text = " ".join(str(one) for one in chain)
    path = re.search(r"Problem with given class_path '([^']*)'", text)
    if not isinstance(root, ImportError) or path is None:
        return None
    name = path[1].rpartition(".")[2]
    keys = (key for key, got in given.values.items() if str(got).rpartition(".")[2] == name)
    package = re.search(r"[`']([A-Za-z][\w-]*)", str(root))
    needed = package[1] if package else str(root)
    key = public_name(next(keys, name))
    rest = ", or leave it out: metrics.csv is written in any case" if "logger" in key else ""
    return (
        f"{key}: {name} needs the package {needed}, which is not installed; install it "
        f"(pip install {needed}){rest}."
    )


def explain(message: str, given: Given, known: Iterable[str], classes: Classes) -> str:
    """One sentence: the option, what it got, and what is expected or the nearest known names.

    Args:
        message: of the parser.
        given: what the user wrote.
        known: dotted names of all options.
        classes: for each option, by dotted name, the classes that it can take.
    """
    text = " ".join(message.split())
    for fault in (unfit_form(text, given, classes), _beside_class_path(given)):
        if fault is not None:
            return fault
    text = one_form(text, given, classes)
    # Each parser around a class repeats the fault; the innermost message names it.
    _, inner, detail = text.rpartition('Parser key "')
    message = inner + detail if inner else detail
    options = sorted({public_name(name) for name in known})
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        if not found[1].startswith("--"):
            return f"got the argument {found[1]!r}, expected options such as --config FILE."
        name = found[1].removeprefix("--").partition("=")[0]
        return _unknown_option(name, given, options, classes)
    if found := re.search(r"ambiguous option: --(\S+) could match", message):
        return _unknown_option(found[1].partition("=")[0], given, options, classes)
    if found := re.search(r"Group '([^']*)' does not accept option '([^']*)'", message):
        return _unknown_option(f"{found[1]}.{found[2]}", given, options, classes)
    if found := re.search(r"[Oo]ption '([^']*)'( is not accepted)?", message):
        name = found[1]
        if path := parser_path(text):
            name = given.key_ending(name, path)
            if name not in given.values:  # the parser of another group got this option
                other = given.key_ending(f"{path.rpartition('.')[2]}.{found[1]}")
                name = other if other in given.values else name
        owner = re.search(r"class_path '(?:[\w.]*\.)?(\w+)': Option '", message)
        return _unknown_option(name, given, options, classes, owner and owner[1])
    if found := re.search(r"arguments are required: ([\w.]+)", message):
        name = re.sub(rf"^({'|'.join(RECIPE_COMMANDS)})\.", "", found[1])
        if path := parser_path(text):
            return _required(f"{path}.{name}")
        return _required(next((key for key in classes if key.endswith(f".{name}")), name))
    if found := re.search(r"(?:Path is not a file|File does not exist): '([^']*)'", message):
        return f"--config: got {found[1]!r}, expected an existing YAML file."
    if "Problems parsing config" in message or "Unexpected config" in message:
        return _not_yaml(message, given)
    if found := re.search(r'Key "(\w+)\.(\w+)" not found in namespace', message):
        return f"{found[1]}: expected a group of options, among them {found[1]}.{found[2]}."
    if found := re.search(r'Parser key "([\w.]+)": Unable to load config "(.*)"', message):
        below = [one for one in options if one.startswith(f"{found[1]}.")]
        one = f"{found[1]}.path" if f"{found[1]}.path" in below else below[0]
        return (
            f"{found[1]}: got {found[2]!r}, expected a group of options; write {one}: {found[2]}."
        )
    if (unowned := without_class(text, given, classes)) is not None:
        return unowned
    key = re.match(r'Parser key "([^"]*)"', message)
    if key is None:
        return f"{message.rstrip('.')}."
    for pattern, reason in _CLASS_FAULTS:
        if found := re.search(pattern, message):
            return _unknown_class(public_name(key[1]), found, reason, given, classes)
    if (wrong := _missing(text, given) or wrong_value(text, given)) is not None:
        return wrong
    return f"{public_name(given.key_ending(key[1]))}: {message.rstrip('.')}."


def _unknown_option(
    name: str, given: Given, options: list[str], classes: Classes, owner: str | None = None
) -> str:
    """One sentence; ``owner`` is the class that does not take the option, where it is known."""
    full = public_name(name)
    chosen = owner or given.class_above(name)
    group, _, leaf = full.rpartition(".")
    candidates = [one for some in classes.values() for one in some if one.__name__ == chosen]
    if candidate := next(iter(candidates), None):
        if (meant := _MEANT.get(leaf)) in (known := arguments(candidate)):
            return f"unknown option {full}; it is {group}.{meant}."
        return f"unknown option {full}; {_near(leaf, known)}."
    places = _places(_MEANT.get(leaf, leaf), given, options, classes)
    top = f"{group.partition('.')[0]}."
    if places := [one for one in places if one.startswith(top)] or places:
        return f"unknown option {full}; it is {' or '.join(places)}."
    if not group:
        return f"unknown option {full}; {_near(full, {one.partition('.')[0] for one in options})}."
    siblings = [option for option in options if option.startswith(f"{group}.")]
    return f"unknown option {full}; {_near(full, siblings or options)}."


def _places(leaf: str, given: Given, options: list[str], classes: Classes) -> list[str]:
    """Full names of the options that end in a name, and of arguments of classes with that name.

    Of the classes that an option can name, all that have the argument are told, unless the user has
    chosen one of them.
    """
    plain = [one for one in (*options, *classes) if one.rpartition(".")[2] == leaf]
    found = list(plain)
    for key, choices in classes.items():
        owners = [one.__name__ for one in choices if leaf in arguments(one)]
        chosen = given.class_above(f"{key}.{leaf}")
        if chosen in owners:
            found.append(f"{key}.{leaf}")
        elif f"{key}.{leaf}" not in plain and chosen is None and owners and key[:5] != "train":
            found.append(f"{key}.{leaf} (of {', '.join(owners)})")
    return list(dict.fromkeys(found))


def _beside_class_path(given: Given) -> str | None:
    """A sentence about an argument that the user wrote beside ``class_path`` in YAML."""
    for key in given.values:
        group, _, rest = key.partition(".init_args.")[0].rpartition(".")
        if key in given.options or rest in ("class_path", "init_args", "dict_kwargs"):
            continue
        if group != "model" and f"{group}.class_path" in given.values:
            return f"{key}: stands beside {group}.class_path; put it under {group}.init_args."
    return None


def _unknown_class(
    key: str, found: re.Match[str], reason: str, given: Given, classes: Classes
) -> str:
    got = found[1]
    # The parser names the outermost argument; the value may belong to one inside it.
    places = [public_name(name) for name, value in given.values.items() if value == got]
    key = next((name for name in places if f".{key}." in f".{name}."), key)
    choices = [cls.__name__ for cls in classes.get(re.sub(r"\.\d+$", "", key), ())]  # of a list
    return (
        f"{key}: {got!r} {reason.format(*found.groups())}; "
        f"{_near(got.rpartition('.')[2], choices)}; a class of your own is named by its import "
        "path, package.module.Class."
    )


def _required(key: str) -> str:
    said = f"{key}: is required and was not given; set it in a --config file"
    # An item of a list has no option of its own.
    return f"{said}." if key.startswith("trainer.callbacks.") else f"{said} or as --{key}."


def _missing(text: str, given: Given) -> str | None:
    """A sentence about a required option that is null."""
    _, _, inner = text.rpartition('Parser key "')
    found = re.search(r"Expected an? (.*?)\. Got value: None(?= - |\.?$)", inner)
    if found is None or "NoneType" in found[1] or "Union" in inner:
        return None
    path = parser_path(text)
    return _required(path) if given.value(path) is None else None


def _not_yaml(message: str, given: Given) -> str:
    name = given.configs[-1] if given.configs else "the configuration"
    place = re.search(r"line (\d+), column (\d+)", message)
    where = f" (line {place[1]}, column {place[2]})" if place else ""
    fault = "is not valid YAML" if "Problems" in message else "holds no options"
    return f"--config: {name!r} {fault}{where}; expected `group: {{option: value}}` in YAML."


def _near(name: str, names: Iterable[str]) -> str:
    choices = sorted(set(names))
    if close := nearest_names(name, choices):
        return f"nearest: {', '.join(close)}"
    if not choices:
        return "nothing of the kind is accepted here"
    return f"expected one of {', '.join(choices[:_LISTED])}{', ...' * (len(choices) > _LISTED)}"
