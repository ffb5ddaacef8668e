"""Who may open the pages of `ear ui`: whoever has the link that it printed.

MLflow's and Optuna's servers ask nobody who they are. Loopback is open to every user of the machine, and through the
browser to every page that its owner visits; and whoever reaches MLflow's API deletes runs, and writes files into any
folder of the one who started it (there an experiment's artifacts may lie). So every request is checked before they see
it:

- its Host is this machine's own name for itself, whatever the port, so that `ssh -L` works and DNS rebinding does not;
- a page of another origin did not send it, port included (a browser says so by Origin and Sec-Fetch-Site);
- it carries the token of this start, as Jupyter's do: in the link, then in a cookie, or as `Authorization: Bearer`.

gunicorn reads this module as its settings (`--config python:sweeps.ui.page_access`), for both servers.
"""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

TOKEN = "EAR_UI_TOKEN"  # of the environment, which other users can't read; unlike a command line
NAMES = ("127.0.0.1", "localhost")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

WRONG_HOST = (
    "ear ui answers to 127.0.0.1 and localhost only: open the link that it printed; from another machine, "
    "after `ssh -L PORT:127.0.0.1:PORT MACHINE`."
)
WRONG_ORIGIN = "Another site's page sent this request: open the link that ear ui printed in a tab of its own."
NO_TOKEN = "These pages are for the one who started ear ui: open the link that it printed, with its token."


class Guarded:
    """A WSGI application that only requests with the token reach, and none that another site's page sends."""

    def __init__(self, application: Application, token: str) -> None:
        if not token:
            raise ValueError("an empty token would let everybody in")
        self._application = application
        self._token = token

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
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
    """Why a request is not from one of these pages or from whoever opens them; None where it may be."""
    host = environ.get("HTTP_HOST", "")
    name, _, port = host.partition(":")
    if name not in NAMES or not (port.isdecimal() or host == name):
        return WRONG_HOST
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and origin != f"http://{host}":
        return WRONG_ORIGIN
    # Of a site are all ports of a name, so that a cookie goes to all of them.
    if environ.get("HTTP_SEC_FETCH_SITE", "none") in ("cross-site", "same-site"):
        opened = environ.get("HTTP_SEC_FETCH_MODE") == "navigate" and environ.get("HTTP_SEC_FETCH_DEST") == "document"
        if environ["REQUEST_METHOD"] not in SAFE_METHODS or not opened:  # a link that somebody follows is well
            return WRONG_ORIGIN
    return None


def given_in_link(environ: Mapping[str, Any]) -> str:
    return parse_qs(str(environ.get("QUERY_STRING", ""))).get("token", [""])[0]


def given_in_cookies(environ: Mapping[str, Any]) -> list[str]:
    """All of this name. Cut by hand: others' cookies come along, and http.cookies gives none if one is irregular."""
    cookies = (part.strip().partition("=") for part in environ.get("HTTP_COOKIE", "").split(";"))
    return [value for name, _, value in cookies if name == cookie_name(environ)]


def given_as_bearer(environ: Mapping[str, Any]) -> str:
    """As MLflow's client sends MLFLOW_TRACKING_TOKEN."""
    kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token if kind == "Bearer" else ""


def cookie_name(environ: Mapping[str, Any]) -> str:
    """Its own for each port that a browser sees: cookies are kept by host."""
    return f"ear-ui-{environ['HTTP_HOST'].partition(':')[2] or 80}"


def answer(
    start_response: StartResponse, status: str, text: str, headers: Iterable[tuple[str, str]] = ()
) -> list[bytes]:
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
    """gunicorn's hook, after it has loaded the application and before it serves it."""
    worker.wsgi = Guarded(worker.wsgi, os.environ[TOKEN])
