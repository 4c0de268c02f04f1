"""The charts of each range, asked for once however many pages show them."""

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncEngine

from web.away import POSTGRESQL, Away, ask
from web.charts import Chart, charts
from web.rate_queries import Span
from web.rate_queries import charts as chart_rows

KEPT_S = 5.0


class ChartCache:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._kept: dict[Span, tuple[float, dict[str, Chart]]] = {}
        self._asking = asyncio.Lock()

    async def of(self, span: Span) -> dict[str, Chart] | Away:
        """By key; not older than KEPT_S."""
        async with self._asking:
            at_s, kept = self._kept.get(span, (float("-inf"), {}))
            if time.monotonic() - at_s < KEPT_S:
                return kept
            rows = await ask(POSTGRESQL, chart_rows(self._engine, span))
            if isinstance(rows, Away):
                return rows
            self._kept[span] = (time.monotonic(), charts(rows))
            return self._kept[span][1]
