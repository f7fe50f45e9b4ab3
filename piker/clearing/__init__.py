"""
Order routing: from a client's request to the venue's word and back, never lost, never doubled.

Reading order: `_messages` (what travels), `_ids` (how an order is found again at a venue).
"""
