"""A client that never rests: sessions and content, each written down once it was acknowledged."""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from pathlib import Path

import agentos_jupyter


def main(workspace: Path) -> None:
    link = agentos_jupyter.connect(workspace)
    number = 0
    while True:
        data = os.urandom(20_000)
        put = {"upload": secrets.token_hex(8), "base64": base64.b64encode(data).decode(), "last": True}
        digest = link.call("content.put", put)["digest"]
        name = f"{number} {digest}"
        session = link.call("session.create", {"key": secrets.token_hex(8), "name": name})["id"]
        number += 1
        os.write(1, json.dumps([session, name, digest]).encode() + b"\n")


main(Path(sys.argv[1]))
