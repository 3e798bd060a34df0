"""papermill and agentos notebooks: parameters become a `%%parameters` cell, widget state stays out of the notebook.

papermill finds this module by its `papermill.engine` entry point when it starts; nothing else imports it.
"""

from __future__ import annotations

import re
from typing import Any

NAME = "agentos"


class AgentOSEngine:
    """papermill's own engine, except that an agentos notebook does not carry the state of its widgets: the log has the facts.

    It is found while papermill is still being imported, hence the imports inside and at the end of the module.
    """

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, *args: Any, **kwargs: Any) -> Any:
        from papermill.engines import NBClientEngine

        own = {"store_widget_state": False} if kernel_name == NAME else {}
        return NBClientEngine.execute_notebook(nb, kernel_name, *args, **{**own, **kwargs})

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        from papermill.utils import nb_kernel_name

        return str(nb_kernel_name(nb, name))

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        from papermill.utils import nb_language

        return str(nb_language(nb, language))


from papermill.engines import NBClientEngine, papermill_engines  # noqa: E402
from papermill.models import Parameter  # noqa: E402
from papermill.translators import Translator, papermill_translators  # noqa: E402


class AgentOSTranslator(Translator):  # type: ignore[misc]
    """Parameters as YAML: every type of JSON and YAML keeps its value."""

    @classmethod
    def translate(cls, val: Any) -> str:
        return _yaml([val]).strip()[1:-1]

    @classmethod
    def comment(cls, cmt_str: str) -> str:
        return "\n".join(f"# {line}".rstrip() for line in str(cmt_str).splitlines())

    @classmethod
    def assign(cls, name: str, str_val: str) -> str:
        return f"{cls.translate(name)}: {str_val}"  # `on` and `no` are no names in YAML

    @classmethod
    def codify(cls, parameters: dict[str, Any], comment: str = "Parameters") -> str:
        lines = [cls.assign(name, cls.translate(value)) for name, value in parameters.items()]
        return "".join(f"{line}\n" for line in ["%%parameters", cls.comment(comment), *lines])

    @classmethod
    def inspect(cls, parameters_cell: Any) -> list[Parameter]:
        """Names, types and defaults of the notebook's own `%%parameters` cell; a comment behind a value is its help."""
        head, _, body = str(parameters_cell["source"]).lstrip().partition("\n")
        if head.strip() != "%%parameters":
            return []
        from agentos_jupyter.errors import CommandError
        from agentos_jupyter.jupyter.parameters import load

        try:
            values = load(body)
        except CommandError:
            return []
        notes = _notes(body)
        return [
            Parameter(name, type(value).__name__, cls.translate(value), notes.get(name, ""))
            for name, value in values.items()
        ]


def _yaml(value: Any) -> str:
    """YAML on one line that reads back as the same value; a type that YAML has no word for becomes its text."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, data: Any) -> yaml.ScalarNode:
        string = str(data)
        odd = any(not mark.isprintable() for mark in string)  # PyYAML writes some of them in a way it does not read
        return dumper.represent_scalar("tag:yaml.org,2002:str", string, style='"' if odd else None)

    Dumper.add_representer(str, text)
    Dumper.add_multi_representer(object, text)
    return yaml.dump(value, Dumper=Dumper, allow_unicode=True, sort_keys=False, default_flow_style=True, width=1 << 30)


def _notes(body: str) -> dict[str, str]:
    """The comment at the end of each one-line entry."""
    found = (re.match(r"([^\W\d]\w*)[ \t]*:.*?[ \t]#[ \t]*(.*)$", line) for line in body.splitlines())
    return {match[1]: match[2].strip() for match in found if match}


def _register() -> None:
    papermill_translators.register(NAME, AgentOSTranslator)
    if papermill_engines.get_engine(None) is NBClientEngine:  # what runs when no engine is named
        papermill_engines.register(None, AgentOSEngine)


_register()
