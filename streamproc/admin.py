"""Metrics and health of a process over HTTP: ``/metrics``, ``/healthz``, ``/readyz``."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from streamproc.errors import SettingsError

Problems = Callable[[], Mapping[str, str] | None]


def _none() -> None:
    return None


class AdminServer:
    """A small HTTP server.

    Args:
        registry: what ``/metrics`` shows.
        ready: problems by name; while there are any, ``/readyz`` answers 503 and names them.
        healthy: likewise for ``/healthz``: what only a new process can cure.
        port: 0 takes a free one; :attr:`port` tells which.
        routes: further pages.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ready: Problems = _none,
        healthy: Problems = _none,
        routes: Sequence[web.RouteDef] = (),
    ) -> None:
        self.host = host
        self.port = port
        self._registry = registry
        self._ready = ready
        self._healthy = healthy
        self._routes = routes
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def start(self) -> None:
        """Raises SettingsError where the port cannot be had."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            await self.stop()
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise SettingsError(f"admin: port {self.port} on {self.host} {why}; choose another, or 0") from None
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _: web.Request) -> web.Response:
        return _report(self._healthy())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _report(self._ready())


def _report(problems: Mapping[str, str] | None) -> web.Response:
    if not problems:
        return web.Response(text="ok\n")
    return web.Response(status=503, text="".join(f"{name}: {text}\n" for name, text in sorted(problems.items())))
