"""The application: routes, guard and errors put together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator

from fastapi import FastAPI

import peftrec
from peftrec.serving import item_routes, operator_routes, user_routes
from peftrec.serving.error import add_handlers
from peftrec.serving.guard import Guard
from peftrec.serving.service import Service


def create_app(service: Service) -> FastAPI:
    """Return the ASGI application of a service; the service starts and closes with it.

    The pages of FastAPI that describe an API load scripts from elsewhere, so there are none; `/openapi.json` is there.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reload_and_tell)
        yield
        service.close()

    app = FastAPI(
        title="peftrec",
        version=peftrec.__version__,
        summary="Recommendations from a run folder",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.service = service
    for routes in (user_routes, item_routes, operator_routes):
        app.include_router(routes.router)
    add_handlers(app)
    app.add_middleware(Guard, settings=service.settings, measurements=service.measurements)
    return app
