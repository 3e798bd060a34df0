"""The direct client: any OpenAI-compatible endpoint, over aiohttp, the body joined from encoded pieces.

A key goes only to its provider's host: redirects are not followed, and no error, repr or log shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentos_jupyter import __version__
from agentos_jupyter.errors import AgentOSError, ModelMalformed, ModelUnavailable
from agentos_jupyter.models import failures, marks
from agentos_jupyter.models.body import Body
from agentos_jupyter.models.deltas import Delta, Request, UsageSeen
from agentos_jupyter.models.prices import Price
from agentos_jupyter.models.rate import Limiter

if TYPE_CHECKING:
    import aiohttp

_RESERVED = ("model", "messages", "tools", "stream", "stream_options")
_LARGE = 2**20
"""aiohttp warns of larger bytes; a file-like body is sent in pieces instead."""
_PATIENCE = 5.0
"""Seconds for the body of a refusal."""
_REACH = 20.0
"""Seconds for the list of an endpoint's models."""
_LARGEST_LIST = 16 * 2**20
_LINGER = 0.05
"""Seconds for the last chunk to come after `[DONE]`, so that the connection can be used again."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is asked and how. `key_name` is the variable that holds the key, for messages."""

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    key_name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    usage_option: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    proxy: str | None = field(default=None, repr=False)


class Pool:
    """Open connections, shared by all models; each event loop has its own."""

    def __init__(self, connect: float) -> None:
        self._connect = connect
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    async def session(self) -> aiohttp.ClientSession:
        found = self._sessions.get(asyncio.get_running_loop())
        return found if found is not None and not found.closed else await self._open()

    async def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        for loop in [loop for loop in self._sessions if loop.is_closed()]:
            await self._sessions.pop(loop).close()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._sessions[asyncio.get_running_loop()] = session
        return session

    async def aclose(self) -> None:
        while self._sessions:
            await self._sessions.popitem()[1].close()


