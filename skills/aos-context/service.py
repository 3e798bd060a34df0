"""The default context engine: everything enters; when the window is full, old output is shortened."""

import hashlib
from pathlib import Path

from aos_sdk import define_service

APPEND = {"types": ["user.message", "assistant.message", "tool.result"]}
CUTS = (8000, 2000, 500)
"""Bytes left of a command's output in the older half of the history, tried in turn; bytes are about 4 a token."""

BYTES_PER_TOKEN = 4
SYSTEM = (Path(__file__).parent / "system.md").read_text(encoding="utf-8")


def texts(facts):
    """The instructions, then the agent's own, then the workspace's; a changed text has another source."""
    yield {"text": SYSTEM, "from": "aos-context/system.md"}
    if facts["system"].strip():
        digest = hashlib.sha256(facts["system"].encode()).hexdigest()[:12]
        yield {"text": facts["system"], "from": f"agent.system@{digest}"}
    for file in facts["files"]:
        if file["text"].strip():
            yield {
                "text": f"# {file['name']} of this workspace\n\n{file['text']}",
                "from": f"{file['name']}@{file['digest']}",
            }


def start(facts):
    """A plan for the start of a dispatch, or None when the context is right as it is."""
    wanted = {entry["from"]: entry for entry in texts(facts)}
    if facts["base"] is None:
        events = [{"event": entry["event"]} for entry in facts["outline"]]
        return {"base": None, "add": [*wanted.values(), *events], "append": APPEND}
    there = set(facts["texts"])
    if there == set(wanted):
        return None
    drop = [{"from": source} for source in there - set(wanted)]
    return {"base": facts["base"], "drop": drop, "add": [wanted[source] for source in wanted if source not in there]}


def shorten(facts):
    """A plan that fits the budget, by cutting the output of commands in the older part of the history."""
    outline = facts["outline"]
    recent = len(outline) // 2
    too_many = (facts["tokens"] - facts["budget"]) * BYTES_PER_TOKEN
    for cut in CUTS:
        older = [entry for entry in outline[:recent] if entry["type"] == "tool.result"]
        saved = sum(max(0, entry["bytes"] - cut) for entry in older)
        if saved >= too_many:
            break
    events = []
    for number, entry in enumerate(outline):
        old = number < recent and entry["type"] == "tool.result" and entry["bytes"] > cut
        events.append({"event": entry["event"], "cut": cut} if old else {"event": entry["event"]})
    return {"base": None, "add": [*texts(facts), *events], "append": APPEND}


@define_service
def service():
    def assemble(facts, output):
        output["plan"] = shorten(facts) if facts["reason"] == "over" else start(facts)
        return output

    return {"hooks": {"session.assemble": assemble}}
