"""What mkdocs calls while it builds the site: pages that are not in docs/, and links to files outside of it.

docs/ is read on its own as well, with links such as ../zoo/spikformer/CARD.md. On the site these are pages, or files
that are copied beside the pages.
"""

import ast
import re
from pathlib import Path
from posixpath import normpath

from griffe import Extension
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Pages that are files elsewhere in the repository.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    **{f"zoo/{card.parent.name}/CARD.md": f"zoo/{card.parent.name}.md" for card in ROOT.glob("zoo/*/CARD.md")},
}
# What stands for a folder.
FOLDERS = {
    "zoo": "zoo.md",
    "examples": "examples.md",
    "results": "results.md",
    "configs": "configs.md",
    "docs": "index.md",
}
# The packages whose names are public, in the order in which one meets them.
PACKAGES = (
    "ahsar",
    "neurons",
    "models",
    "layers",
    "measure",
    "integrations",
    "config",
    "data",
    "tasks",
    "engine",
    "compare",
)
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)\s]+)(?=\))")
_SESSION = re.compile(r"^(>>> .*(?:\n.+)*)", re.MULTILINE)
_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?([^`]+)`")


def on_files(files, config):
    """Adds the pages, and the files that pages refer to."""
    generated = {"zoo.md": _zoo(), "configs.md": _configs(), "reference.md": _reference()}
    for source, page in PAGES.items():
        generated[page] = (ROOT / source).read_text(encoding="utf-8")
    for package in PACKAGES:
        generated[f"reference/{package}.md"] = _of_package(package)
    for page, text in generated.items():
        files.append(File.generated(config, page, content=text))
    for file in list(files.documentation_pages()):
        for link in _LINK.findall(file.content_string):
            place = _place(file.src_uri, link)
            target = ROOT / place
            if (
                target.is_file()
                and place not in PAGES
                and not place.startswith("docs/")
                and files.src_uris.get(place) is None
            ):
                files.append(File.generated(config, place, abs_src_path=str(target)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites links to where things are on the site."""
    up = "../" * page.file.src_uri.count("/")

    def moved(match):
        _, hash_, anchor = match[1].partition("#")
        place = _place(page.file.src_uri, match[1])
        if place in PAGES:
            place = PAGES[place]
        elif place == "README.md":
            place = "index.md"
        elif (ROOT / place).is_dir():
            place = FOLDERS[place.split("/")[0]]
        else:
            place = place.removeprefix("docs/")
        return f"{up}{place}{hash_}{anchor}"

    return _LINK.sub(moved, markdown)


def _place(page, link):
    """Where in the repository a link of a page leads, without its anchor."""
    origin = next((source for source, target in PAGES.items() if target == page), f"docs/{page}")
    return normpath(f"{Path(origin).parent.as_posix()}/{link.partition('#')[0]}")


def _zoo():
    lines = ["# Zoo\n", "A card for each family: source, what is taken, parameters, deviations, published results.\n"]
    for card in sorted(ROOT.glob("zoo/*/CARD.md")):
        text = card.read_text(encoding="utf-8")
        variants = ", ".join(f"`{name}`" for name in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
        lines.append(f"- [{text.splitlines()[0].lstrip('# ')}](zoo/{card.parent.name}.md): {variants}")
    return "\n".join([*lines, "", "What the families have in common: [Models](models.md)."])


def _configs():
    lines = [
        "# Packaged configs\n",
        "`step-ahsar list configs` lists them; each is a name for `train` and `compare`.\n",
    ]
    for folder in sorted({path.parent for path in ROOT.glob("configs/**/*.yaml")}):
        lines.append(f"\n## {folder.relative_to(ROOT / 'configs').as_posix().replace('.', 'quick start')}\n")
        for path in sorted(folder.glob("*.yaml")):
            first = path.read_text(encoding="utf-8").splitlines()[0]
            title = first.lstrip("# ") if first.startswith("#") else ""
            lines.append(f"- [{path.stem}](../{path.relative_to(ROOT).as_posix()}): {title}")
    return "\n".join(lines)


def _reference():
    lines = ["# The Python interface\n", "Every public name, by package. Other modules may change without notice.\n"]
    for package in PACKAGES:
        doc = ast.get_docstring(ast.parse((ROOT / "step_ahsar" / package / "__init__.py").read_text(encoding="utf-8")))
        lines.append(f"- [`step_ahsar.{package}`](reference/{package}.md): {(doc or '').splitlines()[0]}")
    return "\n".join(lines)


def _of_package(package):
    path = f"step_ahsar.{package}"
    lines = [f"# {path}\n"]
    if package == "integrations":
        modules = ("step", "lightning", "transformers")
        names = {"step": "AHSARNode", "lightning": "AHSARCallback", "transformers": "AHSARCallback"}
        lines += [f"From `{path}.{module}`:\n\n::: {path}.{module}.{names[module]}\n" for module in modules]
        return "\n".join(lines)
    tree = ast.parse((ROOT / "step_ahsar" / package / "__init__.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    homes = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    constants = [name for name in names if name.isupper()]
    others = (name for name in names if name not in constants)
    lines += [f"::: {homes.get(name, f'{path}.{name}')}\n" for name in others]
    if constants:
        lines.append(f"## Constants\n\n{', '.join(f'`{name}`' for name in constants)}\n")
    return "\n".join(lines)


class Roles(Extension):
    """Docstrings are written for Sphinx's roles and doctest; the site shows names as code and sessions as blocks."""

    def on_object(self, *, obj, **kwargs):
        """Rewrites an object's docstring."""
        if obj.docstring is not None:
            text = _ROLE.sub(
                lambda match: f"`{match[1].split('.')[-1] if '<' not in match[1] else match[1]}`", obj.docstring.value
            )
            text = re.sub(r":math:`([^`]+)`", r"`\1`", text)
            obj.docstring.value = _SESSION.sub(r"```pycon\n\1\n```", text)


__all__ = ["Files", "Roles", "on_files", "on_page_markdown"]