class DirectModel:
    """One model at one endpoint. `limit` is the size in bytes of the longest reply; `limiter` gives its provider's turns."""

    scripted = False

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        pool: Pool,
        *,
        window: int,
        limit: int,
        price: Price | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self.name = name
        self.window = window
        self.limiter = limiter
        self._endpoint = endpoint
        self._pool = pool
        self._limit = 2 * limit
        self.price = price
        self._marks = marks.supported(name)
        self._url = endpoint.base_url + "/chat/completions"
        self._fixed: dict[str, Any] = {"model": endpoint.model, "stream": True}
        if endpoint.usage_option:
            self._fixed["stream_options"] = {"include_usage": True}

    def __repr__(self) -> str:
        return f"DirectModel({self.name!r}, {self._endpoint.base_url!r})"

    async def aclose(self) -> None:
        """Nothing of its own: the pool belongs to `Models`."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        response = None
        try:
            response = await self._post(request)
            if response.status != 200:
                raise await self._refusal(response)
            body = Body(self.name, self._limit)
            while not body.done and (chunk := await response.content.readany()):
                for delta in body.feed(chunk):
                    yield self._priced(delta)
            for delta in body.end():
                yield self._priced(delta)
            await _drain(response)
        except (AgentOSError, OSError, ValueError) as error:
            raise self._named(error) from None
        except Exception as error:
            if not _from_aiohttp(error):
                raise
            raise self._named(error) from None
        finally:
            if response is not None:
                _let_go(response)

    async def reach(self) -> int:
        """How many models the endpoint lists: the cheapest question that needs its key. Raises what kept it from answering."""
        session = await self._pool.session()
        try:
            url, headers = self._endpoint.base_url + "/models", self._headers()
            async with (
                asyncio.timeout(_REACH),
                session.get(url, headers=headers, allow_redirects=False, proxy=self._endpoint.proxy) as response,
            ):
                if response.status != 200:
                    raise await self._refusal(response)
                listed = json.loads(await response.content.read(_LARGEST_LIST))
                return len(listed.get("data", [])) if isinstance(listed, dict) else 0
        except (AgentOSError, OSError, ValueError) as error:
            raise self._named(error) from None
        except Exception as error:
            if not _from_aiohttp(error):
                raise
            raise self._named(error) from None

    async def _post(self, request: Request) -> aiohttp.ClientResponse:
        body = self._body(request)
        session = await self._pool.session()
        return await session.post(
            self._url,
            data=body if len(body) < _LARGE else io.BytesIO(body),
            headers=self._headers(),
            allow_redirects=False,
            proxy=self._endpoint.proxy,
        )

    def _body(self, request: Request) -> bytes:
        """The encoded pieces, joined: no message is decoded or encoded again, but for the few that get a mark."""
        chosen = {name: value for name, value in request.params.items() if name not in _RESERVED}
        head = json.dumps({**self._endpoint.extra, **chosen, **self._fixed}, ensure_ascii=False).encode()
        tools = b"" if request.tools == b"[]" else b',"tools":' + request.tools
        pieces = (marks.marked(request.messages) if self._marks else [*request.messages]) or [b""]
        pieces[0] = head[:-1] + b',"messages":[' + pieces[0]
        pieces[-1] += b"]" + tools + b"}"
        return b",".join(pieces)  # one copy of everything

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"agentos-jupyter/{__version__}",
            **self._endpoint.headers,
        }
        if self._endpoint.key:
            headers["Authorization"] = f"Bearer {self._endpoint.key}"
        return headers

    async def _refusal(self, response: aiohttp.ClientResponse) -> AgentOSError:
        """What the endpoint says of its refusal; one that stops in the middle of saying it is not waited for."""
        said = bytearray()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while len(said) < 65_536 and (chunk := await response.content.readany()):
                    said += chunk
        return failures.from_status(self.name, response.status, response.headers, bytes(said), self._endpoint.key_name)

    def _priced(self, delta: Delta) -> Delta:
        if self.price is None or not isinstance(delta, UsageSeen) or delta.usage.usd is not None:
            return delta
        return UsageSeen(replace(delta.usage, usd=self.price.of(delta.usage)))

    def _named(self, error: Exception) -> AgentOSError:
        named = (
            error if isinstance(error, AgentOSError) else _connection_error(self.name, self._endpoint.base_url, error)
        )
        key = self._endpoint.key
        if key and key in named.message:
            return type(named)(named.message.replace(key, "***"), **named.data)
        return named


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the end of the body, if it comes at once; else the connection is closed instead of reused."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER):
            while not response.content.at_eof() and await response.content.readany():
                pass


def _let_go(response: aiohttp.ClientResponse) -> None:
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def _from_aiohttp(error: Exception) -> bool:
    import aiohttp

    return isinstance(error, aiohttp.ClientError)


def _connection_error(name: str, base_url: str, error: Exception) -> AgentOSError:
    """What went wrong on the wire, and where to look."""
    import aiohttp

    host, why = urlsplit(base_url).netloc, _reason(error)
    match error:
        case aiohttp.ClientConnectorDNSError():
            return ModelUnavailable(f"{name}: no address of {host} is known: check {base_url} and the network.")
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            cure = "check https in the base URL, this machine's date and its certificates"
            return ModelUnavailable(f"{name}: no secure connection to {host} ({why}): {cure}.")
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            return ModelUnavailable(f"{name}: the proxy did not connect to {host} ({why}): check HTTPS_PROXY.")
        case aiohttp.ClientConnectorError():
            return ModelUnavailable(f"{name}: nothing answers at {host} ({why}): start the server or check {base_url}.")
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return ModelUnavailable(f"{name}: {host} took no connection in time (limit `connect`): check the network.")
        case aiohttp.ClientResponseError():
            said = failures.clean(error.message)
            return ModelMalformed(f"{name}: {host} does not speak HTTP as it should ({said}): check the base URL.")
        case aiohttp.InvalidURL() | ValueError():
            kind = type(error).__name__
            return ModelMalformed(f"{name}: {base_url} cannot be asked ({kind}): check the base URL.", final=True)
        case _:
            return ModelUnavailable(f"{name}: {host} cut the connection ({why}).")


def _reason(error: Exception) -> str:
    cause = getattr(error, "os_error", None) or error
    return failures.clean(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)


def proxy_for(base_url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy of the environment for an https endpoint (`HTTPS_PROXY`, `NO_PROXY`).

    Never for http, where a proxy would read the key.
    """
    parts = urlsplit(base_url)
    lower = {name.lower(): value for name, value in environ.items() if name.lower() in ("https_proxy", "no_proxy")}
    proxy = lower.get("https_proxy")
    if parts.scheme != "https" or not proxy:
        return None
    bypass = _bypassed(parts.hostname or "", lower.get("no_proxy", ""))
    return None if bypass else proxy


def _bypassed(host: str, no_proxy: str) -> bool:
    """Whether `NO_PROXY` names the host, a domain above it, or everything."""
    names = [name.strip().lstrip(".").lower() for name in no_proxy.split(",")]
    return any(name == "*" or host == name or host.endswith("." + name) for name in names if name)
