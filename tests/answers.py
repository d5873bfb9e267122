"""Reads answers: those that functions return, and those in shadows."""


def status_and_code(answer: dict) -> tuple[str | None, str | None]:
    """Status of a request, and the code of its reason."""
    return answer.get("status"), answer.get("reason", {}).get("code")
