"""The door's HTTP/1.1 server, our own: bytes of clients in, requests and their answers out.

server      the listening socket, all connections, what happens when a worker stops
connection  one client: his requests in order and in time, an end for everything
line        his socket: who does not read, and whom we do not read
reader      bytes as whole requests, within limits of size
request     what a request's head may be; pure
turn        one request being served: the flow's downstream
wire        an answer's head as bytes; pure
gate        how much of everything a worker takes in at one time
watch       deadlines, one look for all of them
"""
