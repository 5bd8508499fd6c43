"""What reaches a terminal, and what reaches a pipe."""

import pytest

from service.console import printable, progress, say, warn


@pytest.mark.parametrize(("text", "shown"), [
    ("dog.jpg", "dog.jpg"), ("Hündin 狗", "Hündin 狗"), ("a\nb", "a\nb"), ("\x1b[31mred", r"\x1b[31mred"),
    ("a\rb\tc", r"a\rb\tc"), ("\udcff.jpg", r"\udcff.jpg"), ("[bold]x[/]", "[bold]x[/]"),
])
def test_nothing_in_a_text_steers_the_terminal(capsys, text, shown):
    assert printable(text) == shown
    say(text, "bold red")
    assert capsys.readouterr().out == shown + "\n"


def test_long_lines_stay_lines_in_a_pipe(capsys):
    say("/a/long/path " * 40)
    assert capsys.readouterr().out.count("\n") == 1


def test_warnings_go_to_standard_error(capsys):
    warn(["first", "second"])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: first\nwarning: second\n")


def test_progress_is_silent_in_a_pipe(capsys):
    with progress("working") as update:
        update(1, 2)
    assert capsys.readouterr() == ("", "")


def test_progress_shows_rate_and_counts_on_a_terminal(capsys, monkeypatch):
    import sys

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("working") as update:
        update(30, 40)
    shown = capsys.readouterr().err
    assert "30/40" in shown
    assert "images/s" in shown


def test_progress_of_an_unknown_number_of_other_things(capsys, monkeypatch):
    import sys

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("parsing", "texts") as update:
        update(30, None)
    assert "30/?" in (shown := capsys.readouterr().err) and "texts/s" in shown
    with progress("parsing", "texts", hidden=True) as update:
        update(30, None)
    assert capsys.readouterr().err == ""
