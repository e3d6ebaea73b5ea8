"""Errors in the form of OpenAI's API, so that its clients raise the exceptions they always raise.

{"error": {"message": "...", "type": "...", "param": "temperature", "code": null}}
"""

from collections.abc import Mapping
from typing import Any

from text_job import DrainingError, QueueFullError
from utils.errors import CourseError, run_program
from utils.terminal import labelled

INVALID = "invalid_request_error"


class ApiError(CourseError):
    """What a client did wrong, or what the server cannot do now, with its HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON object of the response."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Status 400: the request is not one that the server understands."""
    return ApiError(400, message, param, code)


def api_error(error: Exception) -> ApiError:
    """The API's form of any error."""
    if isinstance(error, ApiError):
        return error
    if not isinstance(error, CourseError):
        return internal_error()
    if isinstance(error, QueueFullError):
        headers = {"Retry-After": str(error.retry_after)}
        return ApiError(429, str(error), None, "queue_full", "rate_limit_error", headers)
    if isinstance(error, DrainingError):
        headers = {"Retry-After": "10", "Connection": "close"}
        return ApiError(503, str(error), None, "shutting_down", "server_error", headers)
    return invalid(str(error))


def internal_error() -> ApiError:
    """Status 500. What went wrong is in the server's log, and not the client's business."""
    return ApiError(500, "the server failed; its log says why", kind="server_error")


def timed_out() -> ApiError:
    """Status 503: the time limit passed before the first token."""
    message = "the time limit passed while the request was waiting; try again later"
    return ApiError(503, message, None, "timeout", "server_error", {"Retry-After": "5"})


def main() -> None:
    """Print the errors of a wrong setting and of a full queue."""
    for error in (invalid("n must be at most 8, not 9", "n"), QueueFullError(64, 3)):
        shown = api_error(error)
        print(labelled(str(shown.status), f"{shown.body()} {shown.headers}", column=5))


if __name__ == "__main__":
    run_program(main)
