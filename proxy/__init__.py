"""The data plane: one request, six steps. It touches memory and Redis, never SQL, never a plugin.

request -> admit -> route -> upstream -> relay -> settle      the sentence is flow.py

the steps       request  admit  route  upstream  relay  settle, errors and answers around them
beside them     keep (holds of what runs), journal (what has to be settled)
the client's    door (routes), serve/ (HTTP/1.1), worker, supervisor and fleet (a machine)
Redis           pipe (connections), shards (what a script means), packed (a call of one in bytes),
                scripts and lua/ (the scripts; lua/shared/ what they have in common)
providers       http1, pool, connection, incoming, parser, dial, egress (the wire);
                providers/ (questions), kept/ (files and batches)
usage           counting (of what nobody told; counter is its process), texts, vocabularies
callers         callers (keys, tokens as records), tokens (genuine?), shown (whose?), rules, tries
the world       snapshot (what all share), keyfile and keys (secrets), pricing, settings, metrics
"""
