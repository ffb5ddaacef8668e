"""What is printed holds no password and no token, however the address that holds it is written."""

import importlib

import pytest

from ear.terminal.credentials import hidden, shown

command_line = importlib.import_module("ear.cli.main")  # of which ear.cli has the function of that name

# As it is given, as people see it, and what nobody must.
ADDRESSES = {
    "nothing to hide": ("http://host:5000/a@b", "http://host:5000/a@b", []),
    "a file": ("sqlite:////home/me@host/m.db", "sqlite:////home/me@host/m.db", []),
    "a password": ("http://me:geheimnis@host:5000", "http://me:***@host:5000", ["geheimnis"]),
    "a quoted one": ("https://me:p%40sswort%2Fs@host", "https://me:***@host", ["p%40sswort%2Fs", "p@sswort/s"]),
    "one with @": ("http://me:p@sswort12@host/x", "http://me:***@host/x", ["p@sswort12", "sswort12@"]),
    "one with /": ("http://me:passwort/ssw@host", "http://me:***@host", ["passwort/ssw", "'passwort'", "/ssw@"]),
    "one with ?": ("postgresql://me:passw?rt@host/db", "postgresql://me:***@host/db", ["passw?rt"]),
    "a token": ("http://t0ken-t0ken@host", "http://***@host", ["t0ken-t0ken"]),
    "a database's user": ("postgresql://me@host/db", "postgresql://me@host/db", []),
    "no scheme": ("me:geheimnis@host:5000", "me:***@host:5000", ["geheimnis"]),
    "a query": (
        "postgresql+psycopg2://host/db?password=geheimnis&sslkey=/k/e/y.pem&sslmode=require",
        "postgresql+psycopg2://host/db?password=***&sslkey=***&sslmode=***",
        ["geheimnis", "/k/e/y.pem"],
    ),
    "a quoted query": (
        "mssql://host/db?odbc_connect=SERVER%3Dh%3BPWD%3Dgeheim+nis%3B",
        "mssql://host/db?odbc_connect=***",
        ["PWD=geheim nis", "'geheim nis'"],
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


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://me:a@host", "a stage a day at a/b, a: b, a=1, me@a.example"),
        ("postgresql://me:1@host/db", "1 of 10 runs, line 1, x=1, 127.0.0.1:1, /1/2"),
        ("mysql://root:root@host/db", "name its root with --root, --root=root, runs/root, root"),
        ("http://mlflow@host", "mlflow's server, mlflow.tracking, /x/mlflow/y"),
        ("postgresql://host/db?application_name=mlflow_a&connect_timeout=10000000", "mlflow_a waits 10000000 s"),
        ("http://me:training@host", "trainings, retraining and untrainings"),
    ],
)
def test_other_words_stay_as_they_are(address: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert hidden(text) == text


@pytest.mark.parametrize(
    ("address", "text", "people_see"),
    [
        ("http://me:pw@host", "can't open http://me:pw@host/api", "can't open http://me:***@host/api"),
        ("http://me:p@w@host", "no host 'w@host', nor '/w@host'", "no host 'w@host', nor '/***@host'"),
        ("http://mlflow@host", "GET http://mlflow@host/api", "GET http://***@host/api"),
        ("http://a:b@host", "{'Authorization': 'Basic YTpi'}", "{'Authorization': 'Basic ***'}"),
        ("mysql://host/x?password=1", "dbname=1 password=1 x=1", "dbname=1 password=*** x=1"),
        ("http://me:geheimnis@host", r"me%3Ageheimnis%40host \ngeheimnis", r"me%3A***%40host \n***"),
        ("http://host", "mysql://you:w@rd@there/x?a=c", "mysql://you:***@there/x?a=c"),
        ("http://host", "--http://you:word@there", "--http://you:***@there"),
    ],
)
def test_short_ones_are_hidden_where_they_let_in(
    address: str, text: str, people_see: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert hidden(text) == people_see


@pytest.mark.parametrize("part", ["a", "a:", "a://", "://a:", "://a:b@", "pass", "%3A"])
def test_a_long_text_takes_no_longer_than_its_length(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@host")
    text = part * (10**6 // len(part))  # squared, it would take hours
    assert hidden(text) == text.replace(":b@", ":***@")


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"])
@pytest.mark.parametrize("word", ["geheim", "geheimnis"])
def test_the_other_variables_of_mlflow(variable: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, word)
    assert hidden(f"Authorization: Bearer {word}") == "Authorization: Bearer ***"


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
