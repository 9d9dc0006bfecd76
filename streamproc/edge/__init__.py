"""The gateway: WebSocket connections, and what both edges share. The edges themselves plug in, and never meet."""
