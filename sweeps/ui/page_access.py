"""Access control for the pages of `ear ui`: only requests with the token of the printed link get through.

MLflow's and Optuna's servers have no authentication. Loopback is open to every user of the machine and, through the
browser, to every web page that the user visits. Whoever reaches MLflow's API can delete runs, and can write files into
any folder of the user (by an experiment's artifact location). So every request is checked before the server sees it:

- its Host must be 127.0.0.1 or localhost, on any port, which allows `ssh -L` but prevents DNS rebinding;
- it must not come from a page of another origin, port included (browsers send Origin and Sec-Fetch-Site);
- it must carry the token, as in Jupyter: in the link, then in a cookie, or as `Authorization: Bearer`.

Both servers use this module as gunicorn's configuration (`--config python:sweeps.ui.page_access`).
"""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

TOKEN = "EAR_UI_TOKEN"  # environment variable, which other users can't read, unlike a command line
NAMES = ("127.0.0.1", "localhost")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

WRONG_HOST = (
    "ear ui answers only to 127.0.0.1 and localhost: open the printed link; from another machine, "
    "first run `ssh -L PORT:127.0.0.1:PORT MACHINE`."
)
WRONG_ORIGIN = "This request came from another site's page: open, in a new tab, the link that ear ui printed."
NO_TOKEN = "These pages are only for the user who started ear ui: open the printed link, which contains the token."


class Guarded:
    """Wraps a WSGI application: passes on only requests that carry the token and do not come from other sites."""

    def __init__(self, application: Application, token: str) -> None:
        if not token:
            raise ValueError("an empty token would let everybody in")
        self._application = application
        self._token = token

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serves a request, or refuses it."""
        if refusal := refuse_foreign(environ):
            return answer(start_response, "403 Forbidden", refusal)
        if environ["REQUEST_METHOD"] == "GET" and self._is_token(given_in_link(environ)):
            headers = [
                ("Location", "/"),  # the token leaves the address bar
                ("Set-Cookie", f"{cookie_name(environ)}={self._token}; Path=/; HttpOnly; SameSite=Lax"),
            ]
            return answer(start_response, "302 Found", "", headers)
        if not any(map(self._is_token, (*given_in_cookies(environ), given_as_bearer(environ)))):
            return answer(start_response, "403 Forbidden", NO_TOKEN)
        return self._application(environ, start_response)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())


def refuse_foreign(environ: Mapping[str, Any]) -> str | None:
    """Returns why a request is refused for its host or origin; None if it is acceptable."""
    host = environ.get("HTTP_HOST", "")
    name, _, port = host.partition(":")
    if name not in NAMES or not (port.isdecimal() or host == name):
        return WRONG_HOST
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin != f"http://{host}":
        return WRONG_ORIGIN
    # All ports of a host are the same site, so cookies go to all of them.
    if environ.get("HTTP_SEC_FETCH_SITE", "none") in ("cross-site", "same-site"):
        opened = environ.get("HTTP_SEC_FETCH_MODE") == "navigate" and environ.get("HTTP_SEC_FETCH_DEST") == "document"
        if environ["REQUEST_METHOD"] not in SAFE_METHODS or not opened:  # following a link is allowed
            return WRONG_ORIGIN
    return None


def given_in_link(environ: Mapping[str, Any]) -> str:
    """Returns the token in the query string; empty if there is none."""
    return parse_qs(str(environ.get("QUERY_STRING", ""))).get("token", [""])[0]


def given_in_cookies(environ: Mapping[str, Any]) -> list[str]:
    """Returns all tokens in cookies. Parsed by hand: http.cookies returns nothing if any site's cookie is malformed."""
    cookies = (part.strip().partition("=") for part in environ.get("HTTP_COOKIE", "").split(";"))
    return [value for name, _, value in cookies if name == cookie_name(environ)]


def given_as_bearer(environ: Mapping[str, Any]) -> str:
    """Returns the bearer token, as MLflow's client sends MLFLOW_TRACKING_TOKEN; empty if there is none."""
    kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token if kind == "Bearer" else ""


def cookie_name(environ: Mapping[str, Any]) -> str:
    """Returns a cookie name with the port in it, because browsers keep cookies by host."""
    return f"ear-ui-{environ['HTTP_HOST'].partition(':')[2] or 80}"


def answer(
    start_response: StartResponse, status: str, text: str, headers: Iterable[tuple[str, str]] = ()
) -> list[bytes]:
    """Sends a plain-text response."""
    body = f"{text}\n".encode() if text else b""
    start_response(
        status,
        [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            *headers,
        ],
    )
    return [body]


def post_worker_init(worker: Any) -> None:
    """Wraps the application; gunicorn's hook after loading and before serving it."""
    worker.wsgi = Guarded(worker.wsgi, os.environ[TOKEN])
