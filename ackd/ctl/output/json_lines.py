"""JSON, one object a line."""


def json_line(**members: object) -> str:
    """Return an object with these members as a line, without its end."""
    import json  # for a script that sends one line, the start is what takes time

    return json.dumps(members)
