"""A closed console on Windows: the program is asked to end, and Windows waits until it has."""

from __future__ import annotations

from threading import Event, Thread

from config.console import CLOSED, LOGGED_OFF, SHUT_DOWN, Handler, closing_ends


class Windows:
    def __init__(self) -> None:
        self.handlers: list[Handler] = []

    def register(self, handler: Handler, add: bool) -> None:
        (self.handlers.append if add else self.handlers.remove)(handler)


def test_the_program_ends_in_good_order_before_windows_ends_it() -> None:
    for event in (CLOSED, LOGGED_OFF, SHUT_DOWN):
        windows, asked, order = Windows(), Event(), list[str]()
        with closing_ends(asked.set, windows.register):
            (handler,) = windows.handlers

            def close(handler: Handler = handler, event: int = event, order: list[str] = order) -> None:
                assert handler(event)
                order.append("Windows ends it")

            closing = Thread(target=close)
            closing.start()
            assert asked.wait(60)
            order.append("the last turn is kept")
        closing.join(60)
        assert order == ["the last turn is kept", "Windows ends it"]
        assert not windows.handlers


def test_ctrl_c_and_ctrl_break_are_left_to_python() -> None:
    windows, asked = Windows(), Event()
    with closing_ends(asked.set, windows.register):
        assert [handler(event) for handler in windows.handlers for event in (0, 1)] == [False, False]
    assert not asked.is_set()


def test_elsewhere_it_changes_nothing() -> None:
    with closing_ends(Event().set):
        pass
