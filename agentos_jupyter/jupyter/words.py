"""What is said of a dispatch in words: how it ended, who answered, which files it changed, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentos_jupyter.jupyter.markdown import safe_markdown
from agentos_jupyter.jupyter.safe import one_line, plain


def answer(info: Mapping[str, Any]) -> dict[str, str]:
    """The answer as Markdown and plain text; a scripted or replayed one is named as such."""
    text = str(info["answer"]).strip()
    said = borrowed(info)
    markdown = "\n\n".join(part for part in (safe_markdown(text), f"*{safe_markdown(said)}*" if said else "") if part)
    shown = "\n\n".join(part for part in (plain(text), f"[{plain(said)}]" if said else "") if part)
    return {"text/markdown": markdown, "text/plain": shown}


def summary(info: Mapping[str, Any]) -> str:
    """One line about a dispatch: how it ended, what it took, which files it changed."""
    status = {"ok": "", "limit": "stopped at a limit"}.get(info["status"], info["status"])
    usage = info.get("usage") or {}
    tokens = usage.get("input", 0) + usage.get("output", 0)
    usd = usage.get("usd")
    parts = [
        status,
        count(info["turns"], "turn"),
        count(info["calls"], "command"),
        f"{info['seconds']:.1f} s",
        f"{tokens} tokens" if tokens else "",
        f"${usd:.4f}" if usd else "",
        model_name(info["model"], info["scripted"]) if info.get("model") else "",
        changes(info.get("changed") or {}),
    ]
    return " · ".join(part for part in parts if part)


def model_name(name: str, scripted: bool) -> str:
    """The model as people must see it: a scripted or replayed one is never mistaken for a live one."""
    if name.startswith("replay:"):
        file, _, option = name.removeprefix("replay:").partition("?")
        return f"replayed from {file}{', tools too' if option else ''}"
    return f"scripted model ({name.removeprefix('scripted:').rpartition('/')[2]})" if scripted else name


def borrowed(info: Mapping[str, Any]) -> str:
    """What must stand beneath an answer that no model thought of now; nothing beneath a live one."""
    name, scripted = info.get("model") or "", bool(info.get("scripted"))
    return model_name(name, scripted) if name and (scripted or name.startswith("replay:")) else ""


def changes(changed: Mapping[str, Any]) -> str:
    """The changed files in a few words; the folders that programs fill (`__pycache__/`) come last."""
    names = [f"+{name}" for name in changed.get("created", [])]
    names += [f"~{name}" for name in changed.get("modified", [])]
    names += [f"-{name}" for name in changed.get("deleted", [])]
    names.sort(key=lambda name: name.endswith("/"))
    more = changed.get("more", 0) + max(0, len(names) - 8)
    return (
        f"files: {' '.join(one_line(name, 60) for name in names[:8])}{f' and {more} more' if more else ''}"
        if names
        else ""
    )


def count(number: int, word: str) -> str:
    """A number with its word, `2 dispatches`; nothing for none."""
    plural = "" if number == 1 else "es" if word.endswith("ch") else "s"
    return f"{number} {word}{plural}" if number else ""
