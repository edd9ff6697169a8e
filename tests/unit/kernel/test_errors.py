import pytest

from rempart.kernel import errors
from rempart.kernel.problem import problem


def test_an_error_shows_reason_code_and_remedy() -> None:
    error = errors.Unavailable("journal_unavailable", "the disk is full", "free some space")
    assert str(error) == "the disk is full [journal_unavailable]\n  → free some space"


@pytest.mark.parametrize(
    ("kind", "status", "exit_code"),
    [
        (errors.BadInput, 400, 2),
        (errors.Unauthenticated, 401, 1),
        (errors.Denied, 403, 1),
        (errors.NotFound, 404, 1),
        (errors.Conflict, 409, 1),
        (errors.Unprocessable, 422, 1),
        (errors.Unavailable, 503, 3),
        (errors.Integrity, 500, 1),
    ],
)
def test_each_class_has_one_status_and_one_exit_code(kind: type, status: int, exit_code: int) -> None:
    assert (kind.status, kind.exit_code) == (status, exit_code)


def test_problem_documents_have_the_members_of_rfc_9457() -> None:
    document = problem(403, "limit_exceeded", "over the limit", remedy="ask for a higher one", decision_id="dec_1")
    assert document == {
        "type": "urn:rempart:problem:limit_exceeded",
        "title": "Forbidden",
        "status": 403,
        "detail": "over the limit",
        "code": "limit_exceeded",
        "decision_id": "dec_1",
        "remedy": "ask for a higher one",
    }
