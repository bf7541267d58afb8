"""The way to providers: sockets, TLS, HTTP/1.1, pools of connections; where it may lead."""
