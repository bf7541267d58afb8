"""The data plane: one request, six steps. It touches memory and Redis, never SQL, never a plugin.

request -> admit -> route -> upstream -> relay -> settle      the sentence is flow.py

the steps       request  admit  route  upstream  relay  settle, errors and answers around them
the client's    door (routes), served and fields (what each takes), serve/ (HTTP/1.1), kept/ (files
                and batches), models (lists)
callers         who/ (keys, tokens, records), bounds/ (what can refuse them)
money           costs/ (what a call may cost and has cost); Redis decides it: redis/, its scripts
                in redis/lua/ (redis/lua/shared/ what they have in common)
providers       reach/ (the wire), providers/ (a dialect each), dialects/ (the clients' ones, and
                what lies between), stream/ (answers in pieces), translate (which can take a call)
the machine     worker, machine/ (supervisor, journal, what the dead leave behind), metrics
the world       snapshot (what all share), settings
"""
