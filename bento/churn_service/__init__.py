"""What answers inside a bento; `service.py` beside it puts it together."""
