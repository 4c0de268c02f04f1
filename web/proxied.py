"""What a proxy in front says of a request: believed only where it comes from a trusted address."""

from ipaddress import ip_address
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app.settings import Settings

FROM_PROXY = "tidings.from_proxy"  # in the scope: the peer is a trusted proxy, so its headers are the proxy's word


class Proxied:
    """Marks what a trusted proxy sends; there `client` and `scheme` become those of the person's own request (X-Forwarded-*)."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._trusted = settings.dashboard_trusted_proxies
        behind: Any = ProxyHeadersMiddleware(app, trusted_hosts=[str(network) for network in self._trusted])  # type: ignore[arg-type]
        self._behind: ASGIApp = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[FROM_PROXY] = self._is_trusted(scope["client"])
        await self._behind(scope, receive, send)

    def _is_trusted(self, client: tuple[str, int] | None) -> bool:
        try:
            return client is not None and any(ip_address(client[0]) in network for network in self._trusted)
        except ValueError:
            return False
