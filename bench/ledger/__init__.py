"""Figures of the money path: ingest and catch-up of the ledger, Redis filled anew, the door without
Redis, bytes per event. `place` what runs, `events` what is to be booked, `ingest` and `outage` what
is measured. Measures; changes nothing of the product.
"""
