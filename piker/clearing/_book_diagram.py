"""
The page `docs/reference/order-states.md`, drawn from the transition table.

Write it again after a change of the table with
`python -m piker.clearing._book_diagram > docs/reference/order-states.md`.
"""

from __future__ import annotations

import sys
from itertools import groupby

from piker.clearing._book import TABLE
from piker.clearing._dialog import STATES, TERMINAL, State

_MEANING = {
    "new": "made, checked, not yet anywhere",
    "dark_open": "held by piker: a dark order or an alert waits for its trigger",
    "pending": "sent, or about to be; the venue has not opened it yet",
    "triggered": "its trigger was true; sent, and not yet open",
    "open": "rests at the venue",
    "partially_filled": "rests at the venue, some of it is filled",
    "amend_in_flight": "rests with its old values, new ones were asked for",
    "cancel_in_flight": "a cancel was asked for; the venue's word is awaited",
    "unknown": "no answer in time: left by proof only, never sent again on a guess",
    "closed": "fully filled; an alert that has told",
    "canceled": "canceled, expired, or never sent",
    "error": "its entry was refused",
}

_INTRO = """# The life of an order

Drawn from the transition table in `piker/clearing/_book.py`, which paper, live and backtest share:
do not edit this page, see `piker/clearing/_book_diagram.py`. An event that a state has no row for
is noted in the log and changes nothing.

A dialog has exactly one terminal status. A fill after it is booked and told with `late`. A refused
amend or cancel is a status with the unchanged `resp` and `revision`; `refused` says what was
refused and `reason` why.
"""


def order_states_page() -> str:
    """Return the whole page as Markdown."""
    return "\n".join([_INTRO, *_states(), "", *_diagram(), "", *_table(), ""])


def _name(event: type) -> str:
    """Return `CancelAsked` as `cancel asked`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in event.__name__).strip()


def _states() -> list[str]:
    rows = [f"| `{state}` | {_MEANING[state]} |" for state in STATES]
    return ["| state | meaning |", "|---|---|", *rows]


def _diagram() -> list[str]:
    """Return a Mermaid state diagram; an arrow carries every event that may take it."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, event), rule in TABLE.items():
        for to in rule.to:
            if to != state:
                arrows.setdefault((state, to), []).append(_name(event))
    order = {state: index for index, state in enumerate(STATES)}
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> new"]
    for (source, to), events in sorted(
        arrows.items(), key=lambda item: (order[item[0][0]], order[item[0][1]])
    ):
        lines.append(f"    {source} --> {to}: {', '.join(sorted(events))}")
    lines += [f"    {state} --> [*]" for state in TERMINAL]
    return ["## Diagram", "", *lines, "```"]


def _table() -> list[str]:
    """Return every row: state, event, and where it may lead; `–` means it stays."""
    order = {state: index for index, state in enumerate(STATES)}
    rows = sorted(TABLE.items(), key=lambda row: (order[row[0][0]], row[0][1].__name__))
    lines = ["## Every transition", "", "| state | event | may lead to |", "|---|---|---|"]
    for state, group in groupby(rows, key=lambda row: row[0][0]):
        for (_, event), rule in group:
            to = ", ".join("–" if target == state else f"`{target}`" for target in rule.to)
            lines.append(f"| `{state}` | {_name(event)} | {to} |")
    return lines


if __name__ == "__main__":
    sys.stdout.write(order_states_page())
