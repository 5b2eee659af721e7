"""The app that Airflow's API server mounts: the pages, and the icon, which alone is open to everybody."""

from __future__ import annotations

from airflow.api_fastapi.app import get_auth_manager
from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from toposieve_airflow.profile import ProfileError
from toposieve_airflow.runs.credentials import CredentialsError
from toposieve_airflow.ui.deployment import StoreError
from toposieve_airflow.ui.pages import TEMPLATES, router

app = FastAPI(title="Toposieve", openapi_url=None)
app.include_router(router)


@app.get("/icon.svg")
def icon() -> Response:
    """The icon of tab and navigation."""
    return FileResponse(TEMPLATES / "icon.svg")


@app.get("/icon-dark.svg")
def icon_on_dark() -> Response:
    """The same on a dark ground."""
    return FileResponse(TEMPLATES / "icon-dark.svg")


@app.exception_handler(HTTPException)
async def without_session(request: Request, error: HTTPException) -> Response:
    """Send a browser to the login, from where it comes back; in a frame, say that the session has ended."""
    if error.status_code != 401 or "text/html" not in request.headers.get("accept", ""):
        return await http_exception_handler(request, error)
    if request.headers.get("sec-fetch-dest") == "document":
        return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)))
    return HTMLResponse("<p>Your session has ended: reload the page to log in.</p>", 401)


@app.exception_handler(ProfileError)
def without_profile(request: Request, error: ProfileError) -> Response:
    """Say what is wrong with the profile."""
    return PlainTextResponse(str(error), 500)


@app.exception_handler(StoreError)
@app.exception_handler(CredentialsError)
def out_of_reach(request: Request, error: Exception) -> Response:
    """Say why the store cannot be read from here."""
    return PlainTextResponse(str(error), 502)


@app.exception_handler(OSError)
def unreadable(request: Request, error: OSError) -> Response:
    """Say what cannot be read."""
    remedy = "let the user of Airflow's API server read it, or mend the mount"
    return PlainTextResponse(f"{error.filename}: {error.strerror}: {remedy}", 500)
