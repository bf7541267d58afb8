"""The API's own description: OpenAPI for programs, one page for people. Signed-in callers only."""

from html import escape

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute

from control.api.shapes import Viewer
from plugins.access import access_of

router = APIRouter(tags=["reference"], include_in_schema=False)

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code{font:13px ui-monospace,monospace} li{margin:.6rem 0} small{opacity:.7}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}
"""


@router.get("/openapi.json")
async def openapi(request: Request, caller: Viewer) -> Response:
    """Made when it is asked for, off the loop: it takes longer than any other answer."""
    return JSONResponse(await anyio.to_thread.run_sync(request.app.openapi))


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request, caller: Viewer) -> Response:
    """Every route with its role, from this server alone: nothing is loaded from elsewhere."""
    return HTMLResponse(_page(request.app))


def _page(app: FastAPI) -> str:
    routes = [one for one in app.routes if isinstance(one, APIRoute) and one.include_in_schema]
    items = "".join(_item(route) for route in sorted(routes, key=lambda one: one.path))
    title = escape(app.title)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{STYLE}</style><h1>{title}</h1>"
        f"<p>The same for programs: <code>/openapi.json</code>.</p><ul>{items}</ul></html>"
    )


def _item(route: APIRoute) -> str:
    access = access_of(route)
    role = access.role or "public"
    where = " of the platform" if access.platform else ""
    methods = " ".join(sorted(route.methods or ()))
    return (
        f"<li><code>{escape(methods)} {escape(route.path)}</code> "
        f"<small>{escape(role + where)}</small><br>{escape(route.description)}</li>"
    )
