"""What is printed holds no password and no token, however the address that holds it is written."""

import importlib

import pytest

from ear.credentials import hidden, shown

command_line = importlib.import_module("ear.cli.main")  # of which ear.cli has the function of that name

# As it is given, as people see it, and what nobody must.
ADDRESSES = {
    "nothing to hide": ("http://host:5000/a@b", "http://host:5000/a@b", []),
    "a file": ("sqlite:////home/me@host/m.db", "sqlite:////home/me@host/m.db", []),
    "a password": ("http://me:geheim@host:5000", "http://me:***@host:5000", ["geheim"]),
    "a quoted one": ("https://me:p%40s%2Fs@host", "https://me:***@host", ["p%40s%2Fs", "p@s/s"]),
    "one with @": ("http://me:p@ssw@host/x", "http://me:***@host/x", ["p@ssw", "ssw@"]),
    "one with /": ("http://me:pa/ssw@host", "http://me:***@host", ["pa/ssw", "ssw"]),
    "one with ?": ("postgresql://me:pa?ssw@host/db", "postgresql://me:***@host/db", ["pa?ssw"]),
    "a token": ("http://t0ken-t0ken@host", "http://***@host", ["t0ken-t0ken"]),
    "a database's user": ("postgresql://me@host/db", "postgresql://me@host/db", []),
    "no scheme": ("me:geheim@host:5000", "me:***@host:5000", ["geheim"]),
    "a query": (
        "postgresql+psycopg2://host/db?password=geheim&sslkey=/k/e/y&sslmode=require",
        "postgresql+psycopg2://host/db?password=***&sslkey=***&sslmode=***",
        ["geheim", "/k/e/y"],
    ),
    "a quoted query": (
        "mssql://host/db?odbc_connect=PWD%3Dgeheim+x",
        "mssql://host/db?odbc_connect=***",
        ["PWD=geheim x"],
    ),
}


@pytest.mark.parametrize(("address", "people_see", "words"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_is_shown_without_what_lets_in(
    address: str, people_see: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(address) == people_see
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f" {address} ")
    text = hidden(f"can't reach {address}/api, nor ({address!r}): {', '.join(words)}")
    assert text.startswith(f"can't reach {people_see}/api")
    assert not [word for word in words if word in text]


def test_other_words_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://a:b@host/db?sslmode=require&x=1")
    assert hidden("1 tab is required, b was not said") == "1 tab is required, *** was not said"
    assert hidden("mysql://you:word@there/x?a=c") == "mysql://you:***@there/x?a=c"


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"])
def test_the_other_variables_of_mlflow(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "geheim")
    assert hidden("Authorization: Bearer geheim") == "Authorization: Bearer ***"


@pytest.mark.parametrize("debug", [False, True])
def test_the_command_line_hides_them(
    debug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@host")
    words = "no answer from http://me:geheim@host"
    command_line.show_warning(UserWarning(words), UserWarning)
    try:
        raise RuntimeError(words)
    except RuntimeError as error:
        with pytest.raises(SystemExit):
            command_line.fail(str(error), 1, debug)
    printed = capsys.readouterr().err
    assert printed.count("no answer from http://me:***@host") == 2 + debug
    assert "geheim" not in printed


def test_control_characters_are_printed_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.fail("no \x1b]0;title\x07 in a\u202eb", 2, debug=False)
    command_line.show_warning("\x1b[2J", UserWarning)
    assert capsys.readouterr().err == "error: no \\x1b]0;title\\x07 in a\\u202eb\nwarning: \\x1b[2J\n"
