"""The web application: who may see what, and the answers."""

import asyncio
import hmac
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fred_supervisor.cli.common.command_error import CommandError
from fred_supervisor.cli.dump import stacks_of
from fred_supervisor.cli.serve.site import Site
from fred_supervisor.language import tr
from fred_supervisor.store.run_spec import RunSpec

VERBS: Final = ("pause", "resume", "restart", "stop")
_LOOK_S: Final = 1.0
_TICK_S: Final = 5.0
"""Between two signs of life to a page for which there is no news."""
_FOLDER: Final = Path(__file__).with_name("templates")
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        *(f"{what}-src 'self'" for what in ("style", "script", "connect")),
        "img-src data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
"""Nothing is loaded from elsewhere, and no text of a run can be a script."""
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)


def application(site: Site) -> Starlette:
    pages = _Pages(site)
    routes = [
        Route("/", pages.all_runs),
        Route("/events", pages.all_events),
        Route("/live.js", partial(_file, "live.js", "text/javascript")),
        Route("/style.css", pages.style),
        Route("/run/{key}", pages.one_run),
        Route("/run/{key}/events", pages.one_events),
        Route("/run/{key}/incident/{number:int}", pages.incident),
        Route("/run/{key}/stacks", pages.stacks, methods=["POST"]),
        Route("/run/{key}/{verb}", pages.control, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(_Gate, site=site)])


class _Gate:
    """Without the token nothing is shown. It comes in the address once; the browser keeps it as a cookie."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope)
        by_address = self._is_token(request.query_params.get("token"))
        if not by_address and not self._is_token(request.cookies.get(self._site.cookie)):
            text = tr("Open the address that `fred-supervise serve` has printed: it has a token at its end.")
            await PlainTextResponse(f"{text}\n", 403)(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
                if by_address:
                    kept = f"{self._site.cookie}={self._site.token}; Path=/; HttpOnly; SameSite=Strict"
                    message["headers"].append((b"set-cookie", kept.encode()))
            await send(message)

        await self._app(scope, receive, answer)

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self._site.token.encode())


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def all_runs(self, _: Request) -> Response:
        parts = await run_in_threadpool(self._site.all_parts)
        return HTMLResponse(self._site.render("runs.html", parts=parts))

    async def one_run(self, request: Request) -> Response:
        key, spec = self._run(request)
        parts = await run_in_threadpool(self._site.run_parts, key)
        return HTMLResponse(self._site.render("run.html", parts=parts, key=key, name=spec.name))

    async def incident(self, request: Request) -> Response:
        key, _ = self._run(request)
        found = await run_in_threadpool(self._site.incident, key, request.path_params["number"])
        if found is None:
            raise HTTPException(404, tr("There is no such incident."))
        return HTMLResponse(await run_in_threadpool(self._site.incident_page, key, found))

    async def style(self, _: Request) -> Response:
        shared = self._site.render("style.css")
        own = (_FOLDER / "serve.css").read_text("utf-8")
        return Response(f"{shared}\n{own}", media_type="text/css")

    async def all_events(self, request: Request) -> Response:
        return _follow(request, self._site.all_parts)

    async def one_events(self, request: Request) -> Response:
        key, _ = self._run(request)
        return _follow(request, partial(self._site.run_parts, key))

    async def stacks(self, request: Request) -> Response:
        """The stacks of the live trainer: it is asked, not changed."""
        _, spec = self._run(request)
        try:
            return PlainTextResponse(await run_in_threadpool(stacks_of, spec))
        except CommandError as error:
            return PlainTextResponse(str(error), 409)

    async def control(self, request: Request) -> Response:
        """As the command of the same name does it."""
        _, spec = self._run(request)
        verb = request.path_params["verb"]
        if verb not in VERBS:
            raise HTTPException(404, tr("There is no such page."))
        if not self._site.control:
            return PlainTextResponse(
                tr("This page only shows; `serve --allow-control` lets it {verb}.", verb=verb), 403
            )
        words = (sys.executable, "-m", "fred_supervisor.cli.main", verb, "--run-dir", spec.run_dir)
        asked = await asyncio.create_subprocess_exec(
            *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asked.communicate()
        return PlainTextResponse(said.decode("utf-8", "replace").strip(), 200 if asked.returncode == 0 else 409)

    def _run(self, request: Request) -> tuple[str, RunSpec]:
        key = request.path_params["key"]
        spec = self._site.runs().get(key)
        if spec is None:
            raise HTTPException(404, tr("No run is called {name}.", name=key))
        return key, spec


def _file(name: str, kind: str, _: Request) -> Response:
    return Response((_FOLDER / name).read_text("utf-8"), media_type=kind)


def _follow(request: Request, parts: Callable[[], Mapping[str, str]]) -> Response:
    """Server-sent events: the parts that have changed, as JSON; an empty one is a sign of life."""
    return StreamingResponse(_changes(request.is_disconnected, parts), media_type="text/event-stream")


async def _changes(gone: Callable[[], Awaitable[bool]], parts: Callable[[], Mapping[str, str]]) -> AsyncIterator[str]:
    shown: dict[str, str] = {}
    quiet_s = _TICK_S
    while not await gone():
        try:
            now = dict(await run_in_threadpool(parts))
        except KeyError:
            return  # the run is not known any more
        news = {name: html for name, html in now.items() if shown.get(name) != html}
        quiet_s += _LOOK_S
        if news or quiet_s >= _TICK_S:
            yield f"data: {json.dumps(news)}\n\n"
            shown, quiet_s = now, 0.0
        await asyncio.sleep(_LOOK_S)
