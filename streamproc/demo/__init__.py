"""The main job: real sensor readings over WebSocket through the whole system and back, every one accounted for."""
