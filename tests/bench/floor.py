"""The floor: httpx and `bash -c`, nothing else; the least that a loop in Python can cost.

python -m tests.bench.floor BASE_URL
"""

from __future__ import annotations

import json
import subprocess
import sys

import httpx

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "bash",
            "description": "Run a bash command.",
            "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
        },
    }
]


def main(base_url: str) -> None:
    messages = [{"role": "system", "content": "You have bash."}, {"role": "user", "content": "Work."}]
    with httpx.Client(timeout=60) as client:
        while True:
            body = {"model": "bench", "messages": messages, "tools": TOOLS}
            answer = client.post(f"{base_url}/chat/completions", json=body).json()
            message = answer["choices"][0]["message"]
            messages.append(message)
            if not message.get("tool_calls"):
                return
            for call in message["tool_calls"]:
                command = json.loads(call["function"]["arguments"])["command"]
                done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": done.stdout.decode()})


if __name__ == "__main__":
    main(sys.argv[1])
