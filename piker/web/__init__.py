"""The HTTP and WebSocket edge shared by the page and the local venues."""
