"""Hides passwords and tokens of servers and databases in printed text.

Errors and warnings of libraries quote addresses from the environment; only SQLAlchemy hides the passwords in them.
"""

import base64
import os
import re
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_BACKEND_STORE_URI")  # environment variables
SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD", "DATABRICKS_TOKEN", "AWS_SECRET_ACCESS_KEY")
SHORT = 8  # characters: a shorter secret may be an ordinary word, so it is hidden only where credentials are expected
SECRET_NAME = "(?:pass|pwd|token|secret|key|credential)"  # in the name of a query parameter
NAMED_SECRET = re.compile(rf"{SECRET_NAME}\w*\s*=\s*([^;]+)", re.IGNORECASE)  # in a value that is itself a query
BEFORE_WORD = r"(?:(?<!\w)|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"  # `%3A` and `\n` are not part of the word
WITH_PASSWORD = re.compile(r"(://[^\s/?#:@]*):[^\s/?#]*@")  # in any address


def hidden(text: str) -> str:
    """Replace the secrets in a text by ***."""
    for name in ADDRESSES:
        if address := os.environ.get(name, "").strip():
            text = text.replace(address, shown(address))
    for secret in sorted(secrets(), key=len, reverse=True):
        found = re.escape(secret)
        if len(secret) >= SHORT:
            text = re.sub(rf"{BEFORE_WORD}{found}(?!\w)", HIDDEN, text)
        else:
            text = re.sub(rf"(?<=[:/@?#]){found}(?=@)", HIDDEN, text)
            text = re.sub(rf"(?i:(\bBearer |\bBasic |{SECRET_NAME}\w{{0,30}}=)){found}(?!\w)", rf"\1{HIDDEN}", text)
    return WITH_PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def shown(address: str) -> str:
    """Format the address of a server or database for printing, without password, token and query values.

    A name without a password is taken for a token in a web server's address, and for a user name in a database's.
    """
    before, given, rest = _parts(address)
    if given is not None:
        name, colon, _ = given.partition(":")
        given = f"{name}:{HIDDEN}" if colon else name if not _is_web(before) else HIDDEN
        rest = f"@{rest}"
    place, question, query = rest.partition("?")
    return f"{before}{given or ''}{place}{question}{re.sub('=[^&#]*', f'={HIDDEN}', query)}"


def secrets() -> set[str]:
    """The secrets in this environment, as they are and as they are encoded in addresses and headers."""
    found = {os.environ.get(name, "").strip() for name in SECRETS}
    for address in (os.environ.get(name, "").strip() for name in ADDRESSES):
        before, given, rest = _parts(address)
        if given is not None:
            name, colon, password = given.partition(":")
            found.add(base64.b64encode(unquote(f"{name}:{password}").encode()).decode())  # of a header
            password = password if colon else name if _is_web(before) else ""
            found |= {password, *re.split("[@/?#]", password)}  # as other parsers split it
        for name, value in parse_qsl(rest.partition("?")[2]):
            found |= {value} if re.search(SECRET_NAME, name, re.IGNORECASE) else set(NAMED_SECRET.findall(value))
    forms = (str, unquote, unquote_plus, quote, quote_plus, lambda word: quote(word, safe=""))
    return {form(word) for word in found if word for form in forms} - {""}


def _is_web(before: str) -> bool:
    return before in ("", "http://", "https://")


def _parts(address: str) -> tuple[str, str | None, str]:
    """Split an address into scheme with `://`, credentials (None if there are none) and the rest.

    Passwords may contain unquoted `@`, `/` and `?`, against the standard, so credentials end at the last `@`. An `@`
    that may be part of the path counts as part of the credentials.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    if rest.startswith("/") or "@" not in rest:  # a file
        return scheme + separator, None, rest
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    _, colon, port = place.partition(":")
    if "@" not in place and not (colon and not port.isdecimal()):  # an `@` in the path, without credentials
        return scheme + separator, None, rest
    given, _, rest = rest.rpartition("@")
    return scheme + separator, given, rest
