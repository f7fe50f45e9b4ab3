"""
Order routing: from a client's request to the venue's word and back, never lost, never doubled.

Reading order: `_messages` (what travels), `_ids` (how an order is found again at a venue),
`_dialog` (what is known of an order), `_book_events` (what can happen to it), `_book` (what that
does: the one transition table), `_dialogs` (all orders of a daemon).
"""
