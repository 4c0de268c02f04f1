"""The ceiling of accept: Starlette, pydantic, 202, and nothing is stored. `python -m benchmarks.http_ceiling PORT`"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.process import free_port
from benchmarks.bare.api import Body
from benchmarks.servers import Place
from benchmarks.subject import Process
from tests.processes import bare_environment, process


@contextmanager
def starlette(place: Place) -> Iterator[Process]:
    """It listens soon."""
    port = free_port(0)
    with process(["benchmarks.http_ceiling", str(port)], bare_environment(), place.folder) as child:
        yield Process(child.pid, f"http://127.0.0.1:{port}")


async def post(request: Request) -> JSONResponse:
    body = Body.model_validate_json(await request.body())
    return JSONResponse({"message": "Event accepted and queued for processing", "jobId": body.eventId}, 202)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/api/events", post, methods=["POST"])])
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    config = uvicorn.Config(
        app, port=int(sys.argv[1]), http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
    )
    uvloop.run(uvicorn.Server(config).serve())
